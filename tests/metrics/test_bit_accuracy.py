import json

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from dnnlib.util import UsageError, UserError
from fingerprints.statistics import clopper_pearson
from metrics.base import Model, Options, run_metric
from metrics.bit_accuracy import through_png

BITS = 32
CENTRE = np.float32(130 / 127.5 - 1)  # exactly on a grey level


def make_model(amplitude=0.5, wrong=0, decode=True):
    """A model that writes bit i as CENTRE ± amplitude and reads the sign, the first `wrong` bits inverted."""
    def generate(latents, fingerprints):
        images = np.full([len(latents), 8, 8, 3], -0.25, np.float32)
        images.reshape(len(latents), -1)[:, :BITS] = CENTRE + (fingerprints * 2 - 1) * amplitude
        return images

    def read(images):
        assert images.dtype == np.float32 and images.shape[1:] == (8, 8, 3)
        logits = images.reshape(len(images), -1)[:, :BITS] - CENTRE
        logits[:, :wrong] *= -1
        return logits
    return Model(generate, read if decode else None, 6, BITS, 8, 16)


def measure(model, count=50):
    return run_metric('bit_accuracy', model, None, Options(num_images=count))


def test_a_perfect_model():
    record = measure(make_model())
    assert record['value'] == record['float'] == record['uint8'] == record['png'] == 1
    assert record['p_value'] == 2.0 ** -BITS and record['images'] == 50 and record['bits'] == BITS
    assert record['interval'] == clopper_pearson(50, 50)
    assert record['attributable']['1e-03'] == {'threshold': 26, 'share': 1.0, 'interval': clopper_pearson(50, 50)}
    assert record['attributable']['1e-06']['threshold'] == 30
    json.dumps(record)


def test_bits_below_a_grey_level_are_lost_in_files_only():
    record = measure(make_model(amplitude=1 / 300), 500)  # half a grey level is 1/255
    assert record['float'] == 1
    assert record['uint8'] == record['png'] == record['value'] == pytest.approx(0.5, abs=0.02)


def test_wrong_bits_are_counted_per_bit_and_per_image():
    record = measure(make_model(wrong=5))
    assert record['value'] == pytest.approx(27 / 32)
    assert record['per_bit'] == {'min': 0.0, 'mean': pytest.approx(27 / 32), 'max': 1.0}
    assert record['p_value'] == pytest.approx(stats.binomtest(28, 32, 0.5, 'greater').pvalue)
    assert [record['attributable'][rate]['share'] for rate in ('1e-03', '1e-06')] == [1, 0]


def test_png_files_are_written_and_bring_back_the_pixels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, [5, 6, 7, 3], dtype=np.uint8)
    assert (through_png(images, tmp_path) == images).all()
    assert len(list(tmp_path.iterdir())) == 5
    assert Image.open(tmp_path / '3.png').format == 'PNG'


def test_it_is_the_files_that_are_read(monkeypatch):
    original = Image.open

    def damaged(path):
        picture = original(path)
        return Image.fromarray(255 - np.asarray(picture))
    monkeypatch.setattr(Image, 'open', damaged)
    record = measure(make_model())
    assert record['uint8'] == 1 and record['png'] == record['value'] == 0


def test_few_bits_cannot_reach_a_strict_rate():
    model = Model(lambda z, c: np.zeros([len(z), 8, 8, 3], np.float32),
                  lambda images: np.ones([len(images), 8], np.float32), 6, 8, 8, 16)
    assert measure(model)['attributable'] == {'1e-03': None, '1e-06': None}


def test_bad_input_is_refused():
    with pytest.raises(UserError, match='needs a decoder'):
        measure(make_model(decode=False))
    with pytest.raises(UsageError, match='0 images; take at least 1'):
        measure(make_model(), 0)
    model = make_model()
    broken = Model(model.generate, lambda images: np.full([len(images), BITS], np.inf), 6, BITS, 8, 16)
    with pytest.raises(UserError, match='decoder answered .* not finite'):
        measure(broken)
