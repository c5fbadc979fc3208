"""The re-synthesis of a picture in an evidence report: beside pictures that the instance did draw and that none did."""
from typing import Any

import numpy as np

from fingerprints.codes import draw_code
from metrics.base import Model
from release.evidence.measured import Innocents, innocent_pictures, own_pictures
from release.evidence.pictures import as_png
from release.evidence.resynthesis import Resynthesizer
from training.snapshot import Snapshot

OTHERS = 3     # users of random codes whose instances draw the picture as well
OWN_SEED = 1   # another than the likelihood ratio's

NEARER = ('The instance draws the picture again as well as pictures that it is known to have drawn ({psnr:.1f} dB; '
          'those: {own}), and better than any of the photographs ({photographs}). That speaks for the whole picture, '
          'and not its mark alone, stemming from this model, as far as so few pictures can tell.')
FARTHER = ('The instance does not draw the picture again: the nearest that was found is at {psnr:.1f} dB, no nearer '
           'than photographs get ({photographs}), while pictures that it drew get to {own}. A mark that was put on a '
           'picture of other origin looks like this; so does a picture of the instance that was changed much '
           'afterwards.')
BETWEEN = ('What was found, {psnr:.1f} dB, lies between pictures that the instance drew ({own}) and photographs '
           '({photographs}), or these overlap; it is not decided by so few pictures.')
UNKNOWN = ('There are no photographs to compare with, so that {psnr:.1f} dB says little (pictures that the instance '
           'drew: {own}).')
THIS_USER = ('Of the instances of this user and of {count} others, this user’s came nearest, by {margin:.2f} dB. For '
             'pictures that it drew, that margin was {margins}; for photographs, at most {chance:.2f} dB.')
NOT_USER = ('Which user’s instance draws it best does not tell the users apart here: this user’s is {margin:+.2f} dB '
            'from the best of {count} others; for pictures that it drew {margins}, for photographs up to '
            '{chance:.2f} dB.')


def redrawn(snapshot: Snapshot, model: Model, code: np.ndarray, pixels: np.ndarray, innocents: Innocents,
            count: int) -> dict[str, Any]:
    """The picture drawn again by the user's instance and by others', and what that says; or {missing: why}.

    Args:
        snapshot, model: of the instances. code: the named user's [bits]. pixels: the picture, uint8 [H, W, 3], aligned.
        innocents: pictures of no instance. count: how many pictures of either kind are redrawn for comparison.
    """
    if not count:
        return {'missing': 'not asked for'}
    codes = np.stack([code, *(draw_code(len(code)) for _ in range(OTHERS))])
    own = np.concatenate(list(own_pictures(model, code, count, OWN_SEED)))
    photographs = innocent_pictures(innocents, count) if innocents.dataset else own[:0]
    results = Resynthesizer(snapshot, codes)([pixels, *own, *photographs])
    psnrs = np.array([result.psnr for result in results])                       # [1 + own + photographs, users]
    ours, theirs = psnrs[1:1 + len(own)], psnrs[1 + len(own):]
    return {'psnr': psnrs[0].round(2).tolist(), 'own': ours.round(2).tolist(), 'photographs': theirs.round(2).tolist(),
            'png': as_png(results[0].pictures[0]), 'words': meaning(psnrs[0], ours, theirs)}


def meaning(found: np.ndarray, own: np.ndarray, photographs: np.ndarray) -> list[str]:
    """Two sentences: whether the model draws the picture, and whether the user can be told from others by that.

    Args:
        found: PSNR in dB [U] of the picture, the named user first. own, photographs: of those kinds, [N, U].
    """
    facts = {'psnr': found[0], 'own': span(own[:, 0]), 'photographs': span(photographs[:, 0])}
    if not len(photographs):
        first = UNKNOWN.format(**facts)
    elif photographs[:, 0].max() < own[:, 0].min() <= found[0]:
        first = NEARER.format(**facts)
    elif found[0] <= photographs[:, 0].max() < own[:, 0].min():
        first = FARTHER.format(**facts)
    else:
        first = BETWEEN.format(**facts)
    margin, margins = lead(found[np.newaxis])[0], lead(own)
    chance = max(0.0, lead(photographs).max(initial=0.0))
    second = THIS_USER if min(margin, margins.min()) > chance else NOT_USER
    facts = {'count': len(found) - 1, 'margin': margin, 'margins': span(margins, 2), 'chance': chance}
    return [first, second.format(**facts)]


def lead(psnrs: np.ndarray) -> np.ndarray:
    """By how much the first user's PSNR exceeds the best of the others', in dB [N], of PSNRs [N, U]."""
    return psnrs[:, 0] - psnrs[:, 1:].max(axis=1)


def span(values: np.ndarray, digits: int = 1) -> str:
    """'26.1 to 31.4 dB'; '26.1 dB' of one value, 'none' of no values."""
    if not len(values):
        return 'none'
    low, high = (f'{value:.{digits}f}' for value in (values.min(), values.max()))
    return f'{low} dB' if low == high else f'{low} to {high} dB'
