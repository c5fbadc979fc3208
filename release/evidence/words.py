"""What the numbers mean, in sentences: for readers who decide about a picture and know no statistics."""
import math
from collections.abc import Sequence
from typing import Any

from fingerprints.matching import NAMED, NOBODY, UNREACHABLE, Attribution

# The scale of the ENFSI Guideline for Evaluative Reporting in Forensic Science (2015), section 4: least ratio, words.
SCALE = ((1e6, 'extremely strong support'), (1e4, 'very strong support'), (1e3, 'strong support'),
         (1e2, 'moderately strong support'), (1e1, 'moderate support'), (2, 'weak support'), (0, 'no support'))

SUPERSCRIPT = str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹')
LARGE = ('', 'thousand', 'million', 'billion', 'trillion')

LIMITS = (
    'A small p-value rules out chance. It does not rule out forgery: whoever holds two instances, or the opened files '
    'of one, or pictures that one drew, may be able to put a mark on a picture that the instance did not draw. How '
    'often that succeeded when it was tried with this model is in the table of section 6.',
    'The report is about an instance, that is, a program. Who ran it, and whether it was copied or stolen, it cannot '
    'tell.',
    'The p-value is the chance of such an agreement if no instance drew the picture. It is not the chance that no '
    'instance drew it, and must not be read as one.',
    'The p-value is for this picture alone. P-values of several pictures must not be multiplied, since pictures of one '
    'source are alike.',
    'That nobody is named proves nothing: strong changes of a picture take the mark away.',
    'The numbers of section 6 hold for pictures that are treated as those were. A picture that was cropped, blurred, '
    'printed or filmed needs a measurement of its own.',
)


def amount(number: float) -> str:
    """A count of one or more in words, never more than it is: '8,192', '4.2 billion', '1.7 × 10³⁸'."""
    if number < 1e4:
        return f'{math.floor(number + 1e-9):,}'
    exponent = math.floor(math.log10(number) + 1e-12)
    group = exponent // 3
    if group < len(LARGE):
        return f'{math.floor(number / 1000 ** group * 10) / 10:g} {LARGE[group]}'
    power = str(exponent).translate(SUPERSCRIPT)
    return f'{math.floor(number / 10.0 ** exponent * 10) / 10:g} × 10{power}'


def chance_of(p_value: float) -> str:
    """A chance in words: 'at most 1 in 4.2 billion'; of one in two or more, 'up to 80 in 100'."""
    if p_value > 0.5:
        return f'up to {math.ceil(100 * p_value)} in 100'
    return f'at most 1 in {amount(1 / max(p_value, 1e-300))}'


def verbal(ratio: float) -> str:
    """What a likelihood ratio lends to the first of two propositions, on ENFSI's scale."""
    return next(words for least, words in SCALE if ratio >= least)


def counted(number: int, noun: str) -> str:
    """'1 user', '2 users'."""
    return f'{number:,} {noun}{"" if number == 1 else "s"}'


def propositions(found: Attribution) -> list[str]:
    """The two propositions that the findings are weighed under."""
    instance = f'the instance issued as “{found.user or found.best_user}”'
    return [f'The mark in the picture was put there by {instance}.',
            'The picture stems from no instance in the registry, and agrees with a code by chance.']


def outcome(found: Attribution, fpr: float, tried: int, revoked: dict[str, str]) -> dict[str, Any]:
    """{headline, paragraphs} of an Attribution: who is named, or why nobody is.

    Args:
        found: what was found. fpr: the accepted rate of false positives. tried: in how many alignments.
        revoked: for users over the threshold whose instances are revoked, when they were.
    """
    headline, paragraphs = _conclusion(found, fpr)
    compared = f'{counted(found.users, "code")}' + (f' in {tried} alignments of the picture' if tried > 1 else '')
    paragraphs.append(
        f'If the picture stems from no instance, each bit read from it agrees with a code like a tossed coin. The '
        f'chance that any of the {compared} then agrees in {found.matching} of {found.num_bits} bits or more is '
        f'{chance_of(found.p_value)} (p = {found.p_value:.2g}).')
    for name, when in revoked.items():
        paragraphs.append(f'The instance “{name}” was revoked on {when}. Copies of it may be in use all the same; and '
                          'the picture may have been drawn before that day, which pixels do not tell.')
    return {'headline': headline, 'paragraphs': paragraphs}


def _conclusion(found, fpr):
    read = f'{found.matching} of the {found.num_bits} bits'
    if found.reason == NAMED:
        return (f'The picture carries the mark of the instance “{found.user}”.',
                [f'{read} read from the picture are those of the code that was drawn for “{found.user}”; '
                 f'{found.threshold} were needed at the accepted rate of one false naming in {amount(1 / fpr)} '
                 'pictures. No other user reaches that number.'])
    if found.reason == NOBODY:
        return ('The picture is attributed to nobody.',
                [f'No user reaches the {found.threshold} of {found.num_bits} bits needed at the accepted rate of one '
                 f'false naming in {amount(1 / fpr)} pictures. The nearest code agrees in {read}. That some code is '
                 'nearest is nothing against its user: one always is.'])
    if found.reason == UNREACHABLE:
        return ('No picture can be attributed at this rate.',
                [f'With {counted(found.users, "user")}, {found.num_bits} bits are too few to name anyone at the '
                 f'accepted rate of one false naming in {amount(1 / fpr)} pictures, even if all of them agreed.'])
    return ('Several users reach the threshold, so nobody is named.',
            [f'{_joined(found.over_threshold)} each reach the {found.threshold} of {found.num_bits} bits needed. One '
             'picture is drawn by one instance; chance alone does not make two codes agree with it. It points to '
             'pictures or instances of these users having been mixed (collusion), or to one having been made to look '
             'like the other (forgery). Which of them took part, if any did, the numbers do not tell.'])


def _joined(names: Sequence[str]) -> str:
    quoted = [f'“{name}”' for name in names]
    return f'{", ".join(quoted[:-1])} and {quoted[-1]}'


def weight(ratio: float, capped: bool, own: int, innocents: int) -> str:
    """A likelihood ratio in a sentence, and what it rests on."""
    if ratio < 2:
        return 'That the threshold is reached supports neither proposition more than the other.'
    cap = (f' None of the {innocents:,} pictures of no instance reached it, so the ratio says how many were measured: '
           'more of them may make it larger.' if capped else '')
    return (f'That the threshold is reached is at least {amount(ratio)} times more probable if the first proposition '
            f'holds than if the second does: {verbal(ratio)} for the first, on the scale of the ENFSI Guideline for '
            f'Evaluative Reporting (2015). Measured on {own:,} pictures of the instance and {innocents:,} of none.'
            f'{cap}')
