"""All scripts as they are handled: nothing of the owner's is lost, whatever breaks off."""
import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from PIL import Image

import dataset_tool
import run_generator
import run_metrics
import run_release
import run_training
from dnnlib import cli
from dnnlib.util import UserError
from fingerprints.registry import Registry
from helpers import PATIENCE, ROOT, TINY, flags_of, leave_reservation, old_registry, write_dataset

SCRIPTS = {'run_release.py': run_release, 'dataset_tool.py': dataset_tool, 'run_training.py': run_training,
           'run_metrics.py': run_metrics, 'run_generator.py': run_generator}
OWN = ('notes.txt', 'instances/contract.pdf', 'instances/.zoe-12345678/key', 'data/.photos-abcdefgh/draft',
       'data/digits.txt', 'images/precious.png', 'preview.png', 'manifest.json', 'models.config')


def tree(folder):
    """{relative path: sha256} of all files, and {relative path: ''} of all folders."""
    found = {}
    for root, folders, files in os.walk(folder):
        found.update({os.path.relpath(os.path.join(root, name), folder): '' for name in folders})
        for name in files:
            with open(os.path.join(root, name), 'rb') as file:
                found[os.path.relpath(os.path.join(root, name), folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


def call(script, *words):
    """Runs a script in this process; returns its exit code, 1 or 2 for a UserError."""
    module = SCRIPTS[script]
    try:
        return module.main(module.make_parser().parse_args(words)) or 0
    except UserError as error:
        return error.exit_code


@pytest.fixture
def place(run_dir, tmp_path, monkeypatch):
    """A working folder as an owner may have it: a run, photographs, and things of their own everywhere."""
    shutil.copytree(run_dir, tmp_path / 'run')
    for name in OWN:
        os.makedirs(os.path.dirname(tmp_path / name), exist_ok=True)
        (tmp_path / name).write_text(f'this is {name}')
    os.mkdir(tmp_path / 'photos')
    for seed in range(4):
        noise = np.random.RandomState(seed).randint(0, 256, [16, 16, 3]).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / 'photos' / f'{seed}.png')
    (tmp_path / 'photos' / 'a text.txt').write_text('')
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN, UNTESTED = '--run=run', '--selftest=false'  # untrained networks show no fingerprint that reads
# One phase, so that it is traced in seconds.
SHORT = {**TINY, 'total_kimg': 1, 'lambda_consistency': 0, 'path_length_interval': 0, 'r1_interval': 0}
TRAIN = ['run_training.py', '--config=quickstart', '--dataset=data/photos', '--num-gpus=0',
         *flags_of(SHORT)]
COMMANDS = [  # in order; the exit code, what may change, the command
    (0, 'registry.sqlite', ['run_release.py', 'issue', 'alice', RUN, UNTESTED]),
    (1, '', ['run_release.py', 'issue', 'alice', RUN, UNTESTED]),
    (1, '', ['run_release.py', 'issue', 'contract.pdf', RUN, UNTESTED]),
    (0, 'registry.sqlite', ['run_release.py', 'issue', 'bob', RUN, UNTESTED]),
    (0, 'registry.sqlite', ['run_release.py', 'revoke', 'bob']),
    (1, '', ['run_release.py', 'revoke', 'bob']),
    (0, '', ['run_release.py', 'list']),
    (3, '', ['run_release.py', 'attribute', 'photos', RUN, '--fpr=1e-4']),
    (1, '', ['run_release.py', 'attribute', 'images/precious.png', RUN]),
    (3, '', ['run_release.py', 'attribute', 'photos', RUN, '--csv', '--out=results.csv']),
    (1, '', ['run_release.py', 'attribute', 'photos', RUN, '--out=results.csv']),
    (1, '', ['run_release.py', 'attribute', 'photos', RUN, '--out=notes.txt']),
    (0, '', ['dataset_tool.py', 'photos', '--resolution=16']),
    (1, '', ['dataset_tool.py', 'photos', '--resolution=16']),
    (0, 'data/photos/', ['dataset_tool.py', 'photos', '--resolution=16', '--eval-fraction=0', '--force']),
    (1, '', ['dataset_tool.py', 'photos', '--resolution=16', '--out=images', '--force']),
    (1, '', ['dataset_tool.py', 'photos', '--resolution=16', '--out=.', '--force']),
    (1, '', ['dataset_tool.py', 'photos', '--resolution=16', '--out=notes.txt', '--force']),
    (1, '', ['dataset_tool.py', 'photos', '--resolution=64', '--out=data/photos', '--force']),
    (0, '', ['dataset_tool.py', 'verify', 'data/photos']),
    (1, '', ['dataset_tool.py', 'verify', 'instances']),
    (0, '', [*TRAIN, '--run-dir=trained', '--dry-run']),
    (2, '', [*TRAIN, '--run-dir=trained', '--metrics=foo']),
    (0, '', [*TRAIN, '--run-dir=trained']),
    (0, 'trained/', [*TRAIN, '--run-dir=trained']),
    (1, '', [*TRAIN, '--run-dir=trained', '--learning-rate=1']),
    (1, '', [*TRAIN, '--run-dir=images']),
    (1, '', [*TRAIN, '--run-dir=.']),
    (1, '', [*TRAIN, '--run-dir=notes.txt']),
    (0, '', ['run_metrics.py', RUN, '--num-images=8']),
    (0, 'run/metrics.jsonl', ['run_metrics.py', RUN, '--num-images=8']),
    (1, '', ['run_metrics.py', RUN, '--metrics=fid', '--dataset=nowhere']),
    (1, '', ['run_metrics.py', '--run=instances']),
    (0, '', ['run_generator.py', RUN, '--side=2']),
    (0, 'run/pictures/', ['run_generator.py', RUN, '--side=2']),
    (0, '', ['run_generator.py', RUN, '--side=2', '--out=images']),
    (1, '', ['run_generator.py', RUN, '--side=2', '--out=images']),
    (1, '', ['run_generator.py', RUN, '--side=2', '--out=notes.txt']),
    (0, '', ['run_generator.py', '--instance=instances/alice', '--side=2', '--out=drawn']),
    (1, '', ['run_generator.py', '--instance=instances/alice', '--side=2', '--out=drawn']),
    (1, '', ['run_generator.py', '--instance=instances/alice', '--side=2', '--out=images']),
    (1, '', ['run_release.py', 'demo', '--out=.']),
    *((code, may_change, ['run_release.py', *words.split()]) for code, may_change, words in [
        (3, '', f'attribute photos {RUN} --json --out=grown.jsonl --resume --fpr=1e-4 --search --collusion'),
        (3, '', f'attribute photos {RUN} --json --out=grown.jsonl --resume --fpr=1e-4 --search --collusion'),
        (1, '', f'attribute photos {RUN} --json --out=notes.txt --resume'),
        (1, '', f'attribute photos {RUN} --json --out=registry.sqlite --resume'),
        (3, 'registry.sqlite', f'attribute photos {RUN} --record --fpr=1e-4'),
        (3, '', f'detect photos {RUN} --fpr=1e-4'),
        (1, '', f'attribute-beam photos {RUN} --out=beamed --working-folder=images'),  # also where Beam is missing
        (2, '', f'attribute-beam photos {RUN} --out=beamed --fpr=2'),
        (1, '', f'report photos/0.png {RUN} --out=report.html --innocents=images'),
        (3, '', f'report photos/0.png {RUN} --out=report.html --innocents=other --images=4 --redraw=0'),
        (1, '', f'report photos/0.png {RUN} --out=report.html --innocents=other --images=4 --redraw=0'),
        (2, '', f'report photos/0.png {RUN} --out=notes.txt'),
        (2, '', f'report photos/0.png {RUN} --out=report2.html --images=0'),
        (0, '', 'make-certificate certificates --organisation=Owner'),
        (1, '', 'make-certificate certificates --organisation=Owner'),
        (1, '', 'make-certificate images --organisation=Owner'),
        (1, '', f'stamp photos/0.png {RUN} --certificate=certificates --out=stamped'),  # it names nobody
        (1, '', f'stamp photos/0.png {RUN} --certificate=certificates --out=notes.txt'),
        (1, '', f'stamp photos/0.png {RUN} --certificate=images --out=images'),
        (1, '', f'selftest instances/alice/1 {RUN}'),
        (1, '', f'reissue alice {RUN}'),
        (0, '', f'reissue alice {RUN} --out=again'),
        (1, '', f'reissue zoe {RUN} --out=again'),
        (0, '', 'signing-key signing.pem'),
        (1, '', 'signing-key signing.pem'),
        (1, '', 'signing-key notes.txt'),
        (1, '', 'verify-instance instances/alice/1 --public-key=signing.pem.pub'),
        (0, '', 'serve-config'),
        (0, 'serving/', 'serve-config --base=/models'),
        (1, '', 'serve-config --out=.'),  # whose models.config is the owner's
        (1, '', 'serve-config --out=notes.txt'),
        (0, '', f'export-decoder {RUN}'),
        (1, '', f'export-decoder {RUN}'),
        (1, '', f'export-decoder {RUN} --out=images'),
        (0, '', 'key key --name=example.com/books'),
        (1, '', 'key key --name=example.com/books'),
        (1, '', 'key notes.txt --codes'),
        (0, 'registry.sqlite', 'checkpoint --key=key --out=note'),
        (1, '', 'checkpoint --key=key --out=note'),
        (0, '', 'prove 3 --checkpoint=note --out=proof'),
        (1, '', 'prove 3 --checkpoint=note --out=notes.txt'),
        (0, '', 'check-proof proof --public-key=key.pub'),
        (0, '', 'verify --checkpoint note --public-key=key.pub'),
        (0, '', 'timestamp note --request=request.tsq'),
        (1, '', 'timestamp note --request=notes.txt'),
        (0, '', 'history'),
        (0, '', 'code alice'),
        (0, 'registry.sqlite', 'export exported.jsonl'),
        (1, '', 'export exported.jsonl'),
        (0, '', 'import exported.jsonl --registry=copy.sqlite'),
        (1, '', 'import exported.jsonl --registry=copy.sqlite'),
        (1, '', 'import exported.jsonl --registry=notes.txt'),
        (0, 'registry.sqlite', 'misuse alice --reason=sold'),
        (0, '', 'deadlines'),
        (0, '', 'notice alice --out=letter'),
        (1, '', 'notice alice --out=notes.txt'),
        (1, '', f'register {RUN}'),
        (0, 'books.sqlite', f'register {RUN} --registry=books.sqlite'),
        (0, 'books.sqlite', 'abandon cid --registry=books.sqlite'),
        (1, '', 'abandon cid --registry=books.sqlite'),
        (0, 'old.sqlite', 'upgrade --registry=old.sqlite'),
        (0, '', 'upgrade --registry=old.sqlite'),
        (1, '', 'upgrade --registry=notes.txt')]),
]


def test_every_command_there_is_is_in_the_list():
    (commands,) = [action.choices for action in run_release.make_parser()._actions if action.dest == 'command']
    tried = {words[1] for _, _, words in COMMANDS if words[0] == 'run_release.py'}
    assert tried == set(commands) and {words[0] for _, _, words in COMMANDS} == set(SCRIPTS)


def test_no_command_removes_or_changes_what_it_has_not_made(place):
    photographs = np.random.default_rng(0).integers(0, 256, [20, 16, 16, 3]).astype(np.uint8)
    write_dataset('other', 'noise', 'made', photographs[:4], photographs[4:])
    books = Registry('books.sqlite', create=True)
    books.register_model('a' * 64, 16)
    leave_reservation(books, 'cid', 'a' * 64, 16)
    old_registry('old.sqlite')
    for expected, may_change, words in COMMANDS:
        before = tree(place)
        code = call(*words)
        assert code == expected, (words, code)
        after = tree(place)
        lost = [name for name, digest in before.items() if after.get(name) != digest
                and not (may_change and name.startswith(may_change))]
        assert not lost, (words, lost)
        assert expected in (0, 3) or after == before, (words, set(after) - set(before))
    assert all((place / name).read_text() == f'this is {name}' for name in OWN)


def test_a_dataset_with_anything_else_in_its_folder_is_not_replaced(place, capsys):
    words = ['dataset_tool.py', 'photos', '--resolution=16', '--out=data/photos', '--force', '--list-skipped']
    assert call(*words) == 0
    assert 'skipped "a text.txt": not an image' in capsys.readouterr().out
    (place / 'data' / 'photos' / 'thesis.txt').write_text('years of work')
    assert call(*words) == 1
    assert (place / 'data' / 'photos' / 'thesis.txt').read_text() == 'years of work'


def test_skipped_files_are_listed_when_none_is_left(place, capsys):
    assert call('dataset_tool.py', 'photos', '--resolution=32', '--list-skipped') == 1
    printed = capsys.readouterr().out
    assert 'skipped 3.png: smaller than 32x32' in printed and len(printed.splitlines()) == 5


def test_splits_too_small_to_be_useful_are_noted(place, capsys):
    assert call('dataset_tool.py', 'photos', '--resolution=16', '--max-images=2') == 0
    printed = capsys.readouterr().out
    assert 'one image to train on is too few' in printed and 'no images are held out' not in printed
    assert call('dataset_tool.py', 'photos', '--resolution=16', '--eval-fraction=0', '--force') == 0
    assert 'no images are held out' in capsys.readouterr().out


def start(*words):
    """Starts a script that gives way to this process: on a busy machine it would be done before it can be ended."""
    return subprocess.Popen([sys.executable, os.path.join(ROOT, words[0]), *words[1:]], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=lambda: os.nice(10))


def when_begun(process, folder, name):
    """Waits until the process has begun a temporary folder for `name`."""
    for _ in range(100 * PATIENCE):
        if os.path.isdir(folder) and [one for one in os.listdir(folder)
                                      if one.startswith(f'.{name}-') and one.endswith('.incomplete')]:
            return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError(f'it did not begin within {PATIENCE} seconds')


ISSUE = ('run_release.py', 'issue', 'zoe', RUN, UNTESTED)
MAKE = ('dataset_tool.py', 'digits')


# With its self-test, which keeps it busy while the folder is not in place yet.
@pytest.mark.parametrize('words, folder, name', [(ISSUE[:-1], 'instances', 'zoe'), (MAKE, 'data', 'digits')])
def test_sigterm_cleans_up(place, words, folder, name):
    before = tree(place)
    process = when_begun(start(*words), folder, name)
    process.terminate()
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143 and error == f'{words[0]}: terminated\n'
    left = {one for one in tree(place) if one not in before}
    assert not [one for one in left if name in one], left


@pytest.mark.parametrize('words, folder, name', [(ISSUE, 'instances', 'zoe'), (MAKE, 'data', 'digits')])
def test_after_kill_9_the_same_command_works_and_cleans_up(place, words, folder, name):
    before = tree(place)
    process = when_begun(start(*words), folder, name)
    process.kill()
    process.communicate()
    assert call(*words) == 0
    after = tree(place)
    assert not [one for one in after if one.endswith('.incomplete')]
    assert all(after[one] == digest for one, digest in before.items())
    if words is ISSUE:
        assert [user.name for user in Registry('registry.sqlite').list()] == ['zoe']


METRICS = ('run_metrics.py', RUN, '--num-images=64', '--metrics=' + ','.join(['bit_accuracy'] * 99))
DRAW = ('run_generator.py', '--instance=instances/alice', '--side=64', '--out=drawn')


@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_measuring_that_is_ended_leaves_whole_lines(place, number, code):
    before = tree(place)
    process = start(*METRICS)
    first = process.stdout.readline()
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == code and error == ('run_metrics.py: terminated\n' if code > 0 else '')
    after = tree(place)
    assert set(after) - set(before) == {'run/metrics.jsonl'} and before.items() <= after.items()
    assert json.loads(first) in [json.loads(line) for line in (place / 'run' / 'metrics.jsonl').open()]


@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_drawing_that_is_ended_leaves_no_half_folder(place, released, number, code):
    shutil.copytree(os.path.join(released[2], 'alice'), 'instances/alice')
    before = tree(place)
    process = when_begun(start(*DRAW), '.', 'drawn')
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == code and error == ('run_generator.py: terminated\n' if code > 0 else '')
    assert code < 0 or tree(place) == before
    assert call(*DRAW[:2], '--side=2', '--out=drawn') == 0
    assert {name for name in tree(place) if name not in before} == {'drawn', *(
        f'drawn/{name}.png' for name in ('0000', '0001', '0002', '0003', 'grid'))}


ENDED = '''
import os, runpy, signal, sys
number, change = int(sys.argv.pop(1)), os.chmod
os.chmod = lambda *what: (os.kill(os.getpid(), number), change(*what))  # what is whole is about to be put in place
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
'''
PUT_IN_PLACE = ['report photos/0.png --run=run --images=2 --redraw=0 --out=report.html', 'signing-key signing.pem',
          'key key --name=example.com/books', 'key key --codes', 'export exported.jsonl', 'serve-config',
          'notice alice --out=letter', 'attribute photos --run=run --csv --out=results.csv',
          'timestamp notes.txt --request=request.tsq', 'make-certificate certificates --organisation=Owner',
          'reissue alice --run=run --out=again', 'export-decoder --run=run']


@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
@pytest.mark.parametrize('words', PUT_IN_PLACE)
def test_a_file_is_there_as_a_whole_or_not_at_all(place, released, words, number, code):
    shutil.copy(released[1].location, 'registry.sqlite')
    shutil.copytree(released[0], 'run', dirs_exist_ok=True)
    before = tree(place)
    script = os.path.join(ROOT, 'run_release.py')
    done = subprocess.run([sys.executable, '-c', ENDED, str(int(number)), script, *words.split()], text=True,
                          capture_output=True, env={**os.environ, 'PYTHONPATH': ROOT})
    assert done.returncode == code and done.stderr == ('run_release.py: terminated\n' if code > 0 else ''), done
    after = tree(place)
    new = [name for name in after if before.get(name) != after[name]
           and name not in ('serving', 'again', 'registry.sqlite')]
    assert all('.incomplete' in name and code < 0 for name in new), new
    assert call('run_release.py', *words.split()) in (0, 1, 3)
    assert not [name for name in tree(place) if '.incomplete' in name]


ENDED_BETWEEN = '''
import os, runpy, signal, sys
number, change, done = int(sys.argv.pop(1)), os.chmod, []
def chmod(*what):  # the first file is in place, the second one is about to be
    if done:
        os.kill(os.getpid(), number)
    done.append(change(*what))
os.chmod = chmod
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
'''


@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
@pytest.mark.parametrize('words', ['signing-key made', 'key made --name=example.com/books'])
def test_a_key_without_its_public_half_gets_it_by_the_same_command(place, capsys, words, number, code):
    script = os.path.join(ROOT, 'run_release.py')
    done = subprocess.run([sys.executable, '-c', ENDED_BETWEEN, str(int(number)), script, *words.split()], text=True,
                          capture_output=True, env={**os.environ, 'PYTHONPATH': ROOT})
    assert done.returncode == code, done
    assert os.path.exists('made') and not os.path.exists('made.pub')  # never the half of a key that there is not
    before = open('made').read()
    assert call('run_release.py', *words.split()) == 0
    assert 'the key was there already, without its public half; keep made apart' in capsys.readouterr().out
    assert open('made').read() == before and open('made.pub').read() == public_half(before)
    assert os.stat('made').st_mode & 0o077 == 0 and not [name for name in tree(place) if '.incomplete' in name]
    assert call('run_release.py', *words.split()) == 1
    os.remove('made')  # whoever keeps the key elsewhere has only the public half here
    kept = open('made.pub').read()
    assert call('run_release.py', *words.split()) == 1
    assert open('made.pub').read() == kept and not os.path.exists('made')


def public_half(text):
    """Of a key in PEM, as OpenSSL has it; of a note's, by the Ed25519 of cryptography."""
    if text.startswith('-----'):
        return subprocess.run(['openssl', 'pkey', '-pubout'], input=text, capture_output=True, text=True).stdout
    name, _, seed = text[len('PRIVATE+KEY+'):].strip().split('+', 2)
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed)[1:]).public_key()
    data = b'\1' + key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    identity = hashlib.sha256(f'{name}\n'.encode() + data).hexdigest()[:8]
    return f'{name}+{identity}+{base64.b64encode(data).decode()}\n'


