import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.util import UserError
from fingerprints import spelling
from fingerprints.codes import draw_code

CODES = st.integers(8, 512).flatmap(lambda n: st.lists(st.integers(0, 1), min_size=n, max_size=n))


@given(CODES)
@settings(max_examples=60, deadline=None)
def test_every_code_goes_round_in_every_spelling(code):
    assert spelling.hex_to_code(spelling.code_to_hex(code), len(code)).tolist() == code
    words = spelling.code_to_words(code)
    assert spelling.words_to_code(words).tolist() == code
    assert spelling.words_to_code(' ' + words.upper().replace(' ', '\n')).tolist() == code
    assert all(len(word) <= 90 and word.startswith('fp1') for word in words.split())


def reference_checksum(prefix, values):
    """Bech32m by its definition: division by the generator polynomial over GF(32), element by element."""
    def multiply(a, b):  # GF(32) as GF(2)[x] / (x^5 + x^3 + 1)
        product = 0
        for i in range(5):
            product ^= (a << i) * (b >> i & 1)
        for i in range(8, 4, -1):
            product ^= (0b101001 << (i - 5)) * (product >> i & 1)
        return product
    generator = [29, 22, 20, 21, 29, 18]  # below x^6
    register = [0, 0, 0, 0, 0, 1]
    spread = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    for value in spread + values + [0] * 6:
        top, register = register[0], register[1:] + [value]
        register = [r ^ multiply(top, g) for r, g in zip(register, generator)]
    constant = [0x2bc830a3 >> 5 * (5 - i) & 31 for i in range(6)]
    return [r ^ c for r, c in zip(register, constant)]


def test_the_checksum_is_that_of_bip_350():
    for word in ('fp1' + spelling.code_to_words(draw_code(n))[3:] for n in (8, 77, 128, 256)):
        values = [spelling.LETTERS.index(letter) for letter in word[3:]]
        assert values[-6:] == reference_checksum('fp', values[:-6])


@pytest.mark.parametrize('text', ['a1lqfn3a', 'split1checkupstagehandshakeupstreamerranterredcaperredlc445v',
                                  'abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx', '?1v759aa'])
def test_the_reference_is_that_of_bip_350s_own_examples(text):
    prefix, letters = text.rsplit('1', 1)
    values = [spelling.LETTERS.index(letter) for letter in letters]
    assert values[-6:] == reference_checksum(prefix, values[:-6])


def test_every_single_typo_is_found_and_its_place_told():
    word = spelling.code_to_words(draw_code(128))
    for place, letter in itertools.product(range(3, len(word)), spelling.LETTERS):
        if letter != word[place]:
            with pytest.raises(UserError, match=f'does not fit: character {place + 1} may be wrong'):
                spelling.words_to_code(word[:place] + letter + word[place + 1:])
        if place > 5 and letter == 'z':
            break


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_up_to_four_typos_are_found_and_two_are_placed(data):
    word = spelling.code_to_words(data.draw(st.lists(st.integers(0, 1), min_size=256, max_size=256)))
    places = data.draw(st.lists(st.integers(3, len(word) - 1), min_size=1, max_size=4, unique=True))
    letters = list(word)
    for place in places:
        letters[place] = data.draw(st.sampled_from([letter for letter in spelling.LETTERS if letter != word[place]]))
    with pytest.raises(UserError, match='checksum of the code does not fit') as caught:
        spelling.words_to_code(''.join(letters))
    if len(places) <= 2:
        assert ' and '.join(str(place + 1) for place in sorted(places)) in str(caught.value)


def long_words():
    return spelling.code_to_words(np.resize([1, 0, 0, 1, 1], 512)).split()


@pytest.mark.parametrize('change, message', [
    (lambda a, b: '', 'no code to read'),
    (lambda a, b: f'{b} {a}', 'do not belong together'),
    (lambda a, b: a, 'or one is missing: the first is of a code of 512 bits'),
    (lambda a, b: f'{a} {a}', 'do not belong together'),
    (lambda a, b: f'{a} {b} {b}', 'do not belong together'),
    (lambda a, b: f'{a} {spelling.code_to_words([1] * 8)}', 'do not belong together'),
    (lambda a, b: a + b, "character 67 of the code, '1', is never used"),
    (lambda a, b: f'{a} {b.upper()}', 'mixes capitals'),
    (lambda a, b: f'{a} x{b[1:]}', "word 2 of the code begins with 'xp1'"),
    (lambda a, b: f'{a[:20]}b{a[21:]} {b}', "character 21 of word 1 of the code, 'b', is never used"),
    (lambda a, b: 'fp1qqq', 'too short'),
    (lambda a, b: 'fp1' + 'q' * 80, 'too long')])
def test_what_is_not_a_code_is_told_in_one_line(change, message):
    with pytest.raises(UserError, match=message) as caught:
        spelling.words_to_code(change(*long_words()))
    assert '\n' not in str(caught.value)


def word_of(values):
    return 'fp1' + ''.join(spelling.LETTERS[value] for value in values + reference_checksum('fp', values))


@pytest.mark.parametrize('values, message', [
    ([0, 0, 4] + [0], '4 bits is out of range'),
    ([0, 0, 8] + [0], 'word 1 of the code does not have 8 bits'),
    ([0, 0, 8] + [0, 1], 'does not have 8 bits'),  # padded with a one
    ([0, 0, 8] + [0, 0, 0], 'does not have 8 bits'),
    ([1, 0, 8] + [0, 0], 'do not belong together')])
def test_words_that_fit_their_checksum_but_are_no_code(values, message):
    with pytest.raises(UserError, match=message):
        spelling.words_to_code(word_of(values))


@pytest.mark.parametrize('text, num_bits, message', [
    ('0g', 8, "character 2 of the code, 'g', is not a hexadecimal digit"), ('00', 9, '9 bits has 4 .* not 2'),
    ('0040', 9, 'more than 9 bits'), ('0' * 130, 520, '520 bits is out of range'), ('0\n', 8, 'character 2')])
def test_bad_hexadecimal_is_refused(text, num_bits, message):
    with pytest.raises(UserError, match=message):
        spelling.hex_to_code(text, num_bits)


def test_hexadecimal_is_first_bit_first():
    assert spelling.code_to_hex([1, 0, 0, 0, 0, 0, 1, 1, 1]) == '8380'


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_is_read_or_refused(text):
    for read in (spelling.words_to_code, lambda text: spelling.hex_to_code(text, 16)):
        try:
            read(text)
        except UserError as error:
            assert '\n' not in str(error)
