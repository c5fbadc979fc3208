import pytest

from dnnlib.util import UsageError
from training.config import Config, check_resolution, consistency_weight, feature_maps, fingerprint_weight, make_config


def test_presets_are_valid_and_overridden():
    assert make_config('config-e', {}) == Config()
    assert make_config('quickstart', {'fingerprint_bits': 64}).fingerprint_bits == 64
    assert make_config('quickstart', {}).fingerprint_bits == 32


@pytest.mark.parametrize('name, value', [
    ('fingerprint_bits', 4), ('fingerprint_bits', 513), ('batch_size', 0), ('learning_rate', float('nan')),
    ('learning_rate', 0.0), ('r1_gamma', -1.0), ('res_modulated_range', '4'), ('res_modulated_range', '5-128'),
    ('consistency_ramp', '80-40'), ('total_kimg', 6), ('seed', -1), ('ema_kimg', 0.0)])
def test_a_bad_value_is_named(name, value):
    with pytest.raises(UsageError, match=f'--{name.replace("_", "-")}={value}'):
        make_config('config-e', {name: value})


def test_ticks_are_whole_batches():
    with pytest.raises(UsageError, match='multiple of 4'):
        make_config('config-e', {'tick_kimg': 1})


@pytest.mark.parametrize('resolution', [8, 24, 2048])
def test_resolutions(resolution):
    with pytest.raises(UsageError, match=str(resolution)):
        check_resolution(resolution)


def test_feature_maps_of_config_e():
    # 4x4 ... 1024x1024, StyleGAN2 config E.
    assert [feature_maps(Config(), stage) for stage in range(1, 10)] == [512, 512, 512, 512, 256, 128, 64, 32, 16]


def test_consistency_ramp():
    config = make_config('quickstart', {'consistency_ramp': '40-80', 'lambda_consistency': 2.0})
    assert [consistency_weight(config, kimg * 1000) for kimg in (0, 40, 50, 60, 80, 200)] == [0, 0, 0.5, 1, 2, 2]
    assert consistency_weight(make_config('config-e', {}), 0) == 2.0


def test_fingerprint_ramp():
    config = make_config('config-e', dict(lambda_fingerprint_start=30.0, lambda_fingerprint=10.0,
                                          fingerprint_ramp='20-40'))
    assert [fingerprint_weight(config, kimg * 1000) for kimg in (0, 20, 30, 40, 50)] == [30, 30, 20, 10, 10]
    assert fingerprint_weight(make_config('config-e', {}), 0) == 2.0
