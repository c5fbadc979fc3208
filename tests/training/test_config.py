import argparse
import dataclasses
import subprocess
import sys

import pytest

from dnnlib.util import UsageError
from helpers import ROOT, tiny_config
from models.limits import check_division, check_parts
from models.methods import METHODS
from models.presets import METHOD_NAMES, PRESETS
from training.config import FIELDS, Config, add_flags, flags_config, from_record, make_config, to_record
from training.schedule import Range, Schedule, weight_at


def test_presets_are_valid_and_overridden():
    assert make_config('config-e', {}) == Config()
    assert make_config('quickstart', {'fingerprint_bits': 64}).fingerprint_bits == 64
    assert make_config('quickstart', {}).fingerprint_bits == 32
    assert {make_config(name, {}).method for name in PRESETS} <= set(METHOD_NAMES)


def test_every_method_can_be_asked_for():
    assert set(METHOD_NAMES) == set(METHODS)


@pytest.mark.parametrize('name, value', [
    ('fingerprint_bits', 4), ('fingerprint_bits', 513), ('batch_size', 0), ('adam_epsilon', float('nan')),
    ('learning_rate', 0), ('r1_gamma', -1.0), ('adam_beta2', 1.0), ('path_length_decay', 1.5),
    ('lambda_consistency', '-1'), ('lambda_fingerprint', '2:0-4:-1'), ('total_kimg', 6), ('seed', -1),
    ('seed', 2 ** 31), ('ema_kimg', 0.0)])
def test_a_bad_value_is_named(name, value):
    with pytest.raises(UsageError, match=f'--{name.replace("_", "-")}={value}'):
        make_config('config-e', {name: value})


@pytest.mark.parametrize('text', ['x', '1:2:3', '0:40-20:1', 'nan', '0:0-inf:1', '', '1e999'])
def test_a_bad_schedule_is_named(text):
    with pytest.raises(UsageError, match=repr(text)):
        Schedule.parse(text)


@pytest.mark.parametrize('text', ['4', '5-128', '128-4', '0-4', '4-', '-4-8'])
def test_a_bad_range_is_named(text):
    with pytest.raises(UsageError, match=f"'{text}': expected LOW-HIGH"):
        Range.parse(text)


@pytest.mark.parametrize('text', ['2', '0.25', '30:0-20:10', '0:40-40:2', '1e-06:0-0.5:3'])
def test_schedules_are_written_as_they_are_read(text):
    assert str(Schedule.parse(text)) == text


def test_ticks_are_whole_batches():
    with pytest.raises(UsageError, match='multiple of 4'):
        make_config('config-e', {'tick_kimg': 1})


def test_a_schedule_moves_linearly_between_its_ends():
    schedule = Schedule.parse('30:20-40:10')
    assert [schedule.at(kimg * 1000) for kimg in (0, 20, 30, 40, 50)] == [30, 30, 20, 10, 10]
    assert Schedule.parse('2').at(0) == Schedule.parse('2').at(10 ** 9) == 2


def test_a_schedule_of_no_length_jumps():
    assert [Schedule.parse('1:40-40:2').at(images) for images in (0, 39_999, 40_000)] == [1, 1, 2]


def test_a_weight_of_0_is_none():
    config = tiny_config(lambda_consistency='0:1-3:10')
    assert [weight_at(config, 'lambda_consistency', step) for step in (0, 125, 250, 1000)] == [None, None, 5, 10]


def test_the_record_brings_the_config_back():
    config = tiny_config(lambda_consistency='0:1-3:10', res_modulated_range='8-16')
    record = to_record(config)
    assert record['lambda_consistency'] == '0:1-3:10' and record['res_modulated_range'] == '8-16'
    assert from_record(record, 'x') == config


def test_a_run_of_another_version_is_named():
    record = {**to_record(Config()), 'consistency_ramp': '0-20'}
    with pytest.raises(UsageError, match='x.json was written by another version.*consistency_ramp.*train it anew'):
        from_record(record, 'x.json')


@pytest.mark.parametrize('options, words', [
    ([], 'its options are no JSON object'), ({'batch_size': '8'}, "option batch_size is '8'"),
    ({'seed': True}, 'option seed is True'), ({'r1_gamma': None}, 'option r1_gamma is None'),
    ({'learning_rate': [1]}, r'option learning_rate is \[1\]'), ({'learning_rate': 'x'}, "'x' is neither a number")])
def test_damaged_options_are_one_line(options, words):
    record = {**to_record(Config()), **options} if isinstance(options, dict) else options
    with pytest.raises(UsageError, match=words):
        from_record(record, 'x.json')


