"""Reads .npz files, which may be damaged in any way. Imports no TensorFlow."""
import lzma
import tokenize
import zipfile
import zlib

import numpy as np

# What np.load raises for damaged files: of the zip, of its compression (RuntimeError: encrypted, or compressed in a way
# that is not known), and of the arrays' headers, which NumPy parses as Python before any checksum is looked at.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, OSError, ValueError, TypeError,
          SyntaxError, tokenize.TokenError)


class DamagedArrays(Exception):
    """A file that is absent, damaged or no .npz; the message is one line and says why."""


def read_arrays(path):
    """{name: array} of all that an .npz file holds. Raises DamagedArrays."""
    try:
        file = np.load(path)
        if isinstance(file, np.ndarray):
            raise DamagedArrays('it holds one array and no archive of them')
        with file:
            return {name: file[name] for name in file.files}
    except DAMAGE as error:
        raise DamagedArrays(' '.join(str(error).split()) or type(error).__name__) from None
