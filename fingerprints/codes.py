"""Fingerprint codes: drawing them, writing them as text, comparing them."""
import secrets

import numpy as np

from dnnlib.util import UserError

MIN_BITS, MAX_BITS = 8, 512


def check_bits(bits):
    """Returns `bits` where it is a length a code can have. Raises UserError where not."""
    if not MIN_BITS <= bits <= MAX_BITS:
        raise UserError(f'{bits} bits is out of range; a fingerprint has {MIN_BITS} to {MAX_BITS}')
    return bits


def draw_code(bits, rng=None):
    """Draws a code [bits] uint8 0/1, uniformly over all 2^bits.

    The bits come from the operating system's secure source, since whoever can guess a user's code can frame that user.
    `rng`, a np.random.Generator, replaces it in tests. Raises UserError for a length out of range.
    """
    size = -(-check_bits(bits) // 8)
    data = rng.bytes(size) if rng is not None else secrets.token_bytes(size)
    return np.unpackbits(np.frombuffer(data, np.uint8))[:bits]


def code_to_text(code):
    """Writes a code [bits] 0/1 as a string of '0' and '1', first bit first."""
    return ''.join('1' if bit else '0' for bit in code)


def text_to_code(text):
    """Reads what `code_to_text` wrote, as [bits] uint8. Raises UserError for other characters or a bad length."""
    check_bits(len(text))
    strange = sorted(set(text) - {'0', '1'})
    if strange:
        raise UserError(f'a code is written in 0 and 1 only, not {strange[0]!r}')
    return np.frombuffer(text.encode(), np.uint8) - ord('0')


def signs(bits):
    """Maps bits 0/1 to float32 -1/+1."""
    return np.asarray(bits, np.float32) * 2 - 1


def matching_bits(read, codes):
    """Counts the bits that agree between what was read [..., bits] and every code [U, bits], both 0/1: int16 [..., U].

    As ±1 the scalar product is agreements minus disagreements; float32 holds it exactly.
    """
    read, codes = np.asarray(read), np.asarray(codes)
    bits = codes.shape[-1]
    assert read.shape[-1] == bits, (read.shape, codes.shape)
    return ((signs(read) @ signs(codes).T + bits) / 2).astype(np.int16)