def test_a_learning_rate_may_be_a_number_as_it_was():
    assert from_record({**to_record(Config()), 'learning_rate': 0.005}, 'x.json').learning_rate.end == 0.005


def test_an_option_newer_than_a_run_counts_only_if_its_method_uses_it():
    """A finished generator outlives what is added for other methods."""
    for method, name, taken in (('stylegan2', 'sign_components', True), ('stylegan2', 'r1_gamma', False),
                                ('adopted', 'sign_components', False)):
        record = to_record(make_config('stylegan2', {'method': method}))
        del record[name]
        if taken:
            assert getattr(from_record(record, 'x.json'), name) == getattr(Config(), name)
        else:
            with pytest.raises(UsageError, match=f'written by another version.*{name}'):
                from_record(record, 'x.json')


def test_what_a_continued_run_may_change():
    """Nothing that changes what a step computes, but for the order of its sums."""
    assert {field.name for field in FIELDS if field.metadata['may_change']} == {
        'total_kimg', 'tick_kimg', 'image_snapshot_ticks', 'snapshot_ticks', 'keep_snapshots', 'metrics',
        'metric_images', 'inception', 'batch_per_replica', 'init_from'}
    assert dataclasses.fields(Config) == FIELDS


def test_options_are_resolved_without_tensorflow():
    code = 'import sys, training.config, training.ticks, training.xla_package; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize('batch_size, replicas', [(1, 1), (2, 1), (3, 1), (4, 1), (32, 1), (32, 8), (24, 3), (64, 16)])
def test_a_batch_of_whole_groups_is_taken(batch_size, replicas):
    check_division(batch_size, replicas)


@pytest.mark.parametrize('batch_size, replicas, sizes', [
    (25, 1, 'multiple of 4, such as 24 or 28'), (6, 1, '4 or 8'), (4, 2, 'multiple of 8, such as 8'),
    (8, 4, 'multiple of 16, such as 16'), (12, 4, '16'), (32, 16, 'multiple of 64, such as 64'), (32, 3, '24 or 36')])
def test_a_batch_that_would_split_a_group_is_refused(batch_size, replicas, sizes):
    with pytest.raises(UsageError, match=f'--batch-size={batch_size}.* in groups of 4.*{sizes}$'):
        check_division(batch_size, replicas)


def test_a_preset_with_such_a_batch_is_refused():
    with pytest.raises(UsageError, match='--batch-size=25: '):
        make_config('config-e', {'batch_size': 25})


@pytest.mark.parametrize('size, batch_size, replicas', [(0, 32, 1), (8, 32, 1), (4, 32, 8), (4, 24, 2), (3, 3, 1)])
def test_a_share_in_whole_parts_is_taken(size, batch_size, replicas):
    check_parts(size, batch_size, replicas)


@pytest.mark.parametrize('size, batch_size, replicas, sizes', [
    (6, 32, 1, '0, 4, 8, 16, 32'), (64, 32, 1, '0, 4, 8, 16, 32'), (8, 24, 2, '0, 4, 12'), (8, 32, 8, '0, 4'),
    (1, 3, 1, '0')])
def test_parts_that_would_split_a_group_are_refused(size, batch_size, replicas, sizes):
    with pytest.raises(UsageError, match=rf'--batch-per-replica={size}: .* take one of {sizes} \(0: all at once\)$'):
        check_parts(size, batch_size, replicas)


def parsed(*flags):
    parser = argparse.ArgumentParser()
    parser.add_argument('--config', default='config-e')
    add_flags(parser)
    return flags_config(parser.parse_args(flags))


@pytest.mark.parametrize('flags, message', [
    (['--method=bound', '--decode-pair=false'], '--decode-pair: --method=bound makes no use .* or take '
     '--method=fingerprinted$'),
    (['--config=quickstart', '--clip-decoder=none'], '--clip-decoder: --method=bound makes no use'),
    (['--carrier=0.3'], '--carrier: --method=fingerprinted makes no use .* or take --method=bound$'),
    (['--config=stylegan2', '--lambda-fingerprint=2'], '.* or take --method=fingerprinted or --method=bound or '
     '--method=adopted$')])
def test_a_flag_that_the_method_ignores_is_refused(flags, message):
    with pytest.raises(UsageError, match=message):
        parsed(*flags)


def test_what_a_preset_sets_for_another_method_is_no_flag():
    assert parsed('--config=quickstart', '--method=fingerprinted', '--batch-per-replica=4').batch_per_replica == 4
