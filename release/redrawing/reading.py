"""Reading the fingerprint of a picture from what it has more than the generator's own picture of it.

Where a decoder reads a mark against the picture that bears it, most of what stands in its way is that picture. Once it
is known (release.redrawing.inversion), what is left is marks and noise, and marks are linear in the bits:

    t = clip(p + Σ_j ±d_j + J δ + n),    d_j = the mark of bit j with the signs of this picture and a key,

p the picture without marks, J its derivatives by latent and place, whose small errors δ are not to be taken for
marks, n Gaussian. p is found by generalized least squares first, since of marks that nobody knows yet the covariance is
known; then once more with those taken off that were read. Bits follow by least squares, weighted by how much of each
pixel is not cut off; the key is the one by which they are read most surely. No user's code takes part.
"""
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from dnnlib.util import UserError
from metrics.similarity import psnr
from models.adopted import key_likelihoods, least_coherence, nobodys
from models.content import bits_of_keys
from models.signs import spread
from release.redrawing.blind import read_blindly
from release.redrawing.inversion import Inversion, Inverter
from release.redrawing.left import Left, least_squares, noise_beside
from release.redrawing.placing import averaged, in_words
from training.snapshot import Snapshot

LIKELY, SURE = 0.3, 0.6  # Reading.beyond: by chance, or where a picture lay otherwise, it gets to 0.5, and to 0.7 if
FIRMLY = 3.0             # marks explain less than that (Redrawn.explained), or of many places
KEYS = 6                 # of the likeliest, between which a fit decides
AGAIN, DOUBTFUL = 2, 0.4   # how often a picture is found once more, less its marks; not if these cohere less
MISREAD = 0.1              # share of marks that is taken for misread then
EXPLAINED = 1.5            # Redrawn.explained of marks
EVIDENT, ANEW = 20.0, 2    # Reading.evident of marks that are there, and how often a picture is sought anew less these
LEAST_ERROR = 0.25       # in grey levels squared: half a level is the most that rounding can have hidden
MOST_LOGIT = 30.0        # surer than that nothing is


class Redrawn(NamedTuple):
    """How a picture was read.

    logits: [bits]. coherence: whether all parts say the same bits, −1 to 1. least: the coherence below which they are
    nobody's. placing: how it lay. psnr: in dB, of the picture without marks to it, less its marks if they may cohere.
    explained: by marks, per bit, in units of what is left per pixel; of noise alone least squares would explain 1 (the
    F statistic).
    """
    logits: np.ndarray
    coherence: float
    least: float
    placing: np.ndarray
    psnr: float
    explained: float

    @property
    def coheres(self) -> bool:
        """Whether its marks are somebody's: there are some, and they cohere."""
        return self.coherence >= self.least and self.explained > EXPLAINED

    def in_words(self) -> str:
        """'drawn again as a whole, 27.1 dB'."""
        return f'drawn again {in_words(self.placing)}, {self.psnr:.1f} dB'


class Reading(NamedTuple):
    """How a picture was read with one Inversion.

    marks: [side, side, 3], by how much those that were read change its averages, on [-1, 1], with the picture's signs
    or blindly, which leaves less. left: the mean square of what neither picture nor marks explain. evident: how much
    more marks explain than noise would, read blindly.
    """
    redrawn: Redrawn
    found: Inversion
    marks: np.ndarray
    left: float
    evident: float

    @property
    def beyond(self) -> float:
        """How far its marks cohere from the least, 0, to all that they can, 1; −1 of such as explain nothing."""
        redrawn = self.redrawn
        return (redrawn.coherence - redrawn.least) / (1 - redrawn.least) if redrawn.explained > EXPLAINED else -1.0

    def is_sure(self, kind: str) -> bool:
        """Whether it counts, whatever else a picture may be that was begun as this kind (Starts): where there are many
        places, only if its marks are evident."""
        firm = kind == 'whole' and self.redrawn.explained > FIRMLY
        return self.beyond >= SURE and (firm or self.evident >= EVIDENT)


