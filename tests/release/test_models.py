"""Several models in one registry, and attributions that are entered into it; with small untrained networks."""
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import run_release
from dnnlib.util import UserError
from fingerprints.registry import Registry
from helpers import save_run


@pytest.fixture
def place(released, tmp_path, monkeypatch):
    """A folder with a copy of the registry of alice and bob, their run 'old', and another model's run 'new'."""
    run_dir, registry, _ = released
    shutil.copy(registry.location, tmp_path / 'registry.sqlite')
    shutil.copytree(run_dir, tmp_path / 'old')
    save_run(str(tmp_path / 'new'), seed=1)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, [16, 16, 3], dtype=np.uint8)).save('image.png')
    return Registry('registry.sqlite')


def call(*words):
    return run_release.main(run_release.make_parser().parse_args(words)) or 0


def test_a_user_is_issued_anew_under_a_new_model(place, capsys):
    with pytest.raises(UserError, match='does not hold the model'):
        call('issue', 'alice-2', '--run=new')
    assert call('register', '--run=new') == 0
    with pytest.raises(UserError, match='is registered already; issue from it'):
        call('register', '--run=new')
    with pytest.raises(UserError, match='holds no users, so there is no one to attribute to'):
        call('attribute', 'image.png', '--run=new')
    assert call('issue', 'alice-2', '--user=alice', '--run=new', '--selftest=false') == 0
    assert call('issue', 'carol', '--run=old', '--selftest=false') == 0
    old, new = (model['model_digest'] for model in place.models())
    assert [one.model_digest for one in place.list()] == [old, old, new, old] and place.verify() == []
    assert [one.user for one in place.list()] == ['alice', 'bob', 'alice', 'carol']
    assert os.path.isdir('new/released')
    for run, users in (('old', 3), ('new', 1)):
        capsys.readouterr()
        assert call('attribute', 'image.png', f'--run={run}', '--json') in (0, 3)
        assert f'"users": {users}' in capsys.readouterr().out


def test_what_was_attributed_is_recorded_if_asked_to(place):
    before = place.size()
    call('attribute', 'image.png', '--run=old')
    assert place.size() == before
    with open('broken.png', 'w') as file:
        file.write('no picture')
    assert call('attribute', 'image.png', 'broken.png', '--run=old', '--record') == 1
    assert place.size() == before + 1
    event = list(place.events())[-1]
    assert event.kind == 'image_attributed' and event.fields['findings']['image'] == 'image.png'
    assert len(event.fields['image_digest']) == 64 and 'p_value' in event.fields['findings']
    assert event.fields['findings']['model_digest'] == place.model()[0] and event.fields['findings']['fpr'] == 1e-6
    assert place.verify() == []
