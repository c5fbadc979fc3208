import io
import os

import numpy as np
import pytest
from photographs import photographs
from PIL import Image

from dnnlib.perturbations import files, table
from dnnlib.perturbations.table import TABLE
from dnnlib.util import UsageError
from helpers import ROOT


def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize('name', list(files.OPERATIONS))
def test_each_strength_harms_more_than_the_one_before(name):
    if not files.available(name):
        pytest.skip('this Pillow has no AVIF')
    pictures, errors = photographs(2), []
    for value in TABLE[name].strengths:
        perturbed = files.perturb(name, value, pictures, rng())
        assert perturbed.dtype == np.uint8 and perturbed.shape == pictures.shape
        np.testing.assert_array_equal(perturbed, files.perturb(name, value, pictures, rng()))
        errors.append(np.abs(perturbed.astype(float) - pictures).mean())
    assert errors[0] > 0
    if name not in ('crop', 'quarter_turn', 'centre_crop', 'screenshot', 'waves_all'):  # where moved pixels decide
        assert errors == sorted(errors)


def test_none_is_the_picture_as_it_is():
    np.testing.assert_array_equal(files.perturb('none', None, photographs(), rng()), photographs())


def test_a_crop_is_a_part_of_the_picture_at_full_size():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, None, :, None] * 2, [8, 64, 64, 3]).copy()
    perturbed = files.perturb('crop', 64, ramp, rng())[:, :, :, 0].astype(float)
    np.testing.assert_allclose(perturbed[:, 5, 10:54], perturbed[:, 40, 10:54])
    steps = np.diff(perturbed[:, 5, 10:54], axis=1)
    np.testing.assert_allclose(steps.mean(axis=1), 1, atol=0.05)  # half of the slope: twice the size
    lefts = perturbed[:, 5, 0]
    assert len(set(lefts)) > 3 and lefts.min() >= 0 and lefts.max() <= 64 + 2


def test_a_crop_by_area_in_the_middle():
    expected = [Image.fromarray(one).crop((16, 16, 48, 48)).resize((64, 64), Image.Resampling.BILINEAR)
                for one in photographs()]
    np.testing.assert_array_equal(files.perturb('centre_crop', 0.25, photographs(), rng()), np.stack(expected))


@pytest.mark.parametrize('name, file_format', [('jpeg', 'JPEG'), ('waves_jpeg', 'JPEG'), ('webp', 'WEBP')])
def test_compression_is_that_of_a_saved_file(name, file_format, tmp_path):
    pictures = photographs(2)
    for picture, perturbed in zip(pictures, files.perturb(name, 50, pictures, rng())):
        Image.fromarray(picture).save(tmp_path / 'saved', format=file_format, quality=50)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'saved').convert('RGB')), perturbed)


def test_a_png_brings_back_what_was_measured():
    """Perturbed pictures are not saved once more before they are decoded: it would change nothing."""
    picture, file = photographs(1)[0], io.BytesIO()
    Image.fromarray(picture).save(file, format='PNG')
    np.testing.assert_array_equal(np.asarray(Image.open(file)), picture)


def test_noise_has_the_deviation_it_says():
    grey = np.full([4, 64, 64, 3], 128, np.uint8)
    for name, value in (('noise', 0.1), ('waves_noise', 0.05)):
        added = files.perturb(name, value, grey, rng()).astype(float) - 128
        assert added.std() == pytest.approx(0.05 * 255, rel=0.03) and abs(added.mean()) < 0.5


def test_a_rotation_goes_either_way():
    halves = np.zeros([16, 32, 32, 3], np.uint8)
    halves[:, :16] = 255
    turned = files.perturb('rotation', 25, halves, rng())
    right = turned[:, 14, 26, 0] > 128  # to the left, the upper half sinks on the left side and rises on the right
    assert 3 < right.sum() < 13


class Always:
    """In place of a numpy Generator: whatever happens by chance happens, or never does."""

    def __init__(self, value):
        self.value = value

    def random(self, shape):
        return np.full(shape, self.value)

    standard_normal = random