class Redrawer:
    """Reads pictures of one model, in half a minute to three minutes of processor time each, or six if there are none.

    The covariance of marks takes (3 side²)² numbers of 8 bytes: 75 MB at a side of 32.

    Args:
        snapshot: of a method whose marks are added to pictures: it has `bit_marks` and `signs_by_key`.
        seed: of the search for latents.

    Raises:
        UserError: it is of another method.
    """

    def __init__(self, snapshot: Snapshot, seed: int = 0):
        if not hasattr(snapshot.method, 'bit_marks'):
            raise UserError(f'pictures of method {snapshot.config.method} are not read by drawing them again, only '
                            'those of method adopted; leave --redraw out')
        self._nets, self._method, self._config = snapshot.nets, snapshot.method, snapshot.config
        self._side = min(self._config.read_side, snapshot.resolution)
        self._marks = self._method.bit_marks(self._nets)                                     # [bits, R, R, 3]
        self._bits = self._marks.shape[0]
        self._inverter = Inverter(lambda latents: self._method.styles(self._nets, latents),
                                  lambda styles: self._method.unmarked(self._nets, styles), self._config.latent_dim,
                                  snapshot.resolution, self._side, seed)
        signs = self._config.sign_map
        self._maps = spread(tf.reshape(tf.eye(signs ** 2), [-1, signs, signs]), snapshot.resolution)  # [side², H, W, 1]

    def __call__(self, image: np.ndarray, given: Optional[np.ndarray] = None) -> Redrawn:
        """Reads an image, float32 [H, W, 3] on [-1, 1].

        About where the placement `given` [4] says, if one is; as a whole, a part, a turn, the likeliest first, until
        marks are evident or surely cohere; if they do not, once more from other latents where picture and marks leave
        least. The first that surely cohere count, else of those that are likely to, or of all, the reading that leaves
        least; where marks do not cohere, it is read as nobody's.
        """
        redrawn = self._search(image, given).redrawn
        if redrawn.coheres:
            return redrawn
        return redrawn._replace(logits=nobodys(tf.constant(redrawn.logits[np.newaxis]))[0].numpy())

    def _search(self, image, given):
        """The Reading that counts."""
        readings, kinds = [], self._inverter.kinds(image)
        for kind in kinds if given is None else ['given', *kinds]:
            starts = self._inverter.starts(image, kind, given)
            readings += self._readings(image, starts, np.zeros([self._side, self._side, 3], np.float32))
            if readings[-1].is_sure(kind):
                return readings[-1]
            evident = [reading for reading in readings if reading.evident >= EVIDENT]
            if evident:
                break
        if max(reading.beyond for reading in evident or readings) < LIKELY:
            readings += self._anew(image, min(evident or readings, key=lambda reading: reading.left))
        return min(readings, key=lambda reading: (reading.beyond < LIKELY, reading.left))

    def _readings(self, image, starts, marks):
        """Readings of an image from Starts of it less its marks, as far as they are known, until one is sure."""
        readings = []
        for found in self._inverter.follow(image - self._enlarged(marks), starts):
            readings.append(self._exactly(image, found, marks))
            if readings[-1].is_sure(starts.kind):
                break
        return readings

    def _anew(self, image, likeliest):
        """Readings from other latents at the place of a Reading, less its marks if they are evident: once these are
        off, what the right latents leave is far less than what others do."""
        readings = [likeliest]
        for _ in range(ANEW):
            least = min(readings, key=lambda reading: reading.left)
            marks = least.marks * (least.evident >= EVIDENT)
            starts = self._inverter.starts(image - self._enlarged(marks), 'given', least.found.placing)
            readings += self._readings(image, starts, marks)
            if readings[-1].is_sure('given') or max(reading.evident for reading in readings) < EVIDENT:
                break
        return readings

    def _enlarged(self, averages):
        """Averages [side, side, 3] as an image [H, W, 3]."""
        factor = self._maps.shape[1] // self._side
        return averages.repeat(factor, 0).repeat(factor, 1)

    def _exactly(self, image, found, marks):
        """The Reading with an Inversion that takes marks for what they are: at first of any bits and signs, if none are
        known; then, while they may cohere or are evident, less those that were read, of which some may be misread."""
        for share in (MISREAD if marks.any() else 1.0, *[MISREAD] * AGAIN):
            less = image - self._enlarged(marks)
            found = self._inverter.exactly(less, found, share * self._covariance(found))
            reading = self.read(image, found)
            if reading.redrawn.coherence < DOUBTFUL and reading.evident < EVIDENT:
                break
            marks = reading.marks
        return reading

    def read(self, image: np.ndarray, found: Inversion) -> Reading:
        """Reads an image whose Inversion is known, its marks coherent or not."""
        left = Left(self._inverter, self._inverter.averages(image), found)
        picture = self._inverter.draw(tf.constant(found.latents[np.newaxis]))
        signs = self._method.signs_by_key(self._nets, picture)[0].numpy()                    # [keys, side²]
        marks = self._method.unsigned(self._nets, self._marks, picture)                      # [bits, H, W, 3]
        seen, maps = self._coloured(marks, found) * left.slopes, self._parts_seen(found)
        # Twice the product of what is left with each bit's mark in each part of the sign map, in log-odds.
        parts = (2 * (maps * left.whitened) @ seen.T).astype(np.float32)                     # [side², bits]
        matched = tf.tensordot(tf.constant(signs), tf.constant(parts), 1)                    # [keys, bits]
        likely = key_likelihoods(matched, self._config.key_bits).numpy().argsort()[::-1][:KEYS]
        fits = np.stack([self._fit(left, found, marks, signs[key]) for key in likely])       # [KEYS, bits]
        among = np.zeros_like(matched.numpy())
        among[likely] = fits                                                                 # of the others none counts
        surest = int(key_likelihoods(tf.constant(among), self._config.key_bits).numpy()[likely].argmax())
        logits, signs = self._spelled(fits[surest], likely[surest]), signs[likely[surest]]
        coherence = _coherence(left, seen, signs[:, np.newaxis] * maps)
        told = np.tanh(logits / 2) @ self._signed(marks, signs, found) * left.slopes         # [pixels]
        redrawn = Redrawn(logits, coherence, self._least(found), found.placing,
                          psnr(max(found.error * 127.5 ** 2, LEAST_ERROR)), left.explained(told, self._bits))
        blind = min((read_blindly(left, seen, maps, begun) for begun in (None, signs)), key=lambda blind: blind.left)
        told = told if left.unexplained(told) < blind.left else blind.marks
        return Reading(redrawn, found, (told * left.deviations).reshape(self._side, self._side, 3).astype(np.float32),
                       left.unexplained(told), blind.explained)

    def _spelled(self, logits, key):
        """Log-odds [bits] that spell the key by which they were read, whatever was read of the bits that do."""
        spelled = bits_of_keys(self._config.key_bits)[key] * 2 - 1
        return np.concatenate([np.abs(logits[:len(spelled)]) * spelled, logits[len(spelled):]])

    def _least(self, found):
        """The coherence below which marks are nobody's: of a part fewer signs are seen, and more agree by chance."""
        return least_coherence(self._config.sign_map, min(1.0, float(np.exp(found.placing[0]))))

    def _seen(self, images, found):
        """Images [N, H, W, C] of marks as the inversion's picture lies, averaged down: [N, side, side, C]."""
        return averaged(images, tf.constant(np.tile(found.placing, [images.shape[0], 1])), self._side).numpy()

    def _coloured(self, marks, found):
        """Marks [bits, H, W, 3] as the inversion's picture lies and in its colours: [bits, pixels]."""
        return (self._seen(marks, found) @ found.colours[:3]).reshape(self._bits, -1)

    def _parts_seen(self, found):
        """Each part of the sign map as the inversion's picture lies: [side², pixels]."""
        return self._seen(self._maps, found).repeat(3, axis=3).reshape(self._maps.shape[0], -1)

    def _covariance(self, found):
        """Of marks of any bits and signs, as the inversion's picture lies: [pixels, pixels]."""
        picture = self._inverter.draw(tf.constant(found.latents[np.newaxis]))
        marks = self._coloured(self._method.unsigned(self._nets, self._marks, picture), found)
        maps = self._parts_seen(found)
        return (marks.T @ marks) * (maps.T @ maps)

    def _signed(self, marks, signs, found):
        """Marks [bits, H, W, 3] with signs [side²] as the inversion's picture lies: [bits, pixels]."""
        signs = tf.tensordot(tf.constant(signs[np.newaxis]), self._maps, 1)                  # [1, H, W, 1]
        return self._coloured(marks * signs, found)

    def _fit(self, left, found, marks, signs):
        """Log-odds [bits] of the bits by least squares, with the signs [side²] of one key."""
        bits, variances, _ = left.bits(self._signed(marks, signs, found) * left.slopes)
        return np.clip(2 * bits / variances, -MOST_LOGIT, MOST_LOGIT).astype(np.float32)


def _coherence(left, marks, maps):
    """From −1 to 1: how much of what each part of the sign map shows is what the bits that all others say, by least
    squares, make its marks; that is models.adopted.coherence_of where the picture is known.

    Args:
        left: Left.
        marks: [bits, pixels], in its units, without signs.
        maps: each part with its sign, [side², pixels].
    """
    whole = left.without_nuisance(marks * maps.sum(0))
    noise, told = noise_beside(whole, left.whitened), np.zeros(len(maps))
    for index, seen in enumerate(maps):
        part = left.without_nuisance(marks * seen)
        others = whole - part
        bits, variances = least_squares(others, left.whitened, noise)
        bits = np.tanh(bits / variances)
        told[index] = (left.whitened - bits @ others) @ (bits @ part)
    return float(told.sum() / (np.abs(told).sum() + 1e-12))
