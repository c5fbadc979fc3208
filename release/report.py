"""What a release shows: the table of attributed images, and the picture of users, latents and residuals."""
import numpy as np

from dnnlib.pictures import labelled_rows, residual
from fingerprints.statistics import threshold

AMPLIFICATION = 4


def attribution_table(rows, bits, users, rates):
    """A text table: for each (source, expected user or None, Results), the share named right at each rate.

    The registry's code of `bits` bits is compared for `users` users; `rates` are corrected false-positive rates.
    """
    thresholds = [threshold(bits, users, rate) for rate in rates]
    head = ['images of', 'count', 'mean bits'] + [f'{"user named" if i == 0 else "at"} {rate:g} (≥{limit} of {bits})'
                                                  for i, (rate, limit) in enumerate(zip(rates, thresholds))]
    lines = [head]
    for source, expected, results in rows:
        found = [result.attribution for result in results]
        shares = [sum(share_named(one, limit) for one in found) for limit in thresholds]
        right = [sum(share_named(one, limit) and one.best_user == expected for one in found) for limit in thresholds]
        cells = [f'{good}/{len(found)} right' if expected else f'{named}/{len(found)} named'
                 for good, named in zip(right, shares)]
        lines.append([source, str(len(found)), f'{np.mean([one.matching for one in found]):.1f}', *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def share_named(attribution, limit):
    """Whether an attribution reaches `limit` matching bits (None: no number suffices) without a tie."""
    tie = attribution.second_matching == attribution.matching
    return limit is not None and attribution.matching >= limit and not tie


def residual_picture(path, images, names, zoom):
    """Saves users as rows, latents as columns, and below them the first two users' residual, amplified.

    Args:
        path: the PNG to write.
        images: {name: uint8 [columns, H, W, 3]}, for the same latents.
        names: which of them to show, two at least.
        zoom: how often each pixel is repeated each way.
    """
    first, second = names[:2]
    rows = [images[name] for name in names] + [residual(images[first], images[second], AMPLIFICATION)]
    labelled_rows(rows, [*names, f'{first}-{second} x{AMPLIFICATION}'], zoom=zoom).save(path, format='PNG')
