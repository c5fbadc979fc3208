"""Numbers in words: they say what the numbers are, never more, and each outcome has its own."""
import math

import pytest
from report_samples import attribution

from release.evidence.words import LIMITS, amount, chance_of, outcome, verbal, weight


@pytest.mark.parametrize('number, text', [
    (1, '1'), (8192, '8,192'), (9999.9, '9,999'), (12345, '12.3 thousand'), (999_999, '999.9 thousand'),
    (1e6, '1 million'), (4.29e9, '4.2 billion'), (2.5e14, '250 trillion'), (1.7e38, '1.7 × 10³⁸')])
def test_amounts(number, text):
    assert amount(number) == text


def test_an_amount_is_never_more_than_the_number():
    factors = {'': 1, 'thousand': 1e3, 'million': 1e6, 'billion': 1e9, 'trillion': 1e12}
    for exponent in range(0, 299):
        number = 1.2345 * 10 ** (exponent / 20)
        value, _, unit = amount(number).replace(',', '').partition(' ')
        said = float(value) * (factors[unit] if unit in factors else 10 ** int(unit[4:]))
        assert 0.9 * number - 1 < said <= number * (1 + 1e-12), (number, amount(number))


@pytest.mark.parametrize('p, text', [(1.0, 'up to 100 in 100'), (0.61, 'up to 61 in 100'), (0.5, 'at most 1 in 2'),
                                     (1e-6, 'at most 1 in 1 million'), (2 ** -32, 'at most 1 in 4.2 billion')])
def test_chances(p, text):
    assert chance_of(p) == text


def test_a_chance_is_never_less_than_the_p_value():
    for exponent in range(1, 60):
        p = 0.9 * 2.0 ** -exponent
        assert chance_of(p) == f'at most 1 in {amount(1 / p)}'


@pytest.mark.parametrize('ratio, text', [(0.4, 'no support'), (2, 'weak support'), (10, 'moderate support'),
                                         (99, 'moderate support'), (100, 'moderately strong support'),
                                         (1000, 'strong support'), (1e4, 'very strong support'),
                                         (1e6, 'extremely strong support'), (math.inf, 'extremely strong support')])
def test_the_scale_of_enfsi(ratio, text):
    assert verbal(ratio) == text


def test_a_ratio_that_supports_nothing_claims_nothing():
    assert 'neither' in weight(1.5, False, 10, 10) and 'support for the first' not in weight(1.5, False, 10, 10)
    assert 'how many were measured' in weight(100, True, 10, 10)
    assert 'how many were measured' not in weight(100, False, 10, 10)


def said(found, **arguments):
    told = outcome(found, 1e-6, arguments.get('tried', 1), arguments.get('revoked', {}))
    return told['headline'], ' '.join(told['paragraphs'])


def test_who_is_named_and_by_how_many_bits():
    headline, text = said(attribution())
    assert headline == 'The picture carries the mark of the instance “alice”.'
    assert '60 of the 64 bits' in text and '54 were needed' in text and 'one false naming in 1 million pictures' in text
    assert 'at most 1 in 3.3 trillion (p = 3e-13)' in text and 'any of the 3 codes' in text


def test_nobody_is_accused_by_being_nearest():
    headline, text = said(attribution(user=None, reason='nobody', matching=40, p_value=0.09, over_threshold=()))
    assert headline == 'The picture is attributed to nobody.' and 'one always is' in text and 'alice' not in text


@pytest.mark.parametrize('reason', ['several', 'tie'])
def test_several_users_are_all_listed_and_none_is_named(reason):
    headline, text = said(attribution(user=None, reason=reason, over_threshold=('alice', 'bob', 'carol')))
    assert 'nobody is named' in headline and '“alice”, “bob” and “carol” each reach' in text
    assert 'collusion' in text and 'forgery' in text and 'do not tell' in text


def test_a_rate_out_of_reach_is_said():
    headline, text = said(attribution(user=None, reason='unreachable', threshold=None, over_threshold=()))
    assert headline.startswith('No picture can be attributed') and '64 bits are too few' in text


def test_a_revoked_instance_is_said_and_does_not_clear_anyone():
    assert 'revoked' not in said(attribution())[1]
    text = said(attribution(), revoked={'alice': '2026-05-01T00:00:00+00:00'})[1]
    assert '“alice” was revoked on 2026-05-01' in text and 'Copies of it may be in use' in text


def test_alignments_count():
    assert 'in 16 alignments' in said(attribution(), tried=16)[1]


def test_limits_name_forgery_and_the_fallacy_and_multiplied_p_values():
    text = ' '.join(LIMITS)
    assert 'does not rule out forgery' in text and 'two instances' in text
    assert 'must not be read as one' in text and 'must not be multiplied' in text
