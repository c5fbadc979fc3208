import contextlib
import errno
import fcntl
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys

import pytest

from dnnlib.cli import refused
from dnnlib.util import (
    Log,
    UserError,
    append_json_line,
    atomic_file,
    atomic_folder,
    format_time,
    keep_json_lines,
    make_folder,
    naming,
    printable,
    private_files,
    progress,
    quoted,
    read_json,
    read_json_lines,
    remove_unfinished,
    sha256_file,
    sha256_folder,
    write_json,
    write_together,
)
from helpers import PATIENCE, ROOT


@pytest.mark.parametrize('seconds, text', [
    (0.04, '0.0s'), (59.94, '59.9s'), (61, '1m 01s'), (3599.6, '1h 00m'), (3600, '1h 00m'), (7 * 3600 + 61, '7h 01m'),
    (4 * 86400 + 11 * 3600, '4d 11h')])
def test_format_time(seconds, text):
    assert format_time(seconds) == text


def test_sha256(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    assert sha256_file(tmp_path / 'a') == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    first = sha256_folder(tmp_path)
    (tmp_path / 'a').rename(tmp_path / 'b')
    renamed = sha256_folder(tmp_path)
    (tmp_path / 'b').write_bytes(b'abd')
    assert len({first, renamed, sha256_folder(tmp_path)}) == 3


def test_atomic_folder(tmp_path):
    with atomic_folder(str(tmp_path / 'done')) as folder:
        open(os.path.join(folder, 'x'), 'w').close()
        assert not (tmp_path / 'done').exists()
    assert os.listdir(tmp_path / 'done') == ['x']
    with pytest.raises(UserError, match='exists already'):
        with atomic_folder(str(tmp_path / 'done')):
            pass
    with pytest.raises(ZeroDivisionError):
        with atomic_folder(str(tmp_path / 'failed')):
            raise ZeroDivisionError
    assert os.listdir(tmp_path) == ['done']


def test_files_and_folders_within_an_unfinished_folder(tmp_path):
    """In a process of its own: to wait for a lock that one holds oneself is to wait for ever."""
    code = """if True:
        import os, sys
        from dnnlib.util import atomic_folder, read_json, write_json
        with atomic_folder(sys.argv[1]) as outer:
            write_json(os.path.join(outer, 'manifest.json'), {'a': 1})
            with atomic_folder(os.path.join(outer, 'inner')) as inner:
                write_json(os.path.join(inner, 'b.json'), {'b': 2})
        print(read_json(os.path.join(sys.argv[1], 'manifest.json')), os.listdir(os.path.join(sys.argv[1], 'inner')))"""
    result = subprocess.run([sys.executable, '-c', code, str(tmp_path / 'made')], cwd=ROOT, timeout=PATIENCE, text=True,
                            capture_output=True)
    assert result.stdout == "{'a': 1} ['b.json']\n", result.stderr


HOLD = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'hold_folder.py')


@pytest.fixture
def hold(tmp_path):
    """Starts a process that has begun tmp_path/x and waits."""
    started = []

    def start():
        environment = {**os.environ, 'PYTHONPATH': os.path.dirname(os.path.dirname(os.path.dirname(HOLD)))}
        started.append(subprocess.Popen([sys.executable, HOLD, str(tmp_path / 'x')], text=True, env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        assert started[-1].stdout.readline() == 'begun\n', started[-1].stderr.read()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize('number, code, line', [
    (signal.SIGTERM, 143, 'terminated'), (signal.SIGINT, 130, 'interrupted')])
def test_signals_leave_nothing_behind(hold, tmp_path, number, code, line):
    process = hold()
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, error) == (code, f'hold_folder.py: {line}\n') and os.listdir(tmp_path) == []


def make(path):
    with atomic_folder(str(path)):
        pass


def test_what_kill_9_leaves_is_removed_by_the_next_call(hold, tmp_path):
    process = hold()
    process.kill()
    process.communicate()
    (leftover,) = os.listdir(tmp_path)
    assert leftover.startswith('.x-') and leftover.endswith('.incomplete') and os.listdir(tmp_path / leftover)
    make(tmp_path / 'other')
    assert sorted(os.listdir(tmp_path)) == [leftover, 'other']
    make(tmp_path / 'x')
    assert sorted(os.listdir(tmp_path)) == ['other', 'x']


def test_a_living_process_keeps_its_temporary_folder(hold, tmp_path):
    process = hold()
    make(tmp_path / 'x')
    assert len(os.listdir(tmp_path)) == 2
    _, error = process.communicate('\n', timeout=PATIENCE)
    assert process.returncode == 1 and 'x exists already' in error
    assert os.listdir(tmp_path) == ['x'] and os.listdir(tmp_path / 'x') == []


def test_what_merely_looks_like_a_leftover_is_kept(tmp_path):
    names = ['.x-abcdefgh', '.x-y-abcdefgh.incomplete', '.x-abc.incomplete', 'x-abcdefgh.incomplete',
             '.y-abcdefgh.incomplete', '.x-abcdefgh.incomplete.bak']
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / 'elsewhere').mkdir()
    os.symlink('elsewhere', tmp_path / '.x-abcdefg1.incomplete')
    before = sorted(os.listdir(tmp_path))
    make(tmp_path / 'x')
    assert sorted(os.listdir(tmp_path)) == sorted(before + ['x'])


