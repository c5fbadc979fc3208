"""Lists of users: every way of writing them, each mistake in one line that tells where; and names that look alike."""
import os

import pytest

from dnnlib.util import UserError
from release.names import check_distinct, read_names


@pytest.mark.parametrize('text', [
    'alice\nbob\n', '\ufeffalice\r\nbob', '\n alice \n\nbob\n', 'name\nalice\nbob', 'mail,Name\nx@y,alice\nz@y,bob\n',
    'user,since\n"alice",2024\nbob,2025', 'alice,1\nbob,2'])
def test_names_are_read(tmp_path, text):
    (tmp_path / 'users.csv').write_bytes(text.encode())
    assert list(read_names(str(tmp_path / 'users.csv')).items()) == [('alice', None), ('bob', None)]


@pytest.mark.parametrize('text', [
    'name,noise_seed\nalice,0\nbob,\ncid,9223372036854775807\n',
    'Noise seed,user\n0,alice\n,bob\n"9223372036854775807", cid',
    'user,NOISE-SEED,since\nalice, 0,2024\nbob\ncid,9223372036854775807,2025'])
def test_seeds_are_read_and_may_be_left_empty(tmp_path, text):
    (tmp_path / 'users.csv').write_text(text)
    assert list(read_names(str(tmp_path / 'users.csv')).items()) == [('alice', 0), ('bob', None), ('cid', 2 ** 63 - 1)]


@pytest.mark.parametrize('data, message', [
    (b'', 'holds no names'), (b'name\n', 'holds no names'), (b'alice\nb/b\n', "line 2: 'b/b' cannot be a user's name"),
    (b'alice\nbob\nAlice\n', "line 3: 'Alice' stands in line 1 already"), (b'\xff\xfea\0', 'not text in UTF-8'),
    (b'mail,name\nx@y,alice\nz@y\n', "line 3: '' cannot be a user's name"),
    (b'name,noise_seed\nann,1\nbob,x\n', "line 3: noise_seed 'x' is no whole number from 0 to 9223372036854775807"),
    (b'name,noise_seed\nann,-1\n', "line 2: noise_seed '-1' is no"), (b'name,noise_seed\nann,1.0\n', "'1.0' is no"),
    (b'noise_seed,name\n9223372036854775808,ann\n', "line 2: noise_seed '9223372036854775808' is no"),
    (b'name,noise_seed\nann,' + b'9' * 5000, "line 2: noise_seed '99"),
    ('name,noise_seed\nann,²\n'.encode(), "line 2: noise_seed '²' is no"),
    (b'noise_seed,who\n1,ann\n', "line 1: a column 'noise_seed' needs a column 'name' beside it"),
    (b'a\0b\n', "cannot be a user's name|line contains NUL"), (b'x' * 200000, "cannot be|field larger than")])
def test_what_is_wrong_with_a_list_is_told_in_one_line(tmp_path, data, message):
    path = tmp_path / 'users.csv'
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read_names(str(path))
    assert 'users.csv' in str(caught.value)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    refused = {'pipe': 'named pipe, not a file', 'absent': 'does not exist', '.': 'folder, not a file'}
    for name, message in refused.items():
        with pytest.raises(UserError, match=message):
            read_names(str(tmp_path / name))


@pytest.mark.parametrize('name, known', [('user1', 'userl'), ('userI', 'user1'), ('b0b', 'bob'), ('BOB.x', 'b0b-x'),
                                         ('a_b', 'a-b')])
def test_look_alikes_are_refused(name, known):
    with pytest.raises(UserError, match=f"'{name}' can be taken for '{known}'"):
        check_distinct([name], ['someone', known])
    with pytest.raises(UserError, match=f"'{name}' can be taken for '{known}'"):
        check_distinct([known, name], [])


def test_names_that_differ_and_the_registrys_own_are_not_this_checks_business():
    check_distinct(['alice', 'kali', 'kail', 'user1', 'user2', 'Bob'], ['bob', 'alice'])
