"""Fingerprint codes: drawing them, keeping them apart, comparing them. `spelling` writes them for people."""
import math
import secrets
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from dnnlib.util import UserError

MIN_BITS, MAX_BITS = 8, 512
DRAWS = 10_000             # attempts at a code far enough from all others
PLANNED_USERS = 1_000_000  # for whom the default minimum distance is chosen
ONES = np.array([bin(byte).count('1') for byte in range(256)], np.uint8)


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


def packed(codes: np.ndarray) -> np.ndarray:
    """Packs codes [..., num_bits] 0/1 eight to a byte: uint8 [..., ceil(num_bits / 8)], the last byte padded with 0."""
    return np.packbits(np.asarray(codes, np.uint8), axis=-1)


def unpacked(data: np.ndarray, num_bits: int) -> np.ndarray:
    """Undoes `packed`: codes [..., num_bits] uint8."""
    return np.unpackbits(data, axis=-1)[..., :num_bits]


def distances(code: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The Hamming distances of a packed code [bytes] to packed others [U, bytes]: int64 [U]."""
    return ONES[np.bitwise_xor(others, code)].sum(axis=1, dtype=np.int64)


def ball(num_bits: int, radius: int) -> int:
    """The number of codes within a Hamming distance of `radius` of one code; none if the radius is negative."""
    return sum(math.comb(num_bits, k) for k in range(radius + 1))


def users_possible(num_bits: int, minimum_distance: int) -> int:
    """The number of users for whom a code is certain to be left at this distance from all others, however they fell.

    Each code forbids as many as are within minimum_distance - 1 of it (the bound of Gilbert, 1952). A rejected draw
    becomes likely only when half as many are issued.
    """
    return -(-2 ** num_bits // ball(num_bits, minimum_distance - 1))


def default_minimum_distance(num_bits: int) -> int:
    """The largest minimum distance that PLANNED_USERS can have at a cost of at most a thousandth of any p-value."""
    distance = 1
    while PLANNED_USERS * ball(num_bits, distance) * 1000 <= 2 ** num_bits:
        distance += 1
    return distance


def distance_cost(num_bits: int, minimum_distance: int, num_users: int) -> float:
    """The largest factor by which a minimum distance raises a p-value against another user; 1.0 for no user.

    See `draw_distant_code`. Infinite if the users may fill the space.
    """
    left = 1 - Fraction(max(0, num_users - 1) * ball(num_bits, minimum_distance - 1), 2 ** num_bits)
    return float(1 / left) if left > 0 else math.inf


def draw_distant_code(num_bits: int, minimum_distance: int, others: np.ndarray) -> np.ndarray:
    """Draws a code [num_bits] that differs from each of the packed `others` [U, bytes] in `minimum_distance` bits.

    It is drawn uniformly over all codes that do, by rejection: draw from all, until one does. What that does to
    p-values:

    1. Nothing, for an image that stems from no user. Let all draws of a registry be XORed with one fixed vector v:
       distances stay, so what was accepted still is, with the same chances. So the codes c_1, ..., c_U together are
       distributed as c_1 + v, ..., c_U + v for every v, hence each c_j alone is exactly uniform over all 2^n. An image
       that stems from no user is independent of the codes, so the bits that match c_j are Binomial(n, 1/2), exactly;
       and the union bound over users asks no more.
    2. Almost nothing, for an image of user i compared with another user's c_j. By 1. and symmetry, P(c_j = x | c_i = y)
       = P(c_i = y | c_j = x); take the later of the two: it is uniform over at least 2^n - (U - 1) · V codes, V being
       the number of codes within minimum_distance - 1 bits of one. So no chance grows by more than the factor
       1 / (1 - (U - 1) · V / 2^n), which is `distance_cost`.

    Raises:
        UserError: a length out of range, or DRAWS draws found none: the codes are used up.
    """
    for _ in range(DRAWS):
        code = draw_code(num_bits)
        if not len(others) or distances(packed(code), others).min() >= minimum_distance:
            return code
    raise UserError(f'{DRAWS:,} draws found no code of {num_bits} bits that differs from the {len(others):,} issued in '
                    f'{minimum_distance} or more bits; train a model with more bits')
