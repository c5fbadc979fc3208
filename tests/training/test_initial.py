"""Runs that begin with the networks of another: an adopted generator, a run that goes on, and what is refused."""
import os

import numpy as np
import pytest
import tensorflow as tf

import run_training
from dnnlib.util import UsageError, UserError
from helpers import save_run, tiny_config, write_dataset
from training import xla_export
from training.config import Plan, make_config, to_record
from training.loop import train
from training.snapshot import Snapshot


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    images = np.random.default_rng(0).integers(0, 256, [24, 16, 16, 3]).astype(np.uint8)
    return write_dataset(str(tmp_path_factory.mktemp('data') / 'noise'), 'noise', 'random pixels', images, [])


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    return save_run(str(tmp_path_factory.mktemp('runs') / 'plain'), method='stylegan2')


@pytest.fixture(scope='module')
def adopted(dataset, plain, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp('runs') / 'adopted')
    assert train(plan(folder, plain), dataset) == 1
    return folder


def plan(folder, source, **overrides):
    config = tiny_config('adopted', **{'method': 'adopted', 'init_from': source, 'total_kimg': 1, **overrides})
    return Plan('adopted', config, folder, 0)


def test_an_adopted_generator_draws_what_it_drew(adopted, plain):
    snapshot, source = Snapshot(adopted), Snapshot(plain)
    assert snapshot.kimg == 1
    for name in ('M', 'G'):
        for kept, taken in zip(snapshot.nets[name].variables, source.nets[name].variables):
            np.testing.assert_array_equal(kept, taken)
    assert snapshot.has_fingerprint and not source.can_bake


def test_a_run_goes_on_with_the_networks_of_one_of_its_method(adopted, dataset, tmp_path, capsys):
    """A learning rate of next to nothing leaves them as they were; the averages move on to them."""
    folder = str(tmp_path / 'next')
    train(plan(folder, adopted, immunize='blur,noise', learning_rate=1e-12, ema_kimg=1e-3), dataset)
    assert f'begins with the networks of {adopted} at 1 kimg' in capsys.readouterr().out
    before, after = (tf.train.load_checkpoint(Snapshot(run).path) for run in (adopted, folder))
    names = [name for name in before.get_variable_to_shape_map() if name.startswith('nets/')
             and 'OPTIMIZER_SLOT' not in name]
    assert len(names) > 40
    for name in names:
        np.testing.assert_allclose(after.get_tensor(name), before.get_tensor(name), atol=1e-6)


def test_the_networks_options_are_those_of_the_run_that_it_begins_with(plain):
    words = ['--config=adopted', f'--init-from={plain}']
    made, name = run_training.make_plan(run_training.make_parser().parse_args(words))
    source = Snapshot(plain).config
    assert (made.config.latent_dim, made.config.fmap_max) == (source.latent_dim, source.fmap_max) == (6, 8)
    assert made.config.fingerprint_bits == 128 and name == 'none'  # the dataset that the run tells of


@pytest.mark.parametrize('source, overrides, message', [
    (None, {}, 'name a run folder of --method=stylegan2 by --init-from'),
    ('plain', {'method': 'fingerprinted'}, 'is a run of --method=stylegan2; this one takes fingerprinted'),
    ('plain', {'fmap_max': 16}, 'leave out the flags of the networks'),
    ('adopted', {'fingerprint_bits': 12}, 'corrupt or of another configuration'),
])
def test_what_does_not_fit_is_one_line(source, overrides, message, plain, adopted, dataset, tmp_path):
    folder = {'plain': plain, 'adopted': adopted, None: ''}[source]
    with pytest.raises((UsageError, UserError), match=message) as caught:
        train(plan(str(tmp_path / 'run'), folder, **overrides), dataset)
    assert '\n' not in str(caught.value)


def test_a_finished_generator_must_be_named_before_anything_is_made(tmp_path):
    words = ['--config=adopted', '--dataset=digits', f'--data-dir={tmp_path}', f'--run-dir={tmp_path}/run']
    with pytest.raises(UsageError, match='name a run folder of --method=stylegan2 by --init-from'):
        run_training.main(run_training.make_parser().parse_args(words))
    with pytest.raises(UsageError, match='untrained networks only'):
        xla_export.main(xla_export.make_parser().parse_args(
            ['export', '--config=adopted', '--dataset=digits', f'--data-dir={tmp_path}', f'--out={tmp_path}/package']))
    assert os.listdir(tmp_path) == []


def test_other_sizes_of_images_are_refused(plain, tmp_path):
    images = np.zeros([8, 32, 32, 3], np.uint8)
    larger = write_dataset(str(tmp_path / 'larger'), 'larger', 'black', images, [])
    with pytest.raises(UsageError, match='images of 16 pixels a side, this dataset of 32'):
        train(plan(str(tmp_path / 'run'), plain), larger)


def test_a_folder_without_a_run_is_refused(tmp_path):
    words = ['--config=adopted', f'--init-from={tmp_path}', '--dataset=noise']
    with pytest.raises(UsageError, match='no training run is there'):
        run_training.make_plan(run_training.make_parser().parse_args(words))


def test_perturbations_that_there_are_not_are_named():
    with pytest.raises(UsageError, match='bluur'):
        make_config('quickstart', {'immunize': 'bluur'})
    assert to_record(make_config('quickstart', {'immunize': 'blur'}))['immunize'] == 'blur'
