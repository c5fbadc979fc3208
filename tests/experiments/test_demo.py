"""The demo's folder: nothing in it or beside it is ever deleted. The training itself is .ci/run's."""
import os

import pytest

from dnnlib.util import UserError, read_json, sha256_folder
from experiments.demo import MARKER, REGISTRY, claim, issued_folder
from fingerprints.registry import Registry


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path):
    """An owner's production folder has just the names that the demo uses."""
    for name in ('registry.sqlite', 'instances/alice/1/saved_model.pb', 'images/my_precious.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('precious')
    before = sha256_folder(tmp_path)
    with pytest.raises(UserError, match='holds files that the demo did not make; name a new or empty folder'):
        claim(str(tmp_path), 4)
    assert sha256_folder(tmp_path) == before


def test_a_new_and_an_empty_folder_are_taken_and_known_again(tmp_path):
    (tmp_path / 'empty').mkdir()
    for folder in (tmp_path / 'new', tmp_path / 'empty'):
        claim(str(folder), 4)
        claim(str(folder), 8)  # nothing is issued yet
        assert read_json(folder / MARKER)['total_kimg'] == 8


def test_instances_of_another_training_are_kept(tmp_path):
    claim(str(tmp_path), 4)
    (tmp_path / REGISTRY).write_text('issued')
    claim(str(tmp_path), 4)
    with pytest.raises(UserError, match='a training of 4 kimg, not 8; name another folder'):
        claim(str(tmp_path), 8)
    assert (tmp_path / REGISTRY).read_text() == 'issued'


def test_who_has_an_instance_keeps_it(released):
    run_dir, registry, instances = released
    before = sha256_folder(instances)
    assert issued_folder(run_dir, registry, 'alice', instances) == os.path.join(instances, 'alice', '1')
    assert sha256_folder(instances) == before


def test_a_missing_instance_is_named(released, tmp_path):
    run_dir, registry, _ = released
    with pytest.raises(UserError, match='alice.* is missing, though alice has been issued'):
        issued_folder(run_dir, registry, 'alice', str(tmp_path))
    assert isinstance(registry, Registry) and not os.listdir(tmp_path)
