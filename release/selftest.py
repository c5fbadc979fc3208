"""Whether an instance's pictures can be traced: drawn from its folder, saved as files, read back as evidence is."""
import dataclasses
import io
from collections.abc import Sequence
from typing import Optional

import numpy as np
from PIL import Image

from dnnlib.images import decode, to_float
from dnnlib.util import UserError
from fingerprints.statistics import threshold
from metrics.base import Model
from release.drawing import Drawer

PICTURES = 8
RATE = 1e-6   # the chance that a picture of no instance agrees with this one code as well
FORMATS = {'png': {}, 'jpeg': {'quality': 90}}  # what Pillow's `save` is told


@dataclasses.dataclass(frozen=True)
class SelfTest:
    """What was read back.

    matching: per format, in how many bits each of the pictures agrees with the code.
    required: the formats that must be read; of the others it is only told.
    num_bits: of the code. needed: the fewest bits that agree by chance in RATE of all pictures or less; None if all
        bits are too few.
    """
    matching: dict[str, tuple[int, ...]]
    required: tuple[str, ...]
    num_bits: int
    needed: Optional[int]

    @property
    def passed(self) -> bool:
        """Whether in every required format at least half of the pictures are read."""
        return all(2 * self.read(form) >= len(self.matching[form]) for form in self.required)

    def read(self, form: str) -> int:
        """How many pictures of a format agree in as many bits as are needed."""
        return sum(self.needed is not None and count >= self.needed for count in self.matching[form])

    @property
    def summary(self) -> str:
        """In one line: 'PNG 8 of 8 pictures read at 1e-06 (123.5 of 128 bits in the mean), JPEG ...'."""
        return ', '.join(f'{form.upper()} {self.read(form)} of {len(counts)} pictures read at {RATE:g} '
                         f'({np.mean(counts):.1f} of {self.num_bits} bits in the mean)'
                         for form, counts in self.matching.items())


def self_test(images: np.ndarray, model: Model, code: np.ndarray, required: Sequence[str] = ('png',)) -> SelfTest:
    """Saves pictures as files, and reads them with the owner's decoder.

    Args:
        images: uint8 [N, H, W, 3], drawn from an instance's files as they will be handed over, and by nothing else.
        model: whose `decode` attributes.
        code: the instance's fingerprint [bits] of 0 and 1.
        required: those of FORMATS that must be read. A mark that was not trained against JPEG need not survive it.
    """
    files = [saved(image, form) for form in FORMATS for image in images]
    pictures = np.stack([np.asarray(decode(data, side=model.resolution)) for data in files])
    read = model.decode(to_float(pictures)) > 0                                   # [formats · N, bits]
    matching = (read == np.asarray(code, bool)).sum(1).reshape(len(FORMATS), len(images))
    return SelfTest({form: tuple(map(int, counts)) for form, counts in zip(FORMATS, matching)}, tuple(required),
                    len(code), threshold(len(code), 1, RATE))


def drawn(folder: str) -> np.ndarray:
    """The pictures uint8 [PICTURES, H, W, 3] that an issued folder draws. Raises UserError if it is damaged."""
    with Drawer(folder) as drawer:
        return drawer(latents(drawer.latent_dim))


def latents(latent_dim: int) -> np.ndarray:
    """What the pictures of a self-test are drawn from: float32 [PICTURES, latent_dim], always the same."""
    return np.random.default_rng(0).standard_normal([PICTURES, latent_dim]).astype(np.float32)


def saved(image: np.ndarray, form: str) -> bytes:
    """The bytes of a file of a picture uint8 [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **FORMATS[form])
    return file.getvalue()


def check(test: SelfTest, name: str, remedy: str = '') -> None:
    """Raises UserError, which ends with the remedy, unless the self-test was passed. An empty remedy: of new ones."""
    if test.needed is None:
        remedy = remedy or 'issue from a model of more bits, or with --selftest=false'
        raise UserError(f'{name}: {test.num_bits} bits are too few to be read at {RATE:g}; {remedy}')
    if not test.passed:
        required = ' and '.join(map(str.upper, test.required))
        remedy = remedy or 'issue from a later or better snapshot, or with --selftest=false'
        raise UserError(f'{name}: its fingerprint does not read ({test.summary}; {test.needed} bits are needed, in at '
                        f'least half of the {required} pictures), so it is not handed over; {remedy}')
