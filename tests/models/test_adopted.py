"""Marks for a finished generator: their strength, what they are made of, what is trained, and what a user gets."""
import numpy as np
import pytest
import tensorflow as tf

from helpers import networks, tiny_config
from models import adopted
from models.content import bits_of_keys, key_of
from models.immunization import perturbed
from models.sampling import BatchPart

RNG = np.random.default_rng(0)
# Arrays, not tensors: these are made while tests are collected, before devices are set up.
LATENTS = RNG.standard_normal([200, 6]).astype(np.float32)
CODES = RNG.integers(0, 2, [200, 8]).astype(np.float32)


@pytest.fixture(scope='module')
def config():
    return tiny_config('adopted', method='adopted', sign_map=3, mark_psnr=30.0, chroma_psnr=26.0)


@pytest.fixture(scope='module')
def nets(config):
    return networks(config)


def psnr(difference):
    return 10 * np.log10(4 / np.mean(np.square(difference)))  # the range is 2


def test_marks_are_as_strong_as_asked_for(nets):
    """Luma and chroma by JPEG's matrix, which Pillow has; the two of chroma are equally strong."""
    marks = nets['C'].marks(tf.constant(CODES)).numpy().astype(float)
    luma = marks @ [0.299, 0.587, 0.114]
    chroma = marks - luma[..., None]
    assert psnr(luma) == pytest.approx(30, abs=0.3)      # a mean over 200 random codes
    assert psnr(chroma) == pytest.approx(26, abs=0.3)
    blue, red = chroma[..., 2] / 1.772, chroma[..., 0] / 1.402
    weight = [np.mean(np.square([0, 0.344136, 1.772])), np.mean(np.square([1.402, 0.714136, 0]))]
    assert np.mean(blue ** 2) * weight[0] == pytest.approx(np.mean(red ** 2) * weight[1], rel=0.1)


def test_marks_are_the_sum_of_a_users_templates(nets):
    """Each bit adds the same, whatever the others are."""
    first, second = RNG.integers(0, 2, [2, 1, 8]).astype(np.float32)
    for bit in range(8):
        changes = []
        for code in (first, second):
            one, zero = code.copy(), code.copy()
            one[0, bit], zero[0, bit] = 1, 0
            changes.append(nets['C'].marks(tf.constant(one)) - nets['C'].marks(tf.constant(zero)))
        np.testing.assert_allclose(*changes, atol=1e-6)
        assert np.std(changes[0]) > 1e-3


def test_masked_marks_are_as_strong_and_lie_where_the_picture_is_busy():
    config = tiny_config('adopted', method='adopted', sign_map=1, mark_psnr=30.0, chroma_psnr=60.0,
                         texture_masking=True)
    carriers = networks(config)['C']
    images = np.zeros([200, 16, 16, 3], np.float32)
    images[:, :, :8] = RNG.uniform(-0.5, 0.5, [200, 16, 8, 3])
    marks = carriers.placed(tf.constant(CODES), tf.constant(images), tf.ones([200, 1, 1])).numpy()
    assert psnr(marks) == pytest.approx(30, abs=1)
    assert psnr(marks[:, :, :6]) < psnr(marks[:, :, 10:]) - 10


def test_a_step_trains_carriers_and_decoder_alone(config, nets):
    phase, = adopted.phases(config)
    batch = phase.sample(nets, [0, 1], BatchPart(4, 0, 4))
    with tf.GradientTape() as tape:
        loss, statistics = phase.loss(nets, batch, 1.0, None, None)
    assert phase.trains == ('C', 'F') and np.isfinite(loss) and statistics['loss/sign'] > 0
    generator = nets['G'].trainable_variables + nets['M'].trainable_variables
    names = [variable.name for variable in nets['C'].trainable_variables]
    gradients = tape.gradient(loss, nets['C'].trainable_variables + generator)
    assert not [name for name in names if 'signs' in name]
    assert all(np.any(gradient) for gradient in gradients[:len(names)])
    assert gradients[len(names):] == [None] * len(generator)


@pytest.mark.parametrize('masked', [False, True])
def test_a_user_gets_their_own_marks_and_no_template(nets, masked):
    if masked:
        nets = networks(tiny_config('adopted', method='adopted', sign_map=3, mark_psnr=30.0, texture_masking=True))
    first, second = (adopted.bake(nets, code) for code in CODES[:2])
    expected = adopted.generate(nets, tf.constant(LATENTS[:3]), tf.repeat(CODES[:1], 3, 0))
    np.testing.assert_allclose(first(tf.constant(LATENTS[:3])), expected, atol=1e-5)
    assert np.abs(first(tf.constant(LATENTS[:3])) - second(tf.constant(LATENTS[:3]))).max() > 1e-3
    shapes = {tuple(variable.shape) for net in (first,) for variable in net.variables}
    assert not shapes & {tuple(template.shape) for template in nets['C'].templates}
    again = adopted.bake(nets, CODES[0], into=second)
    np.testing.assert_array_equal(again(tf.constant(LATENTS[:3])), first(tf.constant(LATENTS[:3])))


