"""Attribution: image files → decoder → registry → user, matching bits, p-value; one by one, or of one source."""
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional, Union

import numpy as np

from dnnlib.images import to_float
from dnnlib.util import progress
from dnnlib.version import VERSION
from fingerprints.codes import packed
from fingerprints.evidence import soft_weights
from fingerprints.matching import PAIR, Attribution, PackedCodes, attribute
from fingerprints.pairs import Pair, PairSearch
from fingerprints.registry import Registry
from release.alignments import ALIGNMENTS, AS_IT_IS, best_alignment, combined
from release.inputs import Input
from release.issue import released_snapshot
from release.reading import Picture, in_order, read_picture
from release.redrawing.placing import where_to_begin
from release.redrawing.reading import Redrawer
from release.search import find_placement, in_words, sureness
from training.snapshot import find_released

BATCH = 64
SUREST = 'each as it is read most surely'


@dataclasses.dataclass(frozen=True)
class Result:
    """One file's outcome: an Attribution, or an error in one line.

    sha256: of the file's bytes; None if they could not be read.
    alignment: the version of the picture that it holds for, if several were tried or it had to be scaled.
    tried: in how many versions; p-value and threshold are corrected for them.
    pair: two users whose codes together explain that version, if pairs were looked for.
    images: of a result for pictures of one source, each one's {'image', 'sha256'}; sha256 is then that of theirs,
        written one after the other.
    revoked: for users in the attribution whose instances are revoked, when they were: {name: UTC, ISO 8601}.
    """
    path: str
    attribution: Optional[Attribution] = None
    error: Optional[str] = None
    sha256: Optional[str] = None
    alignment: Optional[str] = None
    revoked: dict[str, str] = dataclasses.field(default_factory=dict)
    tried: int = 1
    pair: Optional[Pair] = None
    images: tuple[dict[str, Any], ...] = ()

    def record(self) -> dict[str, Any]:
        """The result as a JSON object. A name that is not valid Unicode has escapes for the bytes that are not."""
        name = recorded_name(self.path)
        if self.error:
            return {'image': name, 'sha256': self.sha256, 'error': self.error}
        images = {'images': list(self.images)} if self.images else {}
        pair = dataclasses.asdict(self.pair) if self.pair else None
        return {'image': name, 'sha256': self.sha256, **dataclasses.asdict(self.attribution),
                'alignment': self.alignment, 'tried': self.tried, 'revoked': self.revoked, 'pair': pair, **images}


def recorded_name(path: str) -> str:
    """A file's name as records have it."""
    return path.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')


@dataclasses.dataclass(frozen=True)
class Users:
    """Who has an instance of one model: all that attribution takes from a registry.

    names: U of them. codes: theirs. revoked: of those whose instances are revoked, when: {name: UTC, ISO 8601}.
    """
    model_digest: str
    names: list[str]
    codes: PackedCodes
    revoked: dict[str, str]

    @classmethod
    def of(cls, registry: Registry, model_digest: str) -> 'Users':
        """Those that a registry has of the model."""
        names, codes = registry.codes(model_digest)
        revoked = {user.name: user.revoked_at for user in registry.list() if user.revoked_at}
        return cls(model_digest, names, PackedCodes(packed(codes), codes.shape[1]), revoked)


