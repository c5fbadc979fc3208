"""The search for latents, on a generator so simple that least squares has the answer."""
import types

import numpy as np
import pytest
import tensorflow as tf

from dnnlib.images import to_float, to_uint8
from release.evidence import resynthesis
from release.evidence.resynthesis import Adam, Resynthesizer, psnr_of

SIDE, LATENTS, BITS = 8, 6, 12


@pytest.fixture(scope='module')
def linear():
    """(snapshot, A [LATENTS, pixels], B [BITS, pixels]): images are z A + (2 c - 1) B."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(0, 0.12, [LATENTS, 3 * SIDE ** 2]).astype(np.float32)
    marks = rng.normal(0, 0.01, [BITS, 3 * SIDE ** 2]).astype(np.float32)

    def generate(nets, latents, codes):
        return tf.reshape(tf.matmul(latents, drawn) + tf.matmul(2 * codes - 1, marks), [-1, SIDE, SIDE, 3])

    def guess(nets, image, noise):
        return noise
    method = types.SimpleNamespace(generate=generate, guess_latents=guess)
    config = types.SimpleNamespace(latent_dim=LATENTS)
    return types.SimpleNamespace(method=method, nets=None, config=config, resolution=SIDE), drawn, marks


@pytest.fixture(scope='module')
def codes():
    return np.random.default_rng(1).integers(0, 2, [3, BITS]).astype(np.float32)


@pytest.fixture(scope='module')
def results(linear, codes):
    """A picture of the first user's and one of nobody's, as (uint8 image, its Redrawn)."""
    rng = np.random.default_rng(2)
    latents = rng.standard_normal([1, LATENTS]).astype(np.float32)
    own = to_uint8(linear[0].method.generate(None, latents, codes[:1]).numpy())[0]
    other = rng.integers(0, 256, [SIDE, SIDE, 3]).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:  # so long that it comes as near as it gets
        patch.setattr(resynthesis, 'ROUNDS', ((4, 50), (2, 50), (1, 100)))
        patch.setattr(resynthesis, 'USER_STEPS', 100)
        return list(zip((own, other), Resynthesizer(linear[0], codes)([own, other])))


def test_it_finds_what_least_squares_finds(linear, codes, results):
    _, drawn, marks = linear
    for image, redrawn in results:
        rest = to_float(image).reshape(-1) - (2 * codes - 1) @ marks                # [U, pixels]
        best = np.linalg.lstsq(drawn.T, rest.T, rcond=None)[0].T                     # [U, LATENTS]
        assert redrawn.latents == pytest.approx(best, abs=0.02)
        expected = to_uint8((best @ drawn + (2 * codes - 1) @ marks).reshape(-1, SIDE, SIDE, 3))
        assert redrawn.psnr == pytest.approx(psnr_of(expected, image), abs=0.2)


def test_the_user_who_drew_it_is_nearest_and_a_picture_of_nobodys_is_far(results):
    (_, own), (_, other) = results
    assert own.psnr.argmax() == 0 and own.psnr[0] > 45
    assert other.psnr.max() < 20


def test_pictures_and_numbers_belong_together(linear, codes, results):
    for image, redrawn in results:
        drawn = to_uint8(linear[0].method.generate(None, redrawn.latents, codes).numpy())
        assert (drawn == redrawn.pictures).all()
        assert redrawn.psnr == pytest.approx(psnr_of(drawn, image))


def test_steps_are_those_of_keras_adam():
    """With a rate that falls along the cosine by Keras's own schedule; rows that go on keep their own moments."""
    rng = np.random.default_rng(3)
    start, pull = rng.standard_normal([5, 4]).astype(np.float32), rng.standard_normal([5, 4]).astype(np.float32)
    variable = tf.Variable(start)
    schedule = tf.keras.optimizers.schedules.CosineDecay(0.1, 12)
    keras = tf.keras.optimizers.Adam(schedule, beta_1=0.9, beta_2=0.99, epsilon=1e-8)
    ours, kept = Adam(start, 0.1, 12), slice(None)
    for step in range(12):
        keras.apply_gradients([(2 * (variable - pull), variable)])
        ours.step(2 * (ours.values - pull[kept]))
        if step == 5:
            kept = np.array([3, 1])
            ours.keep(kept)
    assert ours.values == pytest.approx(variable.numpy()[kept], abs=1e-4)


def test_only_the_best_go_on(linear, codes, monkeypatch):
    """Of a search of no more than starts, the nearest of all guesses is found: as by trying every one."""
    monkeypatch.setattr(resynthesis, 'ROUNDS', ((4, 1), (2, 1), (1, 1)))
    monkeypatch.setattr(resynthesis, 'RATE', 0.0)
    monkeypatch.setattr(resynthesis, 'USER_RATE', 0.0)
    images = np.random.default_rng(4).integers(0, 256, [3, SIDE, SIDE, 3]).astype(np.uint8)
    found = Resynthesizer(linear[0], codes, seed=9)(images)
    rng = np.random.default_rng(9)
    common = rng.standard_normal([512, LATENTS], np.float32)
    for image, redrawn in zip(images, found):
        guesses = np.concatenate([common, rng.standard_normal([64, LATENTS], np.float32)])
        drawn = guesses @ linear[1]                                              # a code of halves adds nothing
        nearest = guesses[np.square(drawn - to_float(image).reshape(-1)).mean(1).argmin()]
        assert (redrawn.latents == nearest).all()


def test_psnr():
    image = np.full([4, 4, 3], 100, np.uint8)
    near = image.copy()
    near[0, 0, 0] += 10
    found = psnr_of(np.stack([near, image]), image)
    assert found == pytest.approx([10 * np.log10(255 ** 2 / (100 / 48)), 10 * np.log10(255 ** 2 / 0.25)])
