"""The figure of what chance would have shown: a binomial distribution, the threshold and what was observed, as SVG."""
from collections.abc import Sequence
from typing import Optional

from markupsafe import Markup
from scipy import stats

WIDTH, HEIGHT, BASE, TOP = 640, 190, 150, 30   # of the figure; where bars stand, and where the tallest one ends
LINE = '<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}" class="{3}"/>'
TEXT = '<text x="{0:.1f}" y="{1}" text-anchor="{2}" class="{3}">{4}</text>'


def binomial(num_bits: int) -> list[float]:
    """The chance of each number of matching bits, 0 to `num_bits`, of a code that has nothing to do with a picture."""
    return stats.binom.pmf(range(num_bits + 1), num_bits, 0.5).tolist()


def figure(num_bits: int, observed: int, threshold: Optional[int], others: Sequence[int] = ()) -> Markup:
    """SVG: the chance of each number of matching bits as bars, and above it the observed one and the threshold.

    Args:
        num_bits: of a code. observed: the matching bits of the best user. threshold: None if none suffices.
        others: the matching bits of other users, as dots below.
    """
    chances = binomial(num_bits)
    pitch = WIDTH / (num_bits + 1)
    parts = [_bar(count, chance / max(chances), pitch) for count, chance in enumerate(chances) if chance > 1e-5]
    if threshold is not None:
        parts += _mark(threshold, pitch, TOP - 2, 'threshold', f'needed: {threshold}', num_bits)
    parts += _mark(observed, pitch, TOP - 17, 'observed', f'observed: {observed}', num_bits)
    parts += [f'<circle cx="{_middle(count, pitch):.1f}" cy="{BASE + 7}" r="3" class="other"/>' for count in others]
    ticks = sorted({0, num_bits // 4, num_bits // 2, 3 * num_bits // 4, num_bits})
    parts += [TEXT.format(_middle(count, pitch), BASE + 26, _anchor(count, num_bits), 'tick', count) for count in ticks]
    axis = f'<line x1="0" x2="{WIDTH}" y1="{BASE}" y2="{BASE}" class="axis"/>'
    said = f'Matching bits by chance, 0 to {num_bits}; observed {observed}.'
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">{axis}{"".join(parts)}</svg>')


def _middle(count, pitch):
    return (count + 0.5) * pitch


def _bar(count, height, pitch):
    tall = height * (BASE - TOP - 10)
    return f'<rect x="{count * pitch:.2f}" y="{BASE - tall:.2f}" width="{pitch * 0.85:.2f}" height="{tall:.2f}"/>'


def _mark(count, pitch, top, kind, text, num_bits):
    """A line at a count, and its text beside it on the side where there is room."""
    place, left = _middle(count, pitch), count > num_bits / 2
    side = -5 if left else 5
    return [LINE.format(place, top - 8, BASE, kind),
            TEXT.format(place + side, top, 'end' if left else 'start', kind, text)]


def _anchor(count, num_bits):
    return {0: 'start', num_bits: 'end'}.get(count, 'middle')
