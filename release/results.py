"""Results of attribution as text, JSON lines or CSV, and what they amount to together."""
import collections
import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from dnnlib.util import printable, quoted
from fingerprints.matching import NAMED, NOBODY, PAIR, TIE, UNREACHABLE
from fingerprints.statistics import threshold
from release.attribute import Attributor, Result

COLUMNS = ('image', 'sha256', 'reason', 'user', 'revoked', 'matching', 'num_bits', 'threshold', 'p_value', 'users',
           'over_threshold', 'best_user', 'second_user', 'second_matching', 'weight',
           'weight_needed', 'weight_total', 'fpr', 'model_digest', 'snapshot_kimg',
           'version', 'alignment', 'tried', 'alignments', 'pair', 'pair_p_value', 'error')

ERROR = 'error'


def as_text(result: Result, context: dict[str, Any]) -> str:
    """One line: the file, who is named or why nobody is, the bits and the p-value."""
    if result.error:
        return f'{quoted(result.path)}: error: {printable(result.error)}'
    found = result.attribution
    tried = f', {result.alignment}' if result.alignment else ''
    weight = '' if found.weight is None else f', {found.weight / found.weight_total:.1%} by weight'
    said = f'{_verdict(result)}{_together(result)}{tried}'
    return (f'{quoted(result.path)}: {said}  {found.matching} of {found.num_bits} bits match{weight}  p '
            f'{found.p_value:.2g}, corrected for {_tried(found.users, result.tried)}')


def _verdict(result):
    found = result.attribution
    if found.reason == NAMED:
        return f'user {_with_state(result, found.user)}'
    if found.reason == PAIR:
        return 'no user'
    if found.reason == NOBODY:
        return f'no user (nearest {found.best_user}, {_needed(found)} needed)'
    if found.reason == UNREACHABLE:
        return f'no user (nearest {found.best_user}, too many users for {found.num_bits} bits at this rate)'
    users = ', '.join(_with_state(result, name) for name in found.over_threshold)
    equal = ', the best two in equally many bits' if found.reason == TIE else ''
    return (f'no user, for {len(found.over_threshold)} reach the {_needed(found, " bits")} needed{equal}: {users} '
            f'(collusion or forgery?)')


def _together(result):
    """What is said of a pair: its users, the bits they share, and how many pairs with whom else reach the rate."""
    pair = result.pair
    if pair is None:
        return ''
    users = ' and '.join(_with_state(result, name) for name in pair.users)
    more = f', with {pair.found - 1} more pairs of {", ".join(pair.involved)}' if pair.found > 1 else ''
    also = 'but' if result.attribution.reason == PAIR else 'and'
    return (f', {also} two together: {users}, in {pair.matching} of the {pair.agreeing} bits that their codes share, p '
            f'{pair.p_value:.2g}{more} (collusion or forgery?); alone nearest {result.attribution.best_user}')


def _needed(found, bits=' bits are'):
    if found.weight is None:
        return f'{found.threshold}{bits}'
    return f'{found.weight_needed / found.weight_total:.1%} by weight{"" if bits == " bits" else " are"}'


def _with_state(result, name):
    return f'{name} (revoked {result.revoked[name]})' if name in result.revoked else name


def as_json(result: Result, context: dict[str, Any]) -> str:
    """One JSON object in a line, with what the result rests on (`context`)."""
    return json.dumps({**result.record(), **context})


def as_csv(result: Result, context: dict[str, Any]) -> str:
    """One line of CSV in the order of COLUMNS. A path is written so that no spreadsheet takes it for a formula."""
    record = {**result.record(), **context}
    name = printable(record['image'])
    record['image'] = f'./{name}' if name[:1] in ('=', '+', '-', '@') else name
    record['over_threshold'] = ' '.join(record.get('over_threshold', ()))
    pair = record.get('pair')
    record['pair'], record['pair_p_value'] = (' '.join(pair['users']), pair['p_value']) if pair else (None, None)
    record['revoked'] = ' '.join(f'{name} {when}' for name, when in record.get('revoked', {}).items())
    return _csv_line([record.get(column) for column in COLUMNS])


