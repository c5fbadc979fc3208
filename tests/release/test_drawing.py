"""Pictures from an issued instance: what TF Serving would draw, as files, in a new folder only."""
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import run_generator
from dnnlib.util import UsageError, UserError
from release.drawing import Drawer


def generator(*words):
    return run_generator.main(run_generator.make_parser().parse_args(words))


def test_pictures_are_the_instances_and_the_seed_repeats_them(released, tmp_path):
    folder = os.path.join(released[2], 'alice')
    for name, given in (('first', folder), ('again', os.path.join(folder, '1'))):
        generator(f'--instance={given}', f'--out={tmp_path}/{name}', '--side=9', '--seed=3')
    names = sorted(os.listdir(tmp_path / 'first'))
    assert names == [*(f'{number:04d}.png' for number in range(81)), 'grid.png']
    latents = np.random.default_rng(3).standard_normal([81, 6]).astype(np.float32)
    serve = tf.saved_model.load(os.path.join(folder, '1')).signatures['serving_default']
    for number, image in enumerate(serve(latents=tf.constant(latents))['images'].numpy()):
        for name in ('first', 'again'):
            drawn = np.asarray(Image.open(tmp_path / name / f'{number:04d}.png')).astype(int)
            assert np.abs(drawn - image).max() <= 1  # sums of another batch size may round differently
    with pytest.raises(UserError, match='first exists already'):
        generator(f'--instance={folder}', f'--out={tmp_path}/first')


def test_what_is_no_instance_is_told_in_one_line(released, tmp_path):
    damaged = str(tmp_path / 'damaged')
    shutil.copytree(os.path.join(released[2], 'alice', '1'), damaged)
    with open(os.path.join(damaged, 'saved_model.pb'), 'r+b') as file:
        file.truncate(5000)
    tf.saved_model.save(tf.Module(), str(tmp_path / 'other'))
    for name in ('damaged', 'other', 'absent', ''):
        with pytest.raises(UserError, match='is not an instance, or damaged') as caught:
            Drawer(str(tmp_path / name))
        assert '\n' not in str(caught.value)


def test_flags_that_do_not_go_together(tmp_path):
    for words, message in ((['--instance=x'], 'needs --out'), (['--instance=x', '--out=y', '--kimg=3'], 'do not go')):
        with pytest.raises(UsageError, match=message):
            generator(*words)
    assert os.listdir(tmp_path) == []
