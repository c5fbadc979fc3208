"""The share of users' edited pictures that are named right, with a model that writes a bit into each column."""
import types

import numpy as np
import pytest
from PIL import Image

from dnnlib.images import to_float
from dnnlib.util import UsageError
from experiments import edited_pictures
from experiments.edited_pictures import EDITS, RATES, grouped, named, table
from fingerprints.codes import packed
from fingerprints.matching import PackedCodes, attribute

BITS = 64


@pytest.fixture
def model():
    """Columns are bright or dark by the bits of the code; the decoder takes the mean of each, but for its ends."""
    def generate(latents, fingerprints):
        columns = 0.5 * (2 * fingerprints - 1)[:, np.newaxis, :, np.newaxis]
        return np.clip(columns + 0.05 * latents[:, :1, np.newaxis, np.newaxis], -1, 1) * np.ones([1, BITS, 1, 3])
    return types.SimpleNamespace(generate=generate, decode=lambda images: images[:, 4:-4].mean(axis=(1, 3)),
                                 latent_dim=2, fingerprint_bits=BITS, resolution=BITS)


def test_edits_change_what_they_say():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, [64, 64, 3]).astype(np.uint8))
    sizes = {name: edit(image).size for name, edit in EDITS.items()}
    assert sizes['scaled by 0.75'] == (48, 48) and sizes['scaled by 8'] == (512, 512)
    assert sizes['cropped to 80%'] == (52, 52) and sizes['boxed'] == (64, 96)
    assert EDITS['as they are'](image).tobytes() == image.tobytes() != EDITS['JPEG 75'](image).tobytes()


def test_what_such_a_model_shows_is_named_but_for_crops(model):
    rows = {row.split(' | ')[0][2:]: row.split(' | ')[1:] for row in list(table(model, 3, 16, 50, 0))[3:]}
    assert set(rows) == set(EDITS)
    for name in ('as they are', 'scaled by 2', 'scaled by 8', 'boxed', 'JPEG 75', 'JPEG 90, then 75'):
        assert rows[name] == ['1.000', *['100.0 / 100.0'] * 6, '0 |'], name
    assert float(rows['cropped to 80%'][0]) < 0.9 and rows['cropped to 80%'][-1] == '0 |'


def test_few_users_crops_are_searched_for(model, monkeypatch):
    """What is searched is the crop, scaled to the model's size; what is found counts."""
    seen = []

    def find_placement(whole, decode):
        seen.append(whole)
        return None, decode(to_float(whole)[np.newaxis])[0]
    monkeypatch.setattr(edited_pictures, 'find_placement', find_placement)
    images = edited_pictures.draw_pictures(model, np.eye(2, BITS, dtype=np.uint8), 3, 0)
    found = edited_pictures.searched(model, images, EDITS['cropped to 80%'])
    crop = Image.fromarray(images[1, 2]).crop((6, 6, 58, 58)).resize((BITS, BITS), Image.Resampling.LANCZOS)
    assert len(seen) == 6 and (seen[5] == np.asarray(crop)).all()
    assert (found[1, 2] == model.decode(to_float(seen[5])[np.newaxis])[0]).all()
    assert list(table(model, 2, 16, 20, 0, 1))[-1].startswith('| cropped to 80%, searched for: 16 pictures | ')


def test_shares_and_mistakes_are_counted():
    codes = np.random.default_rng(0).integers(0, 2, [4, BITS], np.uint8)
    registry = PackedCodes(packed(codes), BITS)
    rows = 2.0 * codes[[0, 0, 1, 2]] - 1
    rows[1] = np.tile([1.0, -1.0], BITS // 2)
    assert named(rows, np.array([0, 1]), registry, False) == [(0.5, 1)] * 2  # 0, nobody; 1, and 2 instead of 1


@pytest.mark.parametrize('soft', [False, True])
def test_both_rates_are_as_attribute_has_them(soft):
    """Users in pairs that differ in few bits: nobody, one, and several at one rate but one at the other."""
    rng = np.random.default_rng(1)
    codes = np.repeat(rng.integers(0, 2, [20, BITS], np.uint8), 2, 0)
    codes[1::2, :6] ^= 1
    users = rng.integers(0, 40, 300)
    rows = (2.0 * codes[users] - 1) * rng.uniform(0.5, 1, [300, BITS])
    rows *= np.where(rng.random([300, BITS]) < rng.uniform(0, 0.3, [300, 1]), -1, 1)
    registry = PackedCodes(packed(codes), BITS)
    found = named(rows, users, registry, soft)
    for rate, (right, wrong) in zip(RATES, found):
        said = [one.user for one in attribute(rows, range(40), registry, rate, soft=soft)]
        assert right == np.mean([user == expected for user, expected in zip(said, users)]) > 0.1
        assert wrong == sum(user not in (None, expected) for user, expected in zip(said, users))
    assert found[0] != found[1]


def test_groups_are_of_one_user_each():
    logits = np.arange(2 * 5 * 8).reshape(2, 5, 8) - 40.5
    assert (grouped(logits, 1) == logits.reshape(10, 8)).all()
    together = grouped(logits, 2)
    assert together.shape == (4, 8) and (together[:2] < 0).all() and (together[2:] >= 0).all()


def test_a_run_is_measured(run_dir, capsys):
    words = [f'--run={run_dir}', '--users=2', '--pictures=16', '--registered=3']
    edited_pictures.main(edited_pictures.make_parser().parse_args(words))
    assert capsys.readouterr().out.startswith('32 pictures of 2 of 3 users; ')
    for wrong in ('--users=4', '--pictures=15', '--seed=-1', '--searched=3'):
        with pytest.raises(UsageError):
            edited_pictures.main(edited_pictures.make_parser().parse_args([*words, wrong]))
