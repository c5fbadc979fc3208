"""What a user receives: the same bytes whenever it is made, and nothing of its owner's."""
import hashlib
import json
import os
import shutil
import socket
import sys

import numpy as np
import pytest

import run_release
from dnnlib.util import UserError, sha256_folder
from fingerprints.codes import code_to_text
from fingerprints.registry import Registry
from helpers import ROOT, save_run
from release.export import export
from release.issue import FIXED_TIME, HandOver, Issuer
from training.snapshot import Snapshot

NAME = 'Zebedee-Quux'
LICENCE = 'Licence:\nfor evaluation only.'


@pytest.fixture(scope='module')
def handed(tmp_path_factory):
    """(folder of everything, Registry, Issuer) with an instance of NAME, the third that was made."""
    place = tmp_path_factory.mktemp('handing')
    run_dir = save_run(str(place / 'run'))
    registry = Registry(str(place / 'registry.sqlite'), create=True)
    issuer = Issuer(run_dir, registry, str(place / 'instances'), hand_over=HandOver((), 'lions', LICENCE))
    for name in ('ann', 'ben', NAME):
        issuer(name)
    return place, registry, issuer


def files(folder):
    return {os.path.relpath(os.path.join(root, name), folder): open(os.path.join(root, name), 'rb').read()
            for root, _, names in os.walk(folder) for name in names}


def test_what_was_filled_is_what_is_made_anew(handed, tmp_path):
    """The third instance's graph was built for the first; one made for it alone has the same bytes."""
    place, registry, issuer = handed
    snapshot = Snapshot(issuer.run_dir, impl='ref')
    export(snapshot.method.bake(snapshot.nets, registry.code(NAME)), str(tmp_path / 'alone'))
    made, alone = files(place / 'instances' / NAME / '1'), files(tmp_path / 'alone')
    assert alone.items() <= made.items() and 'saved_model.pb' in alone
    assert set(made) - set(alone) == {'instance_card.json', 'assets.extra/tf_serving_warmup_requests'}
    assert made['saved_model.pb'] != files(place / 'instances' / 'ben' / '1')['saved_model.pb']


def test_reissue_gives_the_same_bytes_or_nothing(handed, tmp_path, capsys):
    place, registry, issuer = handed
    words = ['reissue', NAME, f'--run={issuer.run_dir}', f'--registry={registry.location}', f'--out={tmp_path}/again']
    (tmp_path / 'licence').write_text(LICENCE)

    def call(*more):
        run_release.main(run_release.make_parser().parse_args([*words, *more]))

    with pytest.raises(UserError, match='not as issued with .*give the --model-name and --licence of then'):
        call('--model-name=lions')
    assert os.listdir(tmp_path / 'again') == []
    size = registry.size()
    call('--model-name=lions', f'--licence={tmp_path}/licence')
    assert files(tmp_path / 'again' / NAME) == files(place / 'instances' / NAME)
    assert sha256_folder(tmp_path / 'again' / NAME / '1') == registry.get(NAME).digest
    with pytest.raises(UserError, match='exists already'):
        call('--model-name=lions')
    words[1] = 'nobody'
    with pytest.raises(UserError, match="knows no user 'nobody'"):
        call()
    assert registry.size() == size and registry.verify() == []


def test_the_card_says_what_the_instance_is(handed):
    folder = handed[0] / 'instances' / NAME / '1'
    card = json.loads((folder / 'instance_card.json').read_text())
    assert card['model'] == 'lions' and card['licence'] == LICENCE
    assert card['input']['shape'] == [None, 6] and card['output']['shape'] == [None, 16, 16, 3]
    assert card['sha256'] == {'saved_model.pb': hashlib.sha256((folder / 'saved_model.pb').read_bytes()).hexdigest()}
    assert sorted(card) == ['format', 'input', 'licence', 'marked', 'model', 'output', 'sha256', 'signatures']


def test_no_byte_tells_of_the_owner(handed):
    """Neither bits nor embedding, nor a path, a name or a time of the machine, in any file, name or file's date."""
    place, registry, issuer = handed
    code = registry.code(NAME)
    issued = registry.get(NAME)
    texts = [NAME, code_to_text(code), str(place), ROOT, os.path.expanduser('~') + '/', os.getcwd(), sys.prefix,
             'site-packages', '/tmp', socket.gethostname() + '.', issued.issued_at[:10], issued.reserved_at[:10],
             issued.model_digest, '.py', 'embedding', 'affine', 'run_dir']
    forms = [code.astype(kind).tobytes() for kind in ('u1', '<f4', '<f8', '<i4', '<i8', '<f2')]
    forms += [issuer.snapshot.nets['E'](code[None].astype(np.float32)).numpy().tobytes()]
    forms += [variable.numpy().tobytes()[:64] for variable in issuer.snapshot.nets['E'].trainable_variables]
    folder = place / 'instances' / NAME
    found = files(folder)
    data = b'\n'.join(found.values()).lower()
    assert not [text for text in texts if text.lower().encode() in data]
    assert not [form for form in forms if form.lower() in data]
    assert b'lions' in data and b'serving_default' in data, 'the search would not find a text'
    paths = [os.path.join(root, name) for root, folders, names in os.walk(folder) for name in [*folders, *names, '.']]
    assert {os.stat(path).st_mtime for path in paths} == {FIXED_TIME}


def test_a_failed_reissue_of_another_model_is_told(handed, tmp_path):
    _, registry, issuer = handed
    other = Issuer(save_run(str(tmp_path / 'other'), seed=9), registry, str(tmp_path / 'out'),
                   Snapshot(str(tmp_path / 'other'), impl='ref'))
    with pytest.raises(UserError, match='is of the model .* not of this run'):
        other.again(registry.get(NAME))
    shutil.rmtree(tmp_path / 'other')
    assert not os.path.exists(tmp_path / 'out')