def csv_head() -> str:
    """The line of CSV that names the COLUMNS."""
    return _csv_line(COLUMNS)


def _csv_line(cells):
    text = io.StringIO()
    csv.writer(text, lineterminator='').writerow(cells)
    return text.getvalue()


class Tally:
    """Counts results: how many for which reason, and how many per user named."""

    def __init__(self):
        self.reasons, self.users = collections.Counter(), collections.Counter()

    def add(self, result: Result) -> None:
        """Counts one result."""
        found = result.attribution
        self.count(ERROR if result.error else found.reason, None if result.error else found.user)

    def count(self, reason: str, user: Optional[str], times: int = 1) -> None:
        """Counts a reason, ERROR or an Attribution's, and the user it names, if it does and that is known."""
        self.reasons[reason] += times
        if user:
            self.users[user] += times

    def summary(self) -> str:
        """One line such as '5 images: 3 named (alice 2, bob 1), 1 nobody, 1 error'."""
        total = sum(self.reasons.values())
        parts = [self._part(reason, count) for reason, count in self.reasons.most_common()]
        return f'{total} {"image" if total == 1 else "images"}: {", ".join(parts) or "nothing to attribute"}'

    def _part(self, reason, count):
        if reason == ERROR and count > 1:
            return f'{count} errors'
        if reason == NAMED and self.users:
            users = ', '.join(f'{name} {number}' for name, number in self.users.most_common())
            return f'{count} named ({users})'
        return f'{count} {reason}'


def bits_needed(num_bits: int, users: int, fpr: float, num_alignments: int = 1) -> str:
    """One line: how many of the bits must match for a user to be named, or that no number suffices and what would."""
    needed = threshold(num_bits, users, fpr, num_alignments=num_alignments)
    tried = _tried(users, num_alignments)
    if needed is not None:
        return f'{needed} of {num_bits} bits must match at --fpr={fpr:g} with {tried}'
    reachable = users * num_alignments * 2.0 ** -num_bits
    least = math.ceil(math.log2(users * num_alignments / fpr))
    remedy = f'the strictest rate possible is {_rounded_up(reachable)}' if reachable < 1 else 'no rate is possible'
    return (f'{num_bits} bits are too few for {tried} at --fpr={fpr:g}, no image can be named: '
            f'{remedy}; a model for this rate needs {least} bits or more')


def pairs_findable(attributor: Attributor, fpr: float) -> str:
    """One line: how many of all pairs of users could be found, if they combined their instances."""
    findable, pairs = attributor.pairs.findable(fpr, attributor.tried)
    return f'{findable:,} of {pairs:,} pair{"" if pairs == 1 else "s"} of users could be found at this rate'


def _tried(users, alignments):
    """The comparisons that a p-value is corrected for, in words."""
    return f'{users} user{"" if users == 1 else "s"}' + (f' and {alignments} alignments' if alignments > 1 else '')


def _rounded_up(rate):
    """A rate in two digits, never less than it is."""
    step = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return f'{math.ceil(rate / step - 1e-9) * step:.1e}'


def exit_code(tally: Tally) -> int:
    """0 if a user is named in at least one image, 3 if in none, 1 if any file could not be attributed."""
    if tally.reasons[ERROR]:
        return 1
    return 0 if tally.reasons[NAMED] else 3


def attribution_lines(results: Iterable[Result], form: str, context: dict[str, Any], tally: Tally) -> Iterator[str]:
    """Yields the lines of `form` ('text', 'json' or 'csv') for results, and counts them in `tally` on the way."""
    write = {'text': as_text, 'json': as_json, 'csv': as_csv}[form]
    if form == 'csv':
        yield csv_head()
    for result in results:
        tally.add(result)
        yield write(result, context)