def test_without_locks_nothing_is_taken_for_a_leftover(tmp_path, monkeypatch):
    """As on some network file systems."""
    def fail(*_):
        raise OSError(errno.ENOLCK, 'No locks available')
    monkeypatch.setattr(fcntl, 'flock', fail)
    (tmp_path / '.x-abcdefgh.incomplete').mkdir()
    make(tmp_path / 'x')
    assert sorted(os.listdir(tmp_path)) == ['.x-abcdefgh.incomplete', 'x']


def fill(path, content):
    path.mkdir()
    (path / 'file').write_text(content)


def replace(path, content, allowed=True, fail=False):
    with atomic_folder(str(path), may_replace=lambda _: allowed) as folder:
        with open(os.path.join(folder, 'file'), 'w') as file:
            file.write(content)
        if fail:
            raise ZeroDivisionError


def test_a_folder_is_replaced_only_if_allowed_and_when_its_successor_is_whole(tmp_path):
    fill(tmp_path / 'x', 'old')
    with pytest.raises(UserError, match='x holds other things too, so it is not replaced'):
        replace(tmp_path / 'x', 'new', allowed=False)
    with pytest.raises(ZeroDivisionError):
        replace(tmp_path / 'x', 'new', fail=True)
    assert (tmp_path / 'x' / 'file').read_text() == 'old'
    replace(tmp_path / 'x', 'new')
    assert (tmp_path / 'x' / 'file').read_text() == 'new' and os.listdir(tmp_path) == ['x']


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    fill(tmp_path / 'x', 'old')
    renames = []

    def rename(*names):
        renames.append(names)
        if len(renames) == 2:
            raise KeyboardInterrupt
        os.replace(*names)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, 'rename', rename)
        replace(tmp_path / 'x', 'new')
    assert os.listdir(tmp_path) == ['.x.replaced']
    with pytest.raises(UserError, match='exists already'):
        make(tmp_path / 'x')
    assert (tmp_path / 'x' / 'file').read_text() == 'old' and os.listdir(tmp_path) == ['x']


@pytest.mark.parametrize('name, shown', [
    ('data/a-1_b.png', 'data/a-1_b.png'), ('a b.png', '"a b.png"'), ('a\nb', '"a\\nb"'), ('a"b\\c', '"a\\"b\\\\c"'),
    ('a: user bob', '"a: user bob"'), ('ä.png', 'ä.png'), ('\udce4', '"\\xe4"'), ('\ud800', '"\\ud800"'),
    ('\u202e', '"\\u202e"'), ('', '""')])
def test_quoted(name, shown):
    assert quoted(name) == shown


def test_printable():
    assert printable('one line, ünïcode') == 'one line, ünïcode'
    assert printable('a\r\n\x1b[2J\u2028\x7f\x9b') == 'a\\r\\n\\x1b[2J\\u2028\\x7f\\x9b'


