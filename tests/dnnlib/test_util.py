import json
import os

import pytest

from dnnlib.util import (
    Log,
    UserError,
    append_json_line,
    atomic_file,
    atomic_folder,
    format_time,
    keep_json_lines,
    make_folder,
    read_json,
    read_json_lines,
    sha256_file,
    sha256_folder,
    write_json,
)


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


def test_atomic_file(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(ZeroDivisionError):
        with atomic_file(str(path)) as file:
            file.write('new')
            raise ZeroDivisionError
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['file']


def test_json(tmp_path):
    path = str(tmp_path / 'x.json')
    write_json(path, {'b': 1, 'a': [2]})
    assert list(read_json(path)) == ['b', 'a']
    (tmp_path / 'x.json').write_text('{')
    with pytest.raises(UserError, match='cannot be read'):
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


def test_make_folder_names_what_it_cannot_make(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='file/x'):
        make_folder(str(tmp_path / 'file' / 'x'))


def test_log(tmp_path, capsys):
    log = Log(str(tmp_path / 'log.txt'))
    log('one')
    log('two')
    assert (tmp_path / 'log.txt').read_text() == 'one\ntwo\n' and capsys.readouterr().out == 'one\ntwo\n'
