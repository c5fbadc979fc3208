"""What a release shows: the table of attributed images, and the picture of users, latents and residuals."""
from collections.abc import Sequence
from typing import Optional

import numpy as np

from dnnlib.pictures import labelled_rows, residual, save_png
from fingerprints.matching import Attribution
from fingerprints.statistics import threshold
from release.attribute import Result

AMPLIFICATION = 4


def attribution_table(rows: Sequence[tuple[str, Optional[str], list[Result]]], num_bits: int, users: int,
                      rates: Sequence[float]) -> str:
    """A text table: for each (source, expected user or None, Results), the share named right at each rate.

    Args:
        rows: (source, the user who should be named or None, its Results).
        num_bits: the length of a code.
        users: the number of users that the p-values are corrected for.
        rates: false-positive rates over all users together.
    """
    thresholds = [threshold(num_bits, users, rate) for rate in rates]
    head = ['images of', 'count', 'mean bits']
    head += [f'{"user named" if i == 0 else "at"} {rate:g} (≥{limit} of {num_bits})'
             for i, (rate, limit) in enumerate(zip(rates, thresholds))]
    lines = [head]
    for source, expected, results in rows:
        found = [result.attribution for result in results]
        named = [[one.best_user for one in found if is_named(one, limit)] for limit in thresholds]
        cells = [f'{users_named.count(expected)}/{len(found)} right' if expected else
                 f'{len(users_named)}/{len(found)} named' for users_named in named]
        lines.append([source, str(len(found)), f'{np.mean([one.matching for one in found]):.1f}', *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def is_named(attribution: Attribution, limit: Optional[int]) -> bool:
    """Whether at a threshold of `limit` matching bits (None: no number suffices) exactly one user reaches it."""
    if limit is None or attribution.matching < limit:
        return False
    return attribution.second_matching is None or attribution.second_matching < limit


def residual_picture(path: str, images: dict[str, np.ndarray], names: Sequence[str], zoom: int) -> None:
    """Saves users as rows, latents as columns, and below them the first two users' residual, amplified.

    Args:
        path: the PNG to write.
        images: {name: uint8 [columns, H, W, 3]}, for the same latents.
        names: which of them to show, two at least.
        zoom: how often each pixel is repeated each way.
    """
    first, second = names[:2]
    rows = [images[name] for name in names] + [residual(images[first], images[second], AMPLIFICATION)]
    save_png(path, labelled_rows(rows, [*names, f'{first}-{second} x{AMPLIFICATION}'], zoom=zoom))
