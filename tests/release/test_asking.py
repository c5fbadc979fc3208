"""attribute and detect on many pictures, with a decoder that reads a bit from each pixel of the top row."""
import collections
import fcntl
import io
import itertools
import json
import os
import signal
import tarfile
import time
import tracemalloc
import types

import numpy as np
import pytest
from PIL import Image

import run_release
from dnnlib.images import MAX_FILE_BYTES
from dnnlib.util import UsageError, UserError
from fingerprints.evidence import pool, soft_p_values
from fingerprints.registry import Registry
from helpers import make_registry
from release import attribute, reading
from release.inputs import Input

BITS = 16
CODES = {'alice': np.tile([1, 0], 8), 'bob': np.repeat([1, 0], 8)}


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry with users alice and bob of the codes above, of a model without networks."""
    made = make_registry(str(tmp_path / 'registry.sqlite'), 'm' * 64, CODES)
    model = types.SimpleNamespace(resolution=BITS, decode=lambda images: images[:, 0, :, 0])
    snapshot = types.SimpleNamespace(digest='m' * 64, kimg=1, model=lambda batch: model)
    monkeypatch.setattr(attribute, 'released_snapshot', lambda run_dir, registry: snapshot)
    return made


@pytest.fixture
def command(registry, tmp_path, monkeypatch):
    """Runs run_release.py in this process, in a folder of its own; returns its exit code."""
    os.mkdir(tmp_path / 'here')
    monkeypatch.chdir(tmp_path / 'here')

    def run(name, *words):
        words = [name, '--run=run', f'--registry={registry.location}', '--fpr=1e-3', *map(str, words)]
        return run_release.main(run_release.make_parser().parse_args(words))
    return run


def draw(name, code, wrong=(), unsure=(), edit=lambda pixels: pixels):
    """Saves a picture whose top row shows a code, some bits of it wrong, some near the middle."""
    rng = np.random.default_rng(len(str(name)))
    pixels = rng.integers(0, 256, [BITS, BITS, 3]).astype(np.uint8)
    shown = np.array(code) != np.isin(np.arange(BITS), wrong)
    pixels[0] = np.where(np.isin(np.arange(BITS), unsure), np.where(shown, 140, 115), 255 * shown)[:, None]
    Image.fromarray(np.ascontiguousarray(edit(pixels))).save(name)
    return name


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def enlarged(pixels):
    return pixels.repeat(8, axis=0).repeat(8, axis=1)


def letterboxed(pixels):
    return np.pad(np.maximum(enlarged(pixels), 40), ((61, 0), (0, 0), (0, 0)))


def test_pictures_of_other_sizes_are_named_and_each_way_counts(command, capsys):
    names = [draw('same.png', CODES['alice']), draw('large.png', CODES['alice'], edit=enlarged),
             draw('boxed.png', CODES['alice'], edit=letterboxed), draw('tiny.png', CODES['alice'],
                                                                       edit=lambda pixels: pixels[:7])]
    assert command('attribute', '--json', *names) == 1
    same, large, boxed, tiny = records(capsys.readouterr().out)
    assert [one['user'] for one in (same, large, boxed)] == ['alice'] * 3
    assert [(one['alignment'], one['tried']) for one in (same, large, boxed)] == [
        (None, 1), ('resized', 1), ('borders trimmed, resized', 3)]
    assert [one['p_value'] * 2 ** 16 for one in (same, large, boxed)] == [2, 2, 6]
    assert tiny['error'].startswith("is 16x7, less than half the side of the model's 16x16")
    command('attribute', names[2], '--alignments')
    assert 'borders trimmed, resized  16 of 16 bits match  p 0.0015, corrected for 2 users and 48 alignments' in \
        capsys.readouterr().out


def test_results_come_in_order_however_long_each_takes():
    def slow(one):
        time.sleep(0.01 if int(one.path) % 7 == 0 else 0)
        return one.path
    numbers = [str(number) for number in range(300)]
    assert list(reading.in_order(slow, map(Input, numbers))) == numbers


def test_no_more_is_read_ahead_than_is_said():
    taken = []

    def inputs(held):
        for number in range(1000):
            taken.append(number)
            yield Input(str(number), held=held)
    for held, most in ((0, reading.AHEAD + 1), (MAX_FILE_BYTES // 3, 4)):
        taken.clear()
        results = reading.in_order(lambda one: one.path, inputs(held))
        assert next(results) == '0' and len(taken) == most
        assert next(results) == '1' and len(taken) == most + 1
        results.close()


def test_any_number_of_pictures_takes_the_same_memory(registry, tmp_path):
    """After the first thousand nothing more is kept: a Result alone has more than a kilobyte, a picture 768 bytes."""
    with open(draw(tmp_path / 'one.png', CODES['alice']), 'rb') as file:
        data = file.read()
    inputs = (Input(f'{number}.png', load=lambda: data) for number in range(2000))
    results, seen = attribute.Attributor('run', registry)(inputs, 1e-3), collections.Counter()
    tracemalloc.start()
    seen.update(result.attribution.user for result in itertools.islice(results, 1000))
    first = tracemalloc.get_traced_memory()[1]
    seen.update(result.attribution.user for result in results)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == {'alice': 2000} and most < first + (400 << 10)


def test_a_failure_while_reading_ends_it():
    def fail(one):
        raise KeyError(one.path)
    with pytest.raises(KeyError, match='0'):
        next(reading.in_order(fail, map(Input, '0123')))


def test_members_of_archives_are_named(command, capsys):
    draw('a.png', CODES['alice'])
    draw('b.png', CODES['bob'])
    with tarfile.open('evidence.tar.gz', 'w:gz') as archive:
        archive.add('b.png')
        archive.add('a.png')
        archive.addfile(tarfile.TarInfo('c\nd.png'), io.BytesIO())
    assert command('attribute', 'evidence.tar.gz') == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('  ')[0] for line in lines[:2]] == [
        '"evidence.tar.gz!b.png": user bob', '"evidence.tar.gz!a.png": user alice']
    assert lines[2] == '"evidence.tar.gz!c\\nd.png": error: not an image' and len(lines) == 4


# --- soft and together ---

def test_soft_lets_surely_read_bits_count_more(command, capsys):
    """Three bits are wrong, all of them unsure: too many of 16, but little by weight. Oracle: fingerprints.evidence."""
    name = draw('a.png', CODES['alice'], wrong=(3, 8, 9), unsure=(3, 8, 9, 12))
    assert command('attribute', '--json', name) == 3
    assert command('attribute', '--json', '--soft', name) == 0
    hard, soft = records(capsys.readouterr().out)
    assert (hard['user'], hard['matching'], hard['weight'], hard['soft']) == (None, 13, None, False)
    assert (soft['user'], soft['matching'], soft['threshold'], soft['soft']) == ('alice', 13, None, True)
    logits = np.asarray(Image.open(name))[0, :, 0] / 127.5 - 1
    assert soft['p_value'] == pytest.approx(2 * soft_p_values(logits, CODES['alice'][None])[0])
    assert soft['weight_needed'] <= soft['weight'] < soft['weight_total']
    command('attribute', '--soft', name)
    assert '13 of 16 bits match, 9' in capsys.readouterr().out


def test_pictures_of_one_source_name_together_whom_none_names_alone(command, capsys):
    wrong = ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11))
    names = [draw(f'{number}.png', CODES['bob'], bits) for number, bits in enumerate(wrong)]
    assert command('attribute', *names) == 3
    capsys.readouterr()
    assert command('attribute', '--together', '--json', *names) == 0
    (together,) = records(capsys.readouterr().out)
    assert (together['user'], together['matching'], together['image']) == ('bob', 16, '3 images together')
    assert together['p_value'] == 2 * 2.0 ** -16 and [one['image'] for one in together['images']] == names
    assert command('attribute', '--together', *names, 'none.png') == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'none.png: error: does not exist' and lines[1].startswith('"3 images together": user bob')
    logits = [np.asarray(Image.open(name))[0, :, 0] / 127.5 - 1 for name in names]
    command('attribute', '--together', '--soft', '--json', *names)
    soft = records(capsys.readouterr().out)[0]
    assert soft['p_value'] == pytest.approx(2 * soft_p_values(pool(np.array(logits)), CODES['bob'][None])[0])


@pytest.mark.parametrize('edits, choice', [
    (('', '', ''), 'as it is'), (('turned',) * 3, 'turned by 180°'), (('negative',) * 3, 'mirrored'),
    (('', 'turned', ''), 'each as it is read most surely')])
def test_pictures_of_one_source_are_aligned_alike_or_each_as_read_most_surely(command, capsys, edits, choice):
    """Grey but for the top row: from what was turned nothing is read surely, from a negative all bits wrong.

    Bob's code mirrored is its own negative, so that mirroring undoes that too, and comes before inverting. 16
    alignments and two choices by sureness are 18 comparisons.
    """
    def edited(edit):
        def apply(pixels):
            pixels[1:] = 120
            return {'': pixels, 'turned': pixels[::-1, ::-1], 'negative': 255 - pixels}[edit]
        return apply
    names = [draw(f'{number}.png', CODES['bob'], (5 + number,), edit=edited(edit)) for number, edit in enumerate(edits)]
    assert command('attribute', '--together', '--alignments', '--json', *names) == 0
    (together,) = records(capsys.readouterr().out)
    assert (together['user'], together['alignment'], together['tried']) == ('bob', choice, 18)
    assert together['p_value'] == pytest.approx(2 * 18 * 2.0 ** -16)


# --- detect ---

def test_detect_tells_the_public_nothing_but_yes_or_not_known(command, registry, capsys):
    names = [draw('a.png', CODES['alice']), draw('none.png', CODES['alice'], wrong=range(0, 16, 2)),
             draw('both.png', CODES['bob'])]
    events = registry.size()
    assert command('detect', *names, 'absent.png') == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        'a.png: made by this model', 'none.png: not known to be made by this model', 'both.png: made by this model',
        'absent.png: error: does not exist',
        '4 images: 2 made by this model, 1 not known to be made by this model, 1 error']
    assert command('detect', '--json', names[0]) == 0 and command('detect', '--json', names[1]) == 3
    first, second = records(capsys.readouterr().out)
    assert first['made_by_this_model'] is True and second['made_by_this_model'] is False
    assert set(first) == {'image', 'sha256', 'made_by_this_model', 'fpr', 'model_digest', 'version'}
    assert Registry(registry.location).size() == events
    assert not any(name in printed.out + printed.err for name in CODES)
    with pytest.raises(SystemExit):
        command('detect', '--record', names[0])


def test_a_picture_of_two_users_was_made_by_this_model(command, monkeypatch, capsys):
    codes = Registry.codes
    monkeypatch.setattr(Registry, 'codes', lambda *of: (codes(*of)[0], codes(*of)[1][[0, 0]]))
    assert command('detect', draw('a.png', CODES['alice'])) == 0
    assert capsys.readouterr().out.startswith('a.png: made by this model\n')


# --- resume ---

@pytest.fixture
def many(command, capsys):
    """A folder of 150 pictures and one that is none, and what an uninterrupted command finds in it."""
    os.mkdir('many')
    for number in range(150):
        draw(f'many/{number:03}.png', CODES['alice' if number % 3 else 'bob'], wrong=range(number % 5))
    with open('many/050b.png', 'w') as file:
        file.write('no image')
    code = command('attribute', 'many', '--json', '--out=whole.jsonl', '--resume')
    with open('whole.jsonl') as file:
        return code, file.read(), capsys.readouterr().out


@pytest.mark.parametrize('left', [0, 1, 777, 30_000])
def test_it_goes_on_where_it_was(command, many, capsys, left):
    code, whole, summary = many
    with open('part.jsonl', 'w') as file:
        file.write(whole[:left])
    assert command('attribute', 'many', '--json', '--out=part.jsonl', '--resume') == code == 1
    assert open('part.jsonl').read() == whole and whole.count('\n') == 151
    assert capsys.readouterr().out == summary and summary.startswith('151 images: 90 nobody, 60 named (')


def read_slowly(one, side):
    time.sleep(0.01)
    return reading.read_picture(one, side)


def test_after_kill_9_the_same_command_ends_with_the_same_file(command, many, monkeypatch):
    code, whole, _ = many
    for least in (1, 70, 130):
        pid = os.fork()
        if not pid:
            monkeypatch.setattr(attribute, 'read_picture', read_slowly)
            command('attribute', 'many', '--json', '--out=killed.jsonl', '--resume')
            signal.pause()  # on a busy machine it may be done before it is killed
        while not os.path.exists('killed.jsonl') or open('killed.jsonl').read().count('\n') < least:
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        assert whole.startswith(open('killed.jsonl').read().rpartition('\n')[0])
    assert command('attribute', 'many', '--json', '--out=killed.jsonl', '--resume') == code
    assert open('killed.jsonl').read() == whole


def test_a_file_of_other_results_is_left_as_it_is(command, many, registry):
    _, whole, _ = many
    first = whole.splitlines(keepends=True)[0]
    for begun, words, said in (
            (whole, ['many/001.png'], r"line 1, is about 'many/000.png', not 'many/001.png'"),
            (whole, ['many/000.png'], "line 2, is about 'many/001.png', not 'nothing more'"),
            (whole, ['many', '--alignments'], 'line 1, was found with alignments 1, and now it is 16'),
            (first.replace('"users": 2', '"users": 3'), ['many'], 'found with users 3, and now it is 2'),
            ('half a line of notes', ['many'], 'line 1, is no result'), ('SQLite\0', ['many'], 'line 1, is no result'),
            (first + 'half a line of notes', ['many'], 'line 2, is no result'),
            ('[]\nhalf a line', ['many'], 'line 1, is no result'),
            ('[]\n', ['many'], 'line 1, is no result'), ('\xff{\n', ['many'], 'line 1, is no result')):
        with open('other.jsonl', 'w', encoding='latin-1') as file:
            file.write(begun)
        with pytest.raises(UserError, match=said):
            command('attribute', *words, '--json', '--out=other.jsonl', '--resume')
        assert open('other.jsonl', encoding='latin-1').read() == begun


def test_resume_needs_json_and_a_file_of_its_own(command):
    for words in ([], ['--json'], ['--out=x.jsonl'], ['--json', '--out=x.jsonl', '--together']):
        with pytest.raises(UsageError, match='--resume adds JSON lines to a file'):
            command('attribute', 'x.png', '--resume', *words)
    with open('x.jsonl', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='x.jsonl is being written by another command'):
            command('attribute', 'x.png', '--json', '--out=x.jsonl', '--resume')
    os.mkdir('folder')
    os.mkfifo('pipe')
    for name in ('folder', 'pipe', '/dev/null'):
        with pytest.raises(UserError, match=f'{name} cannot be written \\(not a regular file\\)'):
            command('attribute', 'x.png', '--json', f'--out={name}', '--resume')