def test_the_combination_is_the_four_in_turn_each_with_chance_one_half():
    pictures = photographs(1)
    np.testing.assert_array_equal(files.perturb('combination', 1, pictures, Always(0.5)), pictures)
    expected = pictures
    for name in ('crop', 'blur', 'jpeg', 'noise'):
        row = TABLE[name]
        value = row.mild + 0.8 * 0.25 * (row.severe - row.mild)
        expected = files.perturb(name, value, expected, Always(0.25))
    np.testing.assert_array_equal(files.perturb('combination', 0.8, pictures, Always(0.25)), expected)


def test_the_ranges_are_those_of_the_papers():
    ranges = {name: (row.mild, row.severe) for name, row in TABLE.items()}
    waves = {'rotation': (0, 45), 'resized_crop': (1, 0.5), 'erasing': (0, 0.25), 'brightness': (1, 2),
             'contrast': (1, 2), 'waves_blur': (0, 20), 'waves_noise': (0, 0.1), 'waves_jpeg': (90, 10)}
    assert {name: ranges[name] for name in waves} == waves
    signature = {'centre_crop': (0.5, 0.1), 'rotation': (25,), 'quarter_turn': (90,), 'resize': (0.5, 0.1),
                 'brightness': (1.5, 2), 'contrast': (1.5, 2), 'saturation': (1.5, 2), 'sharpness': (1.5, 2),
                 'jpeg': (80, 50)}
    assert all(set(values) <= set(TABLE[name].strengths) for name, values in signature.items())
    for row in TABLE.values():
        if row.mild is not None:
            ends = sorted((row.mild, row.severe))
            assert all(ends[0] <= value <= ends[1] for value in row.strengths)


def test_names_to_measure():
    assert files.check_names(' jpeg, crop,jpeg') == ('jpeg', 'crop')
    assert files.check_names('paper') == ('crop', 'blur', 'jpeg', 'noise', 'combination') == table.PAPER_NAMES
    assert set(files.check_names('all')) >= set(TABLE) - {'avif'}
    assert 'rotation' in files.check_names('waves') and 'sharpness' in files.check_names('signature')
    with pytest.raises(UsageError, match="'jpg' does not exist; choose from all, paper, waves, signature, crop, blur"):
        files.check_names('crop,jpg')
    with pytest.raises(UsageError, match='no perturbation is named; choose from all'):
        files.check_names(' , ')


def test_without_avif(monkeypatch):
    monkeypatch.setattr(files.features, 'check', lambda name: name != 'avif')
    assert 'avif' not in files.check_names('all')
    with pytest.raises(UsageError, match="'avif' needs a Pillow with AVIF"):
        files.check_names('avif')


def test_names_to_train():
    assert table.check_names('') == ()
    assert table.check_names(' flip ,crop,flip') == ('flip', 'crop')
    assert table.check_names('paper') == table.PAPER_NAMES
    every = table.check_names('all')
    assert {'crop', 'combination', 'greyscale', 'flip', 'resize', 'median'} <= set(every)
    assert not {'webp', 'jpeg_codec', 'waves_all', 'waves_jpeg', 'signature_combination'} & set(every)
    assert table.check_names('jpeg_codec,waves_all') == ('jpeg_codec', 'waves_all')
    with pytest.raises(UsageError, match="'blurr' does not exist; choose from all, paper, crop, blur"):
        table.check_names('blurr')
    with pytest.raises(UsageError, match="'webp' can be measured but not trained against"):
        table.check_names('webp')


def test_the_documentation_has_every_row():
    with open(os.path.join(ROOT, 'docs', 'perturbations.md'), encoding='utf-8') as file:
        cells = [line.split(' | ') for line in file if line.startswith('| `')]
    documented = {row[0].strip('| `'): row[1:5] for row in cells}
    assert list(documented) == list(TABLE)
    for name, row in TABLE.items():
        if row.parameter:
            ends = 'one of these' if row.mild is None else f'{row.mild:g} to {row.severe:g}'
            measured = ', '.join(f'{value:g}' for value in row.strengths)
            assert documented[name] == [row.parameter, ends, measured, row.source], name