class Attributor:
    """Names the users of image files, for one run and its registry.

    provenance: what every result rests on: the digest of the model (the snapshot that the instances came from), that
        snapshot's kimg, the version of this project, in how many alignments each picture is tried, whether bits count
        by how surely they were read, whether places of crops and pairs of users were looked for, whether pictures were
        drawn again.

    snapshot: the instances' model. users: who has one. tried: in how many versions a picture of the model's size is
        looked at.

    Args:
        run_dir: the training run.
        registry: who has an instance; or the Users that it has of one model.
        align: try each picture mirrored, turned and inverted as well (release.alignments).
        soft: count bits by how surely they were read (fingerprints.matching.attribute).
        search: look for how each picture lay in the model's, a part of which or turned it may be (release.search).
        collusion: look for two users who combined theirs (fingerprints.pairs).
        redraw: read each picture less the generator's own picture of it, too (release.redrawing).

    Raises:
        UserError: an empty registry, or one of another model than the run's; pairs of too many users; a method whose
            pictures can't be read so.
    """

    def __init__(self, run_dir: str, registry: Union[Registry, Users], align: bool = False, soft: bool = False,
                 search: bool = False, collusion: bool = False, redraw: bool = False):
        if isinstance(registry, Users):
            self.users, snapshot = registry, find_released(run_dir, registry.model_digest)
        else:
            snapshot = released_snapshot(run_dir, registry)
            self.users = Users.of(registry, snapshot.digest)
        self.snapshot, self.model = snapshot, snapshot.model(BATCH)
        self.soft, self.search = soft, search
        self.pairs = PairSearch(self.users.names, self.users.codes) if collusion else None
        self.alignments = ALIGNMENTS if align else {AS_IT_IS: ALIGNMENTS[AS_IT_IS]}
        self.redrawer = Redrawer(snapshot) if redraw else None
        self.tried = len(self.alignments) + search + redraw
        self._at_once = 1 if search or redraw else BATCH  # what takes long is told, and kept, as it is found
        self.provenance = {'model_digest': snapshot.digest, 'snapshot_kimg': snapshot.kimg, 'version': VERSION,
                           'alignments': len(self.alignments), 'soft': soft, 'search': search,
                           'collusion': collusion, 'redraw': redraw}

    def __call__(self, inputs: Iterable[Union[str, Input]], fpr: float) -> Iterator[Result]:
        """Yields a Result per input, in order. A file that can't be read has an error, and the rest goes on.

        Inputs are taken, read and forgotten as it goes, so that any number of them needs the same memory.

        Args:
            inputs: paths, or Inputs.
            fpr: the largest chance, over all users together, of any user's passing for an image that stems from none.
        """
        for pictures in self.read(inputs):
            yield from self.conclude(pictures, fpr)

    def together(self, inputs: Iterable[Union[str, Input]], fpr: float) -> Iterator[Result]:
        """Yields a Result for each input that can't be read, and then one for all others, which are of one source.

        Each picture votes on each bit, by how surely it was read (fingerprints.evidence.pool). That the pictures have
        one source must be known from elsewhere.
        """
        votes, images, digest = {}, [], hashlib.sha256()
        for pictures in self.read(inputs):
            for picture, versions in zip(pictures, self.logits(pictures)):
                if picture.error:
                    yield Result(picture.path, error=picture.error, sha256=picture.sha256)
                    continue
                for choice, weights in self._votes(versions).items():
                    votes[choice] = votes.get(choice, 0) + weights
                images.append({'image': recorded_name(picture.path), 'sha256': picture.sha256})
                digest.update(picture.sha256.encode())
        if images:
            whole = Result(f'{len(images)} images together', sha256=digest.hexdigest(), images=tuple(images))
            rows = np.stack(list(votes.values())).astype(np.float64)
            found = attribute(rows, self.users.names, self.users.codes, fpr, num_alignments=len(rows), soft=self.soft)
            yield self._with(whole, list(votes), found, rows, fpr)

    def _votes(self, versions):
        """{choice: soft weights [num_bits]}: what one picture says of each bit, its version chosen in several ways.

        The same alignment for all pictures; or, of each picture, the one that is read most surely, of those inverted or
        of those not: a decoder may read the negative of a picture as surely, and all bits the other way. Nothing looks
        at a code; each choice is one more comparison.
        """
        groups = {alignment: [key for key in versions if key[1] == alignment] for alignment in self.alignments}
        if len(groups) > 1:
            for inverted in (False, True):
                groups[SUREST + (', inverted' if inverted else '')] = [
                    key for key in versions if key[1].endswith('inverted') == inverted]
        return {choice: soft_weights(versions[max(keys, key=lambda key: sureness(versions[key]))])
                for choice, keys in groups.items()}

    def read(self, inputs: Iterable[Union[str, Input]]) -> Iterator[list[Picture]]:
        """Yields the Pictures of inputs, in order, some at a time."""
        inputs = (one if isinstance(one, Input) else Input(one) for one in inputs)
        read = in_order(functools.partial(read_picture, side=self.model.resolution), inputs)
        with progress(desc='attribute', unit=' images') as bar:
            for pictures in iter(lambda: list(itertools.islice(read, self._at_once)), []):
                yield pictures
                bar.update(len(pictures))

    def logits(self, pictures: Iterable[Picture]) -> list[dict[tuple[str, str], np.ndarray]]:
        """What the decoder says of each version of Pictures: a list of {(way, alignment): logits [num_bits]}.

        The way is one of release.sizes, the alignment one of release.alignments; the first is the picture as it is, or
        scaled as a whole. A Picture with an error has none.
        """
        keys = [(number, way) for number, picture in enumerate(pictures) for way in picture.versions]
        found = [{} for _ in pictures]
        if keys:
            images = np.stack([pictures[number].versions[way] for number, way in keys])
            for name, version in self.alignments.items():
                for (number, way), row in zip(keys, self.model.decode(to_float(version(images)))):
                    found[number][way, name] = row
        for picture, versions in zip(pictures, found):
            if picture.versions:
                versions.update(self._looked_for(next(iter(picture.versions.values())), next(iter(versions.values()))))
        return found

    def _looked_for(self, image, as_it_is):
        """{(how it lay or was drawn, AS_IT_IS): logits} of an image uint8 [side, side, 3], by what takes seconds.

        as_it_is: its logits [bits] without that.
        """
        found, given = {}, None
        if self.search:
            placement, row = find_placement(image, self.model.decode)
            found[in_words(placement, len(image)), AS_IT_IS] = row
            given = where_to_begin(placement, row, as_it_is, len(image))
        if self.redrawer:
            redrawn = self.redrawer(to_float(image), given)
            found[redrawn.in_words(), AS_IT_IS] = redrawn.logits
        return found

    def conclude(self, pictures: Sequence[Picture], fpr: float) -> list[Result]:
        """The Results of Pictures: those tried in equally many versions are compared with the users together."""
        found = self.logits(pictures)
        results = [Result(picture.path, error=picture.error, sha256=picture.sha256) for picture in pictures]
        for tried in {len(versions) for versions in found} - {0}:
            chosen = [number for number, versions in enumerate(found) if len(versions) == tried]
            rows = np.stack([row for number in chosen for row in found[number].values()])
            attributions = attribute(rows, self.users.names, self.users.codes, fpr, num_alignments=tried,
                                     soft=self.soft)
            for start, number in enumerate(chosen):
                own = slice(start * tried, (start + 1) * tried)
                alignments = [combined(*key) for key in found[number]]
                results[number] = self._with(results[number], alignments, attributions[own], rows[own], fpr)
        return results

    def _with(self, result, alignments, found, rows, fpr):
        number, attribution = best_alignment(found)
        pair = None
        if self.pairs:
            shown = {one: self.pairs(row, fpr, len(rows)) for one, row in enumerate(rows)}
            best = min(filter(shown.get, shown), key=lambda one: shown[one].p_value, default=None)
            if best is not None:
                number, pair = best, shown[best]
                if len(attribution.over_threshold) < 2:
                    attribution = dataclasses.replace(found[best], user=None, reason=PAIR,
                                                      over_threshold=attribution.over_threshold)
        alignment = None if alignments == [AS_IT_IS] else alignments[number]
        return dataclasses.replace(result, attribution=attribution, alignment=alignment, pair=pair,
                                   revoked=self._revoked(attribution, pair), tried=len(found))

    def _revoked(self, attribution, pair):
        said = {attribution.user, *attribution.over_threshold, *(pair.involved if pair else ())}
        return {name: when for name, when in self.users.revoked.items() if name in said}