def test_atomic_file(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(ZeroDivisionError):
        with atomic_file(str(path)) as file:
            file.write('new')
            raise ZeroDivisionError
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('links', [True, False])
def test_a_new_file_replaces_none(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, 'link', lambda *names: (_ for _ in ()).throw(PermissionError()))
    path = tmp_path / 'file'
    with atomic_file(str(path), new=True) as file:
        file.write('mine')
        assert not path.exists()
    assert path.read_text() == 'mine' and os.listdir(tmp_path) == ['file']
    with pytest.raises(FileExistsError), atomic_file(str(path), new=True):
        raise AssertionError('it was begun')
    path.unlink()
    with pytest.raises(FileExistsError), atomic_file(str(path), new=True) as file:
        path.write_text('another was faster')
    assert path.read_text() == 'another was faster' and os.listdir(tmp_path) == ['file']


def test_what_kill_9_leaves_of_a_file_is_removed_by_the_next_write(tmp_path):
    """And only that: not what another process still writes, nor what merely has such a name."""
    for name in ('.x-abcdefgh.incomplete', '.x-abcdefgh', '.y-abcdefgh.incomplete'):
        (tmp_path / name).write_text('half')
    os.mkfifo(tmp_path / '.x-abcdefg1.incomplete')
    with atomic_file(str(tmp_path / 'x')) as first:
        first.write('first')
        with atomic_file(str(tmp_path / 'x')) as second:
            second.write('second')
        assert (tmp_path / 'x').read_text() == 'second'
    assert (tmp_path / 'x').read_text() == 'first'
    assert sorted(os.listdir(tmp_path)) == ['.x-abcdefg1.incomplete', '.x-abcdefgh', '.y-abcdefgh.incomplete', 'x']


def test_a_file_is_written_within_a_folder_that_is_being_made(tmp_path):
    with atomic_folder(str(tmp_path / 'x')) as folder:
        write_json(os.path.join(folder, 'a.json'), {'n': 1})
        write_json(os.path.join(folder, 'a.json'), {'n': 2})
    assert os.listdir(tmp_path / 'x') == ['a.json'] and read_json(tmp_path / 'x' / 'a.json') == {'n': 2}


@pytest.mark.parametrize('links', [True, False])
def test_files_that_are_written_together_are_all_there_or_none(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, 'link', lambda *names: (_ for _ in ()).throw(PermissionError()))
    paths = [str(tmp_path / name) for name in 'abc']
    contents = {path: path.encode() for path in paths}
    with monkeypatch.context() as patch:
        name, fsync = (os.link, 'link') if links else (os.rename, 'rename'), os.fsync

        def another_was_faster(source, target):
            if target == paths[2]:
                (tmp_path / 'c').write_text('mine')
                raise FileExistsError
            name[0](source, target)
        patch.setattr(os, name[1], another_was_faster)
        with pytest.raises(FileExistsError):
            write_together(contents)
        assert os.listdir(tmp_path) == ['c'] and (tmp_path / 'c').read_text() == 'mine'
        (tmp_path / 'c').unlink()

        def full(descriptor):
            fsync(descriptor)
            if len(os.listdir(tmp_path)) == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(os, 'fsync', full)
        with pytest.raises(OSError) as error:
            write_together(contents)
        assert error.value.filename == paths[2] and os.listdir(tmp_path) == []
    write_together(contents, private=True)
    assert {path: open(path, 'rb').read() for path in paths} == contents and sorted(os.listdir(tmp_path)) == [*'abc']
    assert {mode(path) for path in paths} == {0o600}
    with pytest.raises(FileExistsError) as error:
        write_together({path: b'other' for path in paths})
    assert error.value.filename == paths[0] and (tmp_path / 'a').read_text() == paths[0]


KILLED_AT = '''
import os, signal, sys
from dnnlib.util import write_together

left = [int(sys.argv[1])]

def counted(work):
    def call(*arguments):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return work(*arguments)
    return call

os.fsync, os.link, os.unlink = map(counted, (os.fsync, os.link, os.unlink))
write_together({path: b'first' for path in sys.argv[2:]})
'''


@pytest.mark.parametrize('step', range(9))
def test_of_files_that_a_kill_keeps_apart_none_is_left_to_the_next(tmp_path, step):
    """Killed before each of the 3 fsync, link and unlink of 3 files."""
    paths = [str(tmp_path / name) for name in 'abc']
    killed = subprocess.run([sys.executable, '-c', KILLED_AT, str(step), *paths], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    named, whole = {name for name in os.listdir(tmp_path) if name in 'abc'}, step >= 6
    assert named == set('abc'[:max(0, step - 3)])
    (tmp_path / 'd').write_text('of no set')
    remove_unfinished(paths)
    assert sorted(os.listdir(tmp_path)) == ([*'abcd'] if whole else ['d'])
    if not whole:
        write_together({path: b'second' for path in paths})
        assert {open(path).read() for path in paths} == {'second'}


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize('umask, file_mode, folder_mode', [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_permissions_follow_the_umask_unless_private(tmp_path, umask, file_mode, folder_mode):
    before = os.umask(umask)
    try:
        for name, private in (('open', False), ('secret', True)):
            with atomic_file(str(tmp_path / name), private=private), \
                    atomic_folder(str(tmp_path / f'{name}.d'), private=private):
                make_folder(str(tmp_path / 'parent' / name), private=private)
            with private_files() if private else contextlib.nullcontext():
                (tmp_path / f'{name}.txt').write_text('')
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ('open', 'open.d', 'open.txt', 'parent/open', 'parent')] == [
        file_mode, folder_mode, file_mode, folder_mode, folder_mode]
    assert [mode(tmp_path / name) for name in ('secret', 'secret.d', 'secret.txt', 'parent/secret')] == [
        0o600, 0o700, 0o600, 0o700]


def test_a_folder_that_exists_keeps_its_permissions(tmp_path):
    (tmp_path / 'shared').mkdir(mode=0o755)
    make_folder(str(tmp_path / 'shared'), private=True)
    assert mode(tmp_path / 'shared') == 0o755


def test_a_bar_that_was_not_made_to_the_end_is_closed_silently():
    kind = type(progress([]))
    kind.__new__(kind).__del__()


def test_json(tmp_path):
    path = str(tmp_path / 'x.json')
    write_json(path, {'b': 1, 'a': [2]})
    assert list(read_json(path)) == ['b', 'a']
    (tmp_path / 'x.json').write_text('{')
    with pytest.raises(UserError, match='cannot be read'):
        read_json(path)
    (tmp_path / 'x.json').write_text('[1]')
    with pytest.raises(UserError, match='x.json is damaged: it holds no JSON object'):
        read_json(path)
    with pytest.raises(UserError, match='does not exist'):
        read_json(str(tmp_path / 'y.json'))


def test_json_lines_survive_a_half_written_line(tmp_path):
    path = str(tmp_path / 'x.jsonl')
    assert read_json_lines(path) == []
    for i in range(3):
        append_json_line(path, {'kimg': i})
    with open(path, 'a') as file:
        file.write('{"kimg": 3, "va')
    assert read_json_lines(path) == [{'kimg': 0}, {'kimg': 1}, {'kimg': 2}]
    keep_json_lines(path, lambda record: record['kimg'] < 2)
    append_json_line(path, {'kimg': 2})
    with open(path) as file:
        assert [json.loads(line)['kimg'] for line in file] == [0, 1, 2]


@contextlib.contextmanager
def no_file_larger_than(size):
    """In place of a disk that fills up: the operating system refuses in the same way, without a file's name."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_file(path):
    with atomic_file(path, 'wb') as file:
        file.write(bytes(3 << 16))


def write_folder(path):
    with atomic_folder(path) as folder, open(os.path.join(folder, 'large'), 'wb') as file:
        file.write(bytes(3 << 16))


@pytest.mark.parametrize('write', [write_file, write_folder, lambda path: append_json_line(path, 'x' * (3 << 16))])
def test_what_does_not_fit_on_the_disk_is_named(tmp_path, write):
    path = str(tmp_path / 'made')
    with pytest.raises(OSError) as caught, no_file_larger_than(1 << 16):
        write(path)
    assert caught.value.filename == path and caught.value.errno == errno.EFBIG
    assert refused(caught.value) == f'cannot read or write {path}: File too large; make room or choose another folder'
    assert os.listdir(tmp_path) in ([], ['made'])


def test_the_log_of_a_full_disk_is_named(tmp_path):
    os.symlink('/dev/full', tmp_path / 'log.txt')
    with pytest.raises(OSError) as caught:
        Log(str(tmp_path / 'log.txt'))('a line')
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / 'log.txt')


def test_only_a_full_disk_is_given_a_name_that_was_not_there():
    for error in (OSError(errno.EIO, 'x'), OSError(errno.ENOSPC, 'x', 'its own')):
        with pytest.raises(OSError) as caught, naming('another'):
            raise error
        assert caught.value.filename == (None if error.errno == errno.EIO else 'its own')


def test_of_a_copy_that_does_not_fit_the_target_is_told(tmp_path):
    (tmp_path / 'source').write_bytes(bytes(3 << 16))
    with pytest.raises(OSError) as caught, naming(str(tmp_path / 'copy')), no_file_larger_than(1 << 16):
        shutil.copy(tmp_path / 'source', tmp_path / 'copy')
    assert f'{tmp_path}/copy: File too large' in refused(caught.value)
    both = OSError(errno.ENOSPC, 'No space left on device', 'source', None, 'target')  # as shutil has it elsewhere
    assert refused(both).startswith('cannot read or write target: No space')


def test_make_folder_names_what_it_cannot_make(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='file/x'):
        make_folder(str(tmp_path / 'file' / 'x'))


def test_log(tmp_path, capsys):
    log = Log(str(tmp_path / 'log.txt'))
    log('one')
    log('two')
    assert (tmp_path / 'log.txt').read_text() == 'one\ntwo\n' and capsys.readouterr().out == 'one\ntwo\n'
