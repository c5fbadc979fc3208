"""Codes as people write and read them out: hexadecimal, and Bech32m words whose checksum finds typos and their place.

Bech32m is BIP 350 of Bitcoin: letters and digits that are hard to confuse, and six letters of checksum that find any
four wrong letters in a word of up to 89, and any number of others but for one in 2^30.
"""
from collections.abc import Iterable, Sequence

import numpy as np

from dnnlib.util import UserError
from fingerprints.codes import check_num_bits

PREFIX = 'fp'
LETTERS = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'
GENERATOR = (0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3)
BECH32M = 0x2bc830a3
CHECKSUM = 6         # letters
BITS_PER_WORD = 256  # a word of 63 letters: within the 89 for which the four wrong letters are promised
HEADER = 3           # letters: the word's number, and the code's length in two


def code_to_hex(code: Sequence[int]) -> str:
    """Writes a code [num_bits] 0/1 in hexadecimal, first bit first, the last byte padded with zeros."""
    return np.packbits(np.asarray(code, np.uint8)).tobytes().hex()


def hex_to_code(text: str, num_bits: int) -> np.ndarray:
    """Reads what `code_to_hex` wrote, as [num_bits] uint8. Raises UserError, in one line, for anything else."""
    check_num_bits(num_bits)
    digits = 2 * -(-num_bits // 8)
    for place, letter in enumerate(text, 1):
        if letter not in '0123456789abcdefABCDEF':
            raise UserError(f'character {place} of the code, {letter!r}, is not a hexadecimal digit; read it again')
    if len(text) != digits:
        raise UserError(f'a code of {num_bits} bits has {digits} hexadecimal digits, not {len(text)}; read it again')
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    if bits[num_bits:].any():
        raise UserError(f'the code has more than {num_bits} bits; read its last digits again')
    return bits[:num_bits]


def code_to_words(code: Sequence[int]) -> str:
    """Writes a code [num_bits] 0/1 as Bech32m words 'fp1…', one per 256 bits, separated by a space.

    Each word holds its number and the code's length, so that a word left out or swapped is found.
    """
    bits, words = [int(bit) for bit in code], []
    check_num_bits(len(bits))
    for number, start in enumerate(range(0, len(bits), BITS_PER_WORD)):
        part = bits[start:start + BITS_PER_WORD]
        part += [0] * (-len(part) % 5)
        values = [number, len(bits) >> 5, len(bits) & 31]
        values += [int(''.join(map(str, part[i:i + 5])), 2) for i in range(0, len(part), 5)]
        words.append(PREFIX + '1' + ''.join(LETTERS[value] for value in values + _checksum(values)))
    return ' '.join(words)


def words_to_code(text: str) -> np.ndarray:
    """Reads what `code_to_words` wrote, as [num_bits] uint8. Capitals are accepted, if all are.

    Raises:
        UserError: a letter that is not used, or a checksum that does not fit. One or two wrong letters are pointed at;
            they are never corrected, since a code decides whom a picture is held against.
    """
    words = text.split()
    if not words:
        raise UserError(f'there is no code to read; it begins with {PREFIX}1')
    if text not in (text.lower(), text.upper()):
        raise UserError('the code mixes capitals and small letters; write it in one of them')
    parts = [_read_word(word, number, len(words)) for number, word in enumerate(words, 1)]
    return _join(parts)


def _join(parts):
    """The code [num_bits] whose words have the 5-bit values `parts`."""
    lengths = {tuple(values[1:HEADER]) for values in parts}
    high, low = parts[0][1:HEADER]
    num_bits = high << 5 | low
    if len(lengths) > 1 or [values[0] for values in parts] != list(range(-(-num_bits // BITS_PER_WORD))):
        raise UserError(f'the words do not belong together, or one is missing: the first is of a code of {num_bits} '
                        'bits; read them again in their order')
    check_num_bits(num_bits)
    bits = []
    for number, values in enumerate(parts):
        wanted = min(BITS_PER_WORD, num_bits - number * BITS_PER_WORD)
        read = [value >> shift & 1 for value in values[HEADER:] for shift in (4, 3, 2, 1, 0)]
        if len(read) - wanted not in range(5) or any(read[wanted:]):
            raise UserError(f'word {number + 1} of the code does not have {wanted} bits; read it again')
        bits += read[:wanted]
    return np.array(bits, np.uint8)


def _read_word(word, number, count):
    """The values of a word without its checksum. Places are told as the reader counts them, from 1."""
    called = f'word {number} of the code' if count > 1 else 'the code'
    prefix, letters = word[:len(PREFIX) + 1].lower(), word[len(PREFIX) + 1:].lower()
    if prefix != PREFIX + '1':
        raise UserError(f'{called} begins with {word[:len(prefix)]!r}, not with {PREFIX}1; read its beginning again')
    for place, letter in enumerate(letters, len(prefix) + 1):
        if letter not in LETTERS:
            raise UserError(f'character {place} of {called}, {letter!r}, is never used; read it again')
    values = [LETTERS.index(letter) for letter in letters]
    if len(values) < HEADER + CHECKSUM:
        raise UserError(f'{called} is too short; read it to its end')
    if len(values) > HEADER + CHECKSUM + -(-BITS_PER_WORD // 5):
        raise UserError(f'{called} is too long; separate its words by a space')
    error = _remainder(_spread_prefix() + values) ^ BECH32M
    if error:
        places = [str(place + len(prefix) + 1) for place in _wrong_places(error, len(values))]
        what = f'character{"s" * (len(places) > 1)} {" and ".join(places)}' if places else 'three or more characters'
        raise UserError(f'the checksum of {called} does not fit: {what} may be wrong; read it again')
    return values[:-CHECKSUM]


def _remainder(values: Iterable[int]) -> int:
    """The remainder of the values, as a polynomial over GF(32), by Bech32's generator: 30 bits."""
    remainder = 1
    for value in values:
        remainder = _next_remainder(remainder) ^ value
    return remainder


def _next_remainder(remainder):
    """The remainder after one more value, 0."""
    top = remainder >> 25
    remainder = (remainder & 0x1ffffff) << 5
    for i, factor in enumerate(GENERATOR):
        remainder ^= factor if top >> i & 1 else 0
    return remainder


def _spread_prefix():
    return [ord(letter) >> 5 for letter in PREFIX] + [0] + [ord(letter) & 31 for letter in PREFIX]


def _checksum(values):
    remainder = _remainder(_spread_prefix() + values + [0] * CHECKSUM) ^ BECH32M
    return [remainder >> 5 * (CHECKSUM - 1 - i) & 31 for i in range(CHECKSUM)]


def _wrong_places(error, length):
    """The one or two places, of `length`, at which wrong letters leave this error; none if it takes more.

    The remainder is linear: a wrong letter adds its own error, the same whatever the other letters are.
    """
    alone, changes = {}, list(range(1, 32))
    for place in reversed(range(length)):
        alone.update(dict.fromkeys(changes, place))
        changes = [_next_remainder(change) for change in changes]
    if error in alone:
        return [alone[error]]
    for first, place in alone.items():
        other = alone.get(error ^ first)
        if other is not None and other != place:
            return sorted([place, other])
    return []
