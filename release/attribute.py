"""Attribution: image files → decoder → registry → user, matching bits, p-value."""
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Optional, Union

import numpy as np

from dnnlib.images import ImageError, decode, read_file, to_float
from dnnlib.util import progress
from dnnlib.version import VERSION
from fingerprints.matching import Attribution, attribute
from fingerprints.registry import Registry
from release.alignments import ALIGNMENTS, best_alignment
from release.inputs import Input
from release.issue import released_snapshot

BATCH = 64


@dataclasses.dataclass(frozen=True)
class Result:
    """One file's outcome: an Attribution, or an error in one line.

    sha256: of the file's bytes; None if they could not be read.
    alignment: the version of the picture that it holds for, if several were tried.
    revoked: for users in the attribution whose instances are revoked, when they were: {name: UTC, ISO 8601}.
    """
    path: str
    attribution: Optional[Attribution] = None
    error: Optional[str] = None
    sha256: Optional[str] = None
    alignment: Optional[str] = None
    revoked: dict[str, str] = dataclasses.field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The result as a JSON object. A name that is not valid Unicode has escapes for the bytes that are not."""
        name = self.path.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')
        if self.error:
            return {'image': name, 'sha256': self.sha256, 'error': self.error}
        return {'image': name, 'sha256': self.sha256, **dataclasses.asdict(self.attribution),
                'alignment': self.alignment, 'revoked': self.revoked}


class Attributor:
    """Names the users of image files, for one run and its registry.

    provenance: what every result rests on: the digest of the model (the snapshot that the instances came from), that
        snapshot's kimg, the version of this project, and in how many alignments each picture is tried.

    Args:
        run_dir: the training run. registry: who has an instance.
        align: try each picture mirrored, turned and inverted as well (release.alignments).

    Raises:
        UserError: an empty registry, or one of another model than the run's.
    """

    def __init__(self, run_dir: str, registry: Registry, align: bool = False):
        snapshot = released_snapshot(run_dir, registry)
        self.model = snapshot.model(BATCH)
        self.names, self.codes = registry.codes(snapshot.digest)
        self.revoked = {user.name: user.revoked_at for user in registry.list() if user.revoked_at}
        self.alignments = ALIGNMENTS if align else {None: lambda images: images}
        self.provenance = {'model_digest': snapshot.digest, 'snapshot_kimg': snapshot.kimg, 'version': VERSION,
                           'alignments': len(self.alignments)}

    def __call__(self, inputs: Iterable[Union[str, Input]], fpr: float) -> Iterator[Result]:
        """Yields a Result per input, in order. A file that can't be read has an error, and the rest goes on.

        Args:
            inputs: paths, or Inputs.
            fpr: the largest chance, over all users together, of any user's passing for an image that stems from none.
        """
        inputs = [one if isinstance(one, Input) else Input(one) for one in inputs]
        for start in progress(range(0, len(inputs), BATCH), desc='attribute', unit='batch'):
            yield from self._batch(inputs[start:start + BATCH], fpr)

    def _batch(self, inputs, fpr):
        read = [self._read(one) for one in inputs]
        images = [image for _, image in read if image is not None]
        found = iter(self._attribute(np.stack(images), fpr) if images else [])
        return [result if image is None else self._with(result, next(found)) for result, image in read]

    def _read(self, one):
        """(Result so far, image uint8 [H, W, 3]); the image is None if there is an error."""
        digest = None
        try:
            if one.error:
                raise ImageError(one.error)
            data = read_file(one.path)
            digest = hashlib.sha256(data).hexdigest()
            # Taken as it is: scaling an image would wash the fingerprint out unseen.
            image = np.asarray(decode(data, side=self.model.resolution))
            return Result(one.path, sha256=digest), image
        except ImageError as error:
            return Result(one.path, error=str(error), sha256=digest), None

    def _attribute(self, images, fpr):
        """[(alignment, Attribution)] of uint8 images [N, H, W, 3]."""
        found = [attribute(self.model.decode(to_float(version(images))), self.names, self.codes, fpr,
                           num_alignments=len(self.alignments)) for version in self.alignments.values()]
        names = list(self.alignments)
        best = [best_alignment(versions) for versions in zip(*found)]
        return [(names[number], attribution) for number, attribution in best]

    def _with(self, result, found):
        alignment, attribution = found
        said = {attribution.user, *attribution.over_threshold}
        revoked = {name: when for name, when in self.revoked.items() if name in said}
        return dataclasses.replace(result, attribution=attribution, alignment=alignment, revoked=revoked)
