"""Arrays in files that are whole, and in files that are damaged in every way that was found."""
import subprocess
import sys

import numpy as np
import pytest

from dnnlib.arrays import DamagedArrays, read_arrays
from helpers import ROOT

# The first is so long that its header is parsed before its checksum is looked at.
ARRAYS = {'values': np.arange(3000.0) ** 0.5, 'name': np.array('a name'), 'none': np.zeros([0, 2], np.float32)}


def test_what_was_written_is_read(tmp_path):
    np.savez(tmp_path / 'arrays.npz', **ARRAYS)
    found = read_arrays(str(tmp_path / 'arrays.npz'))
    assert set(found) == set(ARRAYS)
    assert all((found[name] == array).all() and found[name].dtype == array.dtype for name, array in ARRAYS.items())


def changed(data, start, new):
    return data[:start] + new + data[start + len(new):]


DAMAGE = {
    'empty': lambda data, packed: b'',
    'text': lambda data, packed: b'hello',
    'cut': lambda data, packed: data[:-30],
    'pickled': lambda data, packed: b'\x80\x04N.',
    'a checksum': lambda data, packed: changed(data, data.index(np.float64(50).tobytes()), b'\1'),
    'a header without its end': lambda data, packed: data.replace(b"{'descr'", b"{('escr'"),
    'a header with unequal keys': lambda data, packed: data.replace(b"{'descr'", b"{b'esc' "),
    'a header of no size': lambda data, packed: data.replace(b'(3000,)', b'(3x00,)'),
    'compressed data': lambda data, packed: changed(packed, 100, b'\xff' * 40),
    'an unknown compression': lambda data, packed: changed(data, data.index(b'PK\1\2') + 10, b'\x4d'),
    'encrypted': lambda data, packed: changed(changed(data, 6, b'\1'), data.index(b'PK\1\2') + 8, b'\1'),
    'not lzma': lambda data, packed: changed(changed(data, 8, b'\x0e'), data.index(b'PK\1\2') + 10, b'\x0e'),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_what_is_damaged_is_told_in_one_line(tmp_path, damage):
    for name, save in (('data', np.savez), ('packed', np.savez_compressed)):
        save(tmp_path / f'{name}.npz', **ARRAYS)
    data, packed = ((tmp_path / f'{name}.npz').read_bytes() for name in ('data', 'packed'))
    path = tmp_path / 'damaged.npz'
    path.write_bytes(DAMAGE[damage](data, packed))
    with pytest.raises(DamagedArrays) as error:
        read_arrays(str(path))
    assert str(error.value) and '\n' not in str(error.value)


def test_what_is_no_archive_or_absent_is_told_too(tmp_path):
    np.save(tmp_path / 'one.npy', np.zeros(3))
    with pytest.raises(DamagedArrays, match='one array'):
        read_arrays(str(tmp_path / 'one.npy'))
    with pytest.raises(DamagedArrays, match='No such file'):
        read_arrays(str(tmp_path / 'absent.npz'))


def test_any_few_bytes_may_be_changed(tmp_path):
    """Nothing but DamagedArrays, wherever they are. Some changes hurt nothing: of a date, say."""
    np.savez(tmp_path / 'arrays.npz', **ARRAYS)
    data, rng, refused = (tmp_path / 'arrays.npz').read_bytes(), np.random.default_rng(0), 0
    places = np.concatenate([np.arange(400), np.arange(len(data) - 400, len(data))])
    for _ in range(500):
        damaged = bytearray(data)
        for place in rng.choice(places, 2):
            damaged[place] = rng.integers(256)
        (tmp_path / 'arrays.npz').write_bytes(damaged)
        try:
            read_arrays(str(tmp_path / 'arrays.npz'))
        except DamagedArrays:
            refused += 1
    assert 250 < refused < 500


def test_it_needs_no_tensorflow():
    code = 'import sys, dnnlib.arrays; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0
