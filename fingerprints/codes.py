"""Fingerprint codes: drawing them, writing them as text, comparing them."""
import secrets
from collections.abc import Sequence

import numpy as np

from dnnlib.util import UserError

MIN_BITS, MAX_BITS = 8, 512


def check_num_bits(num_bits: int) -> None:
    """Raises UserError unless a code can have that many bits."""
    if not MIN_BITS <= num_bits <= MAX_BITS:
        raise UserError(f'{num_bits} bits is out of range; a fingerprint has {MIN_BITS} to {MAX_BITS}')


def draw_code(num_bits: int) -> np.ndarray:
    """Draws a code [num_bits] uint8 0/1, uniformly over all 2^num_bits.

    The bits come from the operating system's secure source, since whoever can guess a user's code can frame that user.
    Raises UserError for a length out of range.
    """
    check_num_bits(num_bits)
    data = secrets.token_bytes(-(-num_bits // 8))
    return np.unpackbits(np.frombuffer(data, np.uint8))[:num_bits]


def code_to_text(code: Sequence[int]) -> str:
    """Writes a code [num_bits] 0/1 as a string of '0' and '1', first bit first."""
    return ''.join('1' if bit else '0' for bit in code)


def text_to_code(text: str) -> np.ndarray:
    """Reads what `code_to_text` wrote, as [num_bits] uint8. Raises UserError for other characters or a bad length."""
    check_num_bits(len(text))
    strange = sorted(set(text) - {'0', '1'})
    if strange:
        raise UserError(f'a code is written in 0 and 1 only, not {strange[0]!r}')
    return np.frombuffer(text.encode(), np.uint8) - ord('0')


def signs(bits: np.ndarray) -> np.ndarray:
    """Maps bits 0/1 to float32 -1/+1."""
    return np.asarray(bits, np.float32) * 2 - 1


def matching_bits(read: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Counts the bits that agree between what was read [..., num_bits] and every code [U, num_bits]: int16 [..., U].

    Both are 0/1. As ±1 the scalar product is agreements minus disagreements; float32 holds it exactly.
    """
    read, codes = np.asarray(read), np.asarray(codes)
    num_bits = codes.shape[-1]
    assert read.shape[-1] == num_bits, (read.shape, codes.shape)
    return ((signs(read) @ signs(codes).T + num_bits) / 2).astype(np.int16)
