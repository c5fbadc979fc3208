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
    assert read_names(str(tmp_path / 'users.csv')) == ['alice', 'bob']


@pytest.mark.parametrize('data, message', [
    (b'', 'holds no names'), (b'name\n', 'holds no names'), (b'alice\nb/b\n', "line 2: 'b/b' cannot be a user's name"),
    (b'alice\nbob\nAlice\n', "line 3: 'Alice' stands in line 1 already"), (b'\xff\xfea\0', 'not text in UTF-8'),
    (b'mail,name\nx@y,alice\nz@y\n', "line 3: '' cannot be a user's name"),
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
