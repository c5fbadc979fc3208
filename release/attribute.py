"""Attribution: image files → decoder → registry → user, matching bits, p-value."""
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Optional, Union

import numpy as np

from dnnlib.images import to_float
from dnnlib.util import progress
from dnnlib.version import VERSION
from fingerprints.matching import Attribution, attribute
from fingerprints.registry import Registry
from release.alignments import ALIGNMENTS, AS_IT_IS, best_alignment, combined
from release.inputs import Input
from release.issue import released_snapshot
from release.reading import Picture, in_order, read_picture

BATCH = 64


@dataclasses.dataclass(frozen=True)
class Result:
    """One file's outcome: an Attribution, or an error in one line.

    sha256: of the file's bytes; None if they could not be read.
    alignment: the version of the picture that it holds for, if several were tried or it had to be scaled.
    tried: in how many versions; p-value and threshold are corrected for them.
    revoked: for users in the attribution whose instances are revoked, when they were: {name: UTC, ISO 8601}.
    """
    path: str
    attribution: Optional[Attribution] = None
    error: Optional[str] = None
    sha256: Optional[str] = None
    alignment: Optional[str] = None
    revoked: dict[str, str] = dataclasses.field(default_factory=dict)
    tried: int = 1

    def record(self) -> dict[str, Any]:
        """The result as a JSON object. A name that is not valid Unicode has escapes for the bytes that are not."""
        name = recorded_name(self.path)
        if self.error:
            return {'image': name, 'sha256': self.sha256, 'error': self.error}
        return {'image': name, 'sha256': self.sha256, **dataclasses.asdict(self.attribution),
                'alignment': self.alignment, 'tried': self.tried, 'revoked': self.revoked}


def recorded_name(path: str) -> str:
    """A file's name as records have it."""
    return path.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')


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
        self.alignments = ALIGNMENTS if align else {AS_IT_IS: ALIGNMENTS[AS_IT_IS]}
        self.provenance = {'model_digest': snapshot.digest, 'snapshot_kimg': snapshot.kimg, 'version': VERSION,
                           'alignments': len(self.alignments)}

    def __call__(self, inputs: Iterable[Union[str, Input]], fpr: float) -> Iterator[Result]:
        """Yields a Result per input, in order. A file that can't be read has an error, and the rest goes on.

        Inputs are taken, read and forgotten as it goes, so that any number of them needs the same memory.

        Args:
            inputs: paths, or Inputs.
            fpr: the largest chance, over all users together, of any user's passing for an image that stems from none.
        """
        for pictures in self.read(inputs):
            yield from self._concluded(pictures, fpr)

    def read(self, inputs: Iterable[Union[str, Input]]) -> Iterator[list[Picture]]:
        """Yields the Pictures of inputs, in order, BATCH at a time."""
        inputs = (one if isinstance(one, Input) else Input(one) for one in inputs)
        read = in_order(functools.partial(read_picture, side=self.model.resolution), inputs)
        with progress(desc='attribute', unit=' images') as bar:
            for pictures in iter(lambda: list(itertools.islice(read, BATCH)), []):
                yield pictures
                bar.update(len(pictures))

    def logits(self, pictures: Iterable[Picture]) -> list[dict[str, np.ndarray]]:
        """What the decoder says of each version of Pictures: a list of {alignment: logits [num_bits]}, without errors.

        The first is the picture as it is, or scaled as a whole.
        """
        keys = [(number, way) for number, picture in enumerate(pictures) for way in picture.versions]
        found = [{} for _ in pictures]
        if keys:
            images = np.stack([pictures[number].versions[way] for number, way in keys])
            for name, version in self.alignments.items():
                for (number, way), row in zip(keys, self.model.decode(to_float(version(images)))):
                    found[number][combined(way, name)] = row
        return found

    def _concluded(self, pictures, fpr):
        """The Results of Pictures: those tried in equally many versions are compared with the users together."""
        found = self.logits(pictures)
        results = [Result(picture.path, error=picture.error, sha256=picture.sha256) for picture in pictures]
        for tried in {len(versions) for versions in found} - {0}:
            chosen = [number for number, versions in enumerate(found) if len(versions) == tried]
            rows = np.stack([row for number in chosen for row in found[number].values()])
            attributions = attribute(rows, self.names, self.codes, fpr, num_alignments=tried)
            for start, number in enumerate(chosen):
                several = attributions[start * tried:(start + 1) * tried]
                results[number] = self._with(results[number], list(found[number]), several)
        return results

    def _with(self, result, alignments, found):
        number, attribution = best_alignment(found)
        said = {attribution.user, *attribution.over_threshold}
        revoked = {name: when for name, when in self.revoked.items() if name in said}
        alignment = None if alignments == [AS_IT_IS] else alignments[number]
        return dataclasses.replace(result, attribution=attribution, alignment=alignment, revoked=revoked,
                                   tried=len(found))