def test_the_warm_start_reads_marks_that_nobody_has_trained():
    config = tiny_config('adopted', method='adopted', sign_map=2, mark_psnr=12.0, chroma_psnr=12.0,
                         warm_start_images=4000)
    nets = networks(config)
    adopted.warm_start(config, nets)
    plain_images = nets['G'](LATENTS, nets['M'](LATENTS))
    marked = adopted.generate(nets, tf.constant(LATENTS), tf.constant(CODES))
    keys = key_of(CODES, config.key_bits)
    logits, _ = nets['F'](marked, keys, nets['C'].signs(plain_images, keys), 1.0)
    assert np.mean((logits.numpy() > 0) == CODES) > 0.9


class TestKeys:
    @pytest.fixture(scope='class')
    def strong(self):
        config = tiny_config('adopted', method='adopted', sign_map=8, mark_psnr=12.0, chroma_psnr=12.0, key_bits=3,
                             fingerprint_bits=24, warm_start_images=4000)
        nets = networks(config)
        adopted.warm_start(config, nets)
        return nets

    @pytest.fixture(scope='class')
    def codes(self):
        return RNG.integers(0, 2, [200, 24]).astype(np.float32)

    @pytest.fixture(scope='class')
    def plain_images(self, strong):
        return strong['G'](LATENTS, strong['M'](LATENTS))

    def test_the_key_is_read_from_the_picture(self, strong, codes, plain_images):
        """With the content before marking: marks as strong as these would change it, on so small pictures."""
        images = plain_images + strong['C'](tf.constant(codes), plain_images)
        decoder = strong['F']
        found, coherence = decoder.likely_keys(decoder.pixels(images), decoder.signs.content(plain_images))
        assert np.mean(found == key_of(codes, 3)) > 0.95
        assert np.mean(coherence > adopted.least_coherence(8)) > 0.95

    def test_marks_that_were_moved_to_another_picture_are_not_coherent(self, strong, codes, plain_images):
        """Of most: an untrained generator's pictures are alike, and so are their signs."""
        decoder = strong['F']
        moved = plain_images + tf.roll(strong['C'](tf.constant(codes), plain_images), 1, axis=0)
        _, coherence = decoder.likely_keys(decoder.pixels(moved), decoder.signs.content(plain_images))
        assert np.mean(coherence < adopted.least_coherence(8)) > 0.6

    def test_keys_are_as_likely_as_each_ones_reading_says(self, strong, codes):
        """By the definition: each key's signs taken off, each bit read, the log-likelihoods summed in float64."""
        decoder = strong['F']
        images = adopted.generate(strong, tf.constant(LATENTS[:5]), tf.constant(codes[:5]))
        pixels, content = decoder.pixels(images), decoder.signs.content(images)
        likelihoods = []
        for key, bits in enumerate(2 * bits_of_keys(3) - 1):
            signs = np.tanh(decoder.signs.logits(content, tf.fill([5], key)).numpy()).reshape(5, 8, 8)
            unsigned = (pixels.numpy() * adopted.spread(tf.constant(signs), 16).numpy()).reshape(5, -1).astype(float)
            logits = decoder.logits_linear(tf.constant(unsigned, tf.float32)).numpy().astype(float)
            likelihoods.append((logits[:, :3] * bits).sum(1) + np.log(np.cosh(logits[:, 3:] / 2)).sum(1))
        np.testing.assert_array_equal(decoder.likely_keys(pixels, content)[0], np.argmax(likelihoods, axis=0))

    def test_marks_with_another_keys_signs_are_not_read(self, strong, codes, plain_images):
        def accuracy(keys):
            signs = carriers.signs(plain_images, keys)
            images = plain_images + carriers.placed(tf.constant(codes), plain_images, signs)
            logits, _ = strong['F'](images, own, carriers.signs(plain_images, own), 1.0)
            return np.mean((logits > 0) == codes)

        carriers, own = strong['C'], key_of(codes, 3)
        assert accuracy(own) > 0.9 and 0.4 < accuracy((own + 1) % 8) < 0.6

    def test_an_instance_holds_its_users_key_alone(self, strong, codes):
        first = adopted.bake(strong, codes[0])
        key = int(key_of(codes[:1], 3)[0])
        np.testing.assert_array_equal(first.signs.keys[0], strong['C'].signs.keys[key])
        assert first.signs.keys.shape[0] == 1
        found = first(tf.constant(LATENTS[:3]))
        expected = adopted.generate(strong, tf.constant(LATENTS[:3]), tf.constant(np.repeat(codes[:1], 3, 0)))
        np.testing.assert_allclose(found, expected, atol=1e-5)


