"""The facts of an evidence report: one record of plain values, which the page shows and the JSON file holds."""
import dataclasses
import hashlib
import os
from typing import Any, Optional

import numpy as np
from PIL import Image

from dnnlib.images import ImageError, decode, read_file, to_float
from dnnlib.util import UserError
from dnnlib.version import VERSION, versions
from fingerprints.clock import now
from fingerprints.codes import code_to_text, matching_bits, unpacked
from fingerprints.matching import NOBODY, SEVERAL, TIE, UNREACHABLE
from fingerprints.notes import VerifierKey
from fingerprints.registry import Registry
from fingerprints.statistics import corrected, log10_p_value, p_value
from release.alignments import ALIGNMENTS, AS_IT_IS, combined
from release.attribute import Attributor, Result
from release.evidence import words
from release.evidence.books import proven_events
from release.evidence.measured import find_innocents, likelihood, validation
from release.evidence.pictures import as_png
from release.evidence.redrawn import redrawn
from release.sizes import fitted

FORMAT = 1
NEAR = 8           # users listed besides those over the threshold
LARGEST_SIDE = 1024  # pixels of the picture as the page shows it
SUMMED = ('name', 'user', 'state', 'reserved_at', 'issued_at', 'revoked_at', 'reason', 'digest', 'model_digest')


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of a report.

    image: the file. fpr: the accepted rate of false namings. align: whether to try release.alignments.
    innocents: path of a dataset of pictures of no instance; None for the run's own. count: how many pictures of the
    instance to measure. redraw: how many pictures of either kind to re-synthesise for comparison; 0 to do
    without. note, key: a signed checkpoint, and the public key to check it with. with_code: show the code.
    """
    image: str
    fpr: float
    align: bool = False
    innocents: Optional[str] = None
    count: int = 400
    redraw: int = 2
    note: Optional[str] = None
    key: Optional[VerifierKey] = None
    with_code: bool = True


class Reporter:
    """Makes the records of evidence reports, for one run and its registry.

    Args:
        run_dir: the training run. registry: who has an instance. request: what is asked.

    Raises:
        UserError: as release.attribute.Attributor; the picture, or the dataset of innocents, can't be read.
    """

    def __init__(self, run_dir: str, registry: Registry, request: Request):
        self._run_dir, self._registry, self._request = run_dir, registry, request
        self._attributor = Attributor(run_dir, registry, request.align)
        self._snapshot = self._attributor.snapshot
        users = self._attributor.users
        self._names, self._codes = users.names, unpacked(users.codes.data, users.codes.num_bits)
        self._innocents = find_innocents(request.innocents, self._snapshot.options, self._snapshot.resolution)

    def __call__(self) -> tuple[dict[str, Any], Result]:
        """(the record, the Result of the attribution that it explains)."""
        request, found = self._request, self._attributed()
        attribution = found.attribution
        image, pixels = _looked_at(request.image, self._attributor.model.resolution, found)
        logits = self._attributor.model.decode(to_float(pixels[np.newaxis]))[0]
        best = list(self._names).index(attribution.best_user)
        tried = found.tried
        record = {
            'format': FORMAT, 'made_at': now(), 'versions': versions(), 'version': VERSION,
            'picture': self._picture(image, pixels, found), 'model': self._model(),
            'attribution': dataclasses.asdict(attribution), 'fpr': request.fpr, 'alignments_tried': tried,
            'outcome': words.outcome(attribution, request.fpr, tried, found.revoked),
            'log10_p_of_one_code': log10_p_value(attribution.matching, attribution.num_bits),
            'instance': self._instance(attribution.best_user),
            'bits': self._bits(logits, self._codes[best]), 'near': self._near(logits, tried),
            'propositions': words.propositions(attribution), 'limits': words.LIMITS}
        return {**record, **self._measured(attribution, best, pixels), 'ledger': self._ledger(attribution)}, found

    def _attributed(self):
        (found,) = self._attributor([self._request.image], self._request.fpr)
        if found.error:
            raise UserError(f'{self._request.image}: {found.error}')
        return found

    def _picture(self, image, pixels, found):
        return {'name': os.path.basename(found.record()['image']), 'sha256': found.sha256,
                'width': image.width, 'height': image.height,
                'alignment': found.alignment or AS_IT_IS, 'pixels_sha256': hashlib.sha256(pixels.tobytes()).hexdigest(),
                'png': as_png(np.asarray(_shown(image))), 'aligned_png': as_png(pixels)}

    def _model(self):
        snapshot = self._snapshot
        return {'digest': snapshot.digest, 'kimg': snapshot.kimg, 'method': snapshot.config.method,
                'bits': snapshot.config.fingerprint_bits, 'resolution': snapshot.resolution,
                'users': len(self._names), 'trained_on': snapshot.options['dataset'].get('name')}

    def _instance(self, name):
        instance = self._registry.get(name)
        return {key: value for key, value in dataclasses.asdict(instance).items() if key in SUMMED}

    def _bits(self, logits, code):
        """What was read and what the code is, '0' and '1', and the logits; or only which bits agree."""
        read = logits > 0
        agree = code_to_text(read == (code > 0))
        if not self._request.with_code:
            return {'agree': agree}
        return {'read': code_to_text(read), 'code': code_to_text(code), 'agree': agree,
                'logits': [round(float(one), 3) for one in logits]}

    def _near(self, logits, tried):
        """The users whose codes agree best in this alignment, the nearest first."""
        names, codes = self._names, self._codes
        counts = matching_bits(logits > 0, codes)
        order = np.argsort(-counts, kind='stable')[:NEAR]
        num_bits = codes.shape[1]
        return [{'user': names[index], 'matching': int(counts[index]),
                 'p_value': float(corrected(p_value(int(counts[index]), num_bits), len(codes), 1, tried)),
                 'state': self._registry.get(names[index]).state} for index in order]

    def _measured(self, attribution, best, pixels):
        """The likelihood ratio, the re-synthesis and the validation table; the first two only if a user is named."""
        request, snapshot = self._request, self._snapshot
        tables = {'validation': validation(self._run_dir, snapshot.kimg)}
        if attribution.user is None:
            why = {NOBODY: 'nobody reaches the threshold', UNREACHABLE: 'nobody can',
                   SEVERAL: 'several users reach the threshold', TIE: 'several users reach the threshold'}
            missing = {'missing': f'not done, since nobody is named: {why[attribution.reason]}'}
            return {'likelihood': missing, 'redrawn': missing, **tables}
        model, codes = self._attributor.model, self._codes
        innocents, versions = self._innocents, list(self._attributor.alignments.values())
        return {'likelihood': likelihood(model, codes, best, attribution.threshold, innocents, request.count, versions),
                'redrawn': redrawn(snapshot, model, codes[best], pixels, innocents, request.redraw), **tables}

    def _ledger(self, attribution):
        """What the ledger proves of the instance named; of several, of the first."""
        if attribution.reason in (NOBODY, UNREACHABLE):
            return {'missing': 'nobody is named, so there is no instance whose events are to be proven'}
        request, instance = self._request, self._registry.get(attribution.best_user)
        return proven_events(self._registry, instance, request.note, request.key, request.with_code)


def _looked_at(path: str, side: int, found: Result) -> tuple[Image.Image, np.ndarray]:
    """(the picture, its pixels uint8 [side, side, 3] in the alignment that was found)."""
    try:
        image = decode(read_file(path))
        ways = fitted(image, side)
    except ImageError as error:
        raise UserError(f'{path}: {error}') from None
    versions = {combined(way, name): (pixels, version) for way, pixels in ways.items()
                for name, version in ALIGNMENTS.items()}
    pixels, version = versions[found.alignment or AS_IT_IS]
    return image, version(pixels[np.newaxis])[0]


def _shown(image):
    """The picture, made smaller if it is larger than a page."""
    shown = image.copy()
    shown.thumbnail([LARGEST_SIDE, LARGEST_SIDE])
    return shown