def test_a_key_of_another_name_or_kind_is_not_completed(place):
    assert call('run_release.py', 'key', 'made', '--name=example.com/books') == 0
    os.remove('made.pub')
    assert call('run_release.py', 'key', 'made', '--name=example.com/others') == 1
    assert call('run_release.py', 'signing-key', 'made') == 1
    assert not os.path.exists('made.pub')


@pytest.fixture
def disk(place):
    """Mounts a file system that is full, or one that is read-only, at PLACE/disk."""
    mounted = []

    def mount(options, fill=True):
        os.makedirs('disk', exist_ok=True)
        done = subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'none', 'disk'], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f'a file system cannot be mounted here: {done.stderr.strip()}')
        mounted.append(str(place / 'disk'))
        if fill and options != 'ro':
            with pytest.raises(OSError), open('disk/filler', 'wb', buffering=0) as file:
                while True:
                    file.write(bytes(1024))

    yield mount
    for path in mounted:
        subprocess.run(['umount', '--lazy', path], check=True)


WRITING = [('run_release.py', 'issue', 'zoe', RUN, UNTESTED, '--out=disk/instances'),
           ('run_release.py', 'issue', 'zoe', RUN, UNTESTED, '--registry=disk/new.sqlite'),
           ('run_release.py', 'attribute', 'photos', RUN, '--out=disk/a.csv', '--csv'),
           ('dataset_tool.py', 'digits', '--out=disk/digits'),
           ('run_training.py', '--config=quickstart', '--data-dir=data', '--run-dir=disk/trained'),
           ('run_metrics.py', RUN, '--num-images=8'),
           ('run_generator.py', RUN, '--side=2', '--out=disk/pictures'),
           ('run_generator.py', '--instance=instances/alice', '--side=2', '--out=disk/drawn'),
           ('run_release.py', 'attribute', 'photos', RUN, '--json', '--resume', '--out=disk/grown'),
           ('run_release.py', 'report', 'photos/0.png', RUN, '--images=2', '--redraw=0', '--out=disk/report.html'),
           ('run_release.py', 'make-certificate', 'disk/certificates', '--organisation=Owner'),
           ('run_release.py', 'reissue', 'alice', RUN, '--out=disk/instances'),
           ('run_release.py', 'signing-key', 'disk/signing.pem'),
           ('run_release.py', 'serve-config', '--out=disk/serving'),
           ('run_release.py', 'export-decoder', RUN, '--out=disk/decoder')]