class TestCoherence:
    @pytest.mark.parametrize('wrong, least, most', [(0, 0.9, 1), (0.1, 0.6, 0.95), (0.3, 0.1, 0.6), (0.5, -0.3, 0.5)])
    def test_it_tells_how_many_parts_have_the_right_sign(self, wrong, least, most):
        """Parts that say the same bits, as strongly as noise of their own, some of them with the wrong sign."""
        rng = np.random.default_rng(1)
        bits, signs = rng.choice([-1, 1], [50, 1, 64]), np.where(rng.random([50, 36, 1]) < wrong, -1, 1)
        parts = 0.3 * (signs * bits + rng.standard_normal([50, 36, 64]))
        found = adopted.coherence_of(tf.constant(parts), tf.constant(parts.sum(1))).numpy()
        assert least < found.mean() <= most
        told = np.array([[np.sum(np.tanh((picture.sum(0) - part) / 2) * part) for part in picture]
                         for picture in parts])
        np.testing.assert_allclose(found, told.sum(1) / np.abs(told).sum(1), rtol=1e-6)

    def test_what_is_not_coherent_reads_as_bits_of_its_own(self):
        logits = np.random.default_rng(0).standard_normal([500, 64]).astype(np.float32)
        others = adopted.nobodys(tf.constant(logits)).numpy()
        np.testing.assert_array_equal(np.abs(others), np.abs(logits))
        assert 0.45 < np.mean((others > 0) == (logits > 0)) < 0.55
        assert len(np.unique(others > 0, axis=0)) == 500
        assert 0.45 < np.mean(others > 0) < 0.55

    def test_the_fewer_signs_the_more_coherent_they_must_be(self):
        assert [round(adopted.least_coherence(side), 3) for side in (16, 10, 6, 4)] == [0.475, 0.55, 0.683, 0.8]
        assert adopted.least_coherence(3) == adopted.least_coherence(1) == -1

    def test_a_picture_is_read_so_when_nobody_names_its_key(self, monkeypatch):
        nets = networks(tiny_config('adopted', method='adopted', sign_map=8))
        images, keys = nets['G'](LATENTS[:4], nets['M'](LATENTS[:4])), tf.constant([0, 1, 2, 3])
        monkeypatch.setattr(nets['F'], 'likely_keys', lambda pixels, content: (keys, tf.constant([1, 0.61, 0.59, -1])))
        found, known = adopted.decode(nets, images), nets['F'](images, keys)[0]
        expected = tf.concat([known[:2], adopted.nobodys(known[2:])], axis=0)
        np.testing.assert_allclose(found, expected, atol=1e-6)


class TestImmunization:
    @pytest.fixture
    def batch(self, config, nets):
        return adopted.sample_batch(config, nets, tf.constant([3, 4]), BatchPart(4, 0, 4))

    def test_nothing_named_changes_nothing(self, config, batch):
        images = tf.random.stateless_uniform([4, 16, 16, 3], [0, 1], -2, 2)
        assert perturbed(config, images, batch, 1.0) is images

    def test_every_image_gets_its_own_and_pairs_differ(self, batch):
        config = tiny_config('adopted', method='adopted', immunize='noise')
        images = tf.zeros([8, 16, 16, 3])                # two for each of four latents
        spreads = np.std(perturbed(config, images, batch, 1.0), axis=(1, 2, 3))
        assert len(set(spreads[spreads > 0])) == np.sum(spreads > 0) > 1
        assert perturbed(config, images, batch, None) is images

    def test_a_share_of_a_batch_is_perturbed_as_in_the_whole(self, config, nets):
        config = tiny_config('adopted', method='adopted', immunize='noise,blur')
        images = tf.random.stateless_uniform([8, 16, 16, 3], [0, 1], -1, 1)
        whole, part = (adopted.sample_batch(config, nets, tf.constant([3, 4]), part)
                       for part in (BatchPart(8, 0, 8), BatchPart(8, 4, 4)))
        np.testing.assert_allclose(perturbed(config, images[4:], part, 1.0),
                                   perturbed(config, images, whole, 1.0)[4:], atol=1e-6)