@pytest.mark.parametrize('words', WRITING, ids=lambda words: ' '.join(words[:2]) + words[-1])
@pytest.mark.parametrize('options, reason', [('size=16k', 'No space left|is full'),
                                             ('ro', 'Read-only file system|cannot be written|cannot be opened')])
def test_a_disk_that_takes_nothing_is_told_in_one_line(place, disk, words, options, reason):
    call('run_release.py', 'issue', 'alice', RUN, UNTESTED)
    os.symlink('../disk/metrics.jsonl', 'run/metrics.jsonl')
    disk(options)
    before = tree('disk')
    module = SCRIPTS[words[0]]
    with pytest.raises(Exception) as caught:
        module.main(module.make_parser().parse_args(words[1:]))
    line = str(caught.value) if isinstance(caught.value, UserError) else cli.refused(caught.value)
    assert re.search(reason, line) and '\n' not in line, line
    assert re.search(r'\bdisk\b|run/metrics.jsonl', line), line  # which file, or folder, is told
    left = {one for one, digest in tree('disk').items() if before.get(one) != digest}
    assert left <= {'instances', 'new.sqlite', 'trained', 'trained/.lock0', 'pictures', 'metrics.jsonl',
                    'grown', 'serving'}, left
    assert [user.name for user in Registry('registry.sqlite').list()] == ['alice']


@pytest.mark.parametrize('size, words, named', [
    ('24k', (*ISSUE, '--out=disk/instances'), 'disk/instances/zoe'),
    ('24k', (*TRAIN, '--run-dir=disk/trained'), 'disk/trained/'),
    ('120k', (*TRAIN, '--run-dir=disk/trained'), 'disk/trained/'),
    ('320k', ('run_release.py', 'issue', 'zoe', '--run=disk/run', UNTESTED), 'disk/run/released/')])
def test_a_disk_that_fills_up_is_told_with_the_file(place, disk, size, words, named):
    """Room for the first files, and for some of the next: of an instance, of a training, of a run's released model."""
    assert call('dataset_tool.py', 'photos', '--resolution=16', '--eval-fraction=0') == 0
    disk(f'size={size}', fill=False)
    if named.startswith('disk/run'):
        shutil.copytree('run', 'disk/run', ignore=shutil.ignore_patterns('released'))
    module = SCRIPTS[words[0]]
    with pytest.raises(Exception) as caught:
        module.main(module.make_parser().parse_args(words[1:]))
    line = cli.refused(caught.value)
    assert line and named in line and 'No space left on device; make room' in line and '\n' not in line, line
