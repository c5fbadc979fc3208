"""Every perturbation once: its name, its parameter's range from mild to severe, the strengths that are measured.

Sources: the five of Yu et al. 2022 (arXiv 2012.08726, section 4.5); WAVES (An et al. 2024, arXiv 2401.08573);
Stable Signature (Fernandez et al. 2023, arXiv 2303.15435). docs/perturbations.md says how each is read.

A row's value means the same for a picture's file and for a tensor. Lengths are those at a reference resolution (128
pixels a side for the paper's, 512 for WAVES') and scale with the picture. Imports neither Pillow nor TensorFlow.
"""
import dataclasses

from dnnlib.util import UsageError

PAPER, WAVES, SIGNATURE, COMMON = 'Yu et al. 2022', 'WAVES', 'Stable Signature', 'in common use'


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """A row of the table.

    parameter: what its value is, with the unit; '' if there is only on and off.
    mild, severe: the values at strength 0 and 1. None for a row that has no values in between: one of `strengths`
        is drawn then, and a strength is the chance that it happens at all.
    strengths: the values to measure, from weak to strong.
    source: who measured it first.
    trained: whether there is a differentiable version (tensors.py).
    in_all: whether 'all' means it too when training. Not a chain of others or another row's operation once more.
    draws_below: whether the value is an upper end already, below which its parts draw theirs.
    """
    parameter: str
    mild: object
    severe: object
    strengths: tuple
    source: str
    trained: bool = True
    in_all: bool = True
    draws_below: bool = False


TABLE = {
    'crop': Perturbation('side of 128', 128, 60, (112, 102.4, 96, 80, 76.8, 60), PAPER),
    'blur': Perturbation('kernel of 128', 1, 9, (3, 5, 7, 9), PAPER),
    'jpeg': Perturbation('quality', 100, 50, (95, 90, 85, 80, 75, 60, 50), PAPER),
    'noise': Perturbation('deviation on [-1, 1]', 0, 0.4, (0.05, 0.1, 0.2, 0.3, 0.4), PAPER),
    'combination': Perturbation('strength', 0, 1, (0.25, 0.5, 0.75, 1.0), PAPER, draws_below=True),
    'rotation': Perturbation('degrees', 0, 45, (5, 10, 25, 45), WAVES),
    'resized_crop': Perturbation('area', 1, 0.5, (0.9, 0.75, 0.5), WAVES),
    'erasing': Perturbation('area', 0, 0.25, (0.05, 0.1, 0.25), WAVES),
    'brightness': Perturbation('factor', 1, 2, (1.25, 1.5, 2), WAVES),
    'contrast': Perturbation('factor', 1, 2, (1.25, 1.5, 2), WAVES),
    'waves_blur': Perturbation('radius of 512', 0, 20, (4, 8, 12, 20), WAVES, in_all=False),
    'waves_noise': Perturbation('deviation on [0, 1]', 0, 0.1, (0.02, 0.05, 0.1), WAVES, in_all=False),
    'waves_jpeg': Perturbation('quality', 90, 10, (90, 70, 50, 30, 10), WAVES, in_all=False),
    'waves_geometric': Perturbation('strength', 0, 1, (0.25, 0.5, 1.0), WAVES, in_all=False),
    'waves_photometric': Perturbation('strength', 0, 1, (0.25, 0.5, 1.0), WAVES, in_all=False),
    'waves_degradation': Perturbation('strength', 0, 1, (0.25, 0.5, 1.0), WAVES, in_all=False),
    'waves_all': Perturbation('strength', 0, 1, (0.25, 0.5, 1.0), WAVES, in_all=False),
    'centre_crop': Perturbation('area', 1, 0.1, (0.5, 0.1), SIGNATURE, in_all=False),
    'resize': Perturbation('area', 1, 0.1, (0.5, 0.25, 0.1), SIGNATURE),
    'saturation': Perturbation('factor', 1, 2, (1.5, 2), SIGNATURE),
    'sharpness': Perturbation('factor', 1, 2, (1.5, 2), SIGNATURE),
    'signature_combination': Perturbation('', None, None, (1,), SIGNATURE, in_all=False),
    'quarter_turn': Perturbation('degrees', None, None, (90, 180, 270), SIGNATURE),
    'greyscale': Perturbation('', None, None, (1,), COMMON),
    'flip': Perturbation('', None, None, (1,), COMMON),
    'median': Perturbation('window', None, None, (3, 5), COMMON),
    'quantization': Perturbation('levels', None, None, (64, 32, 16, 8, 4), COMMON),
    'salt_and_pepper': Perturbation('share', 0, 0.1, (0.01, 0.02, 0.05, 0.1), COMMON),
    'registered_crop': Perturbation('side of 128', 128, 60, (112, 102.4, 96, 80, 76.8), COMMON, in_all=False),
    'registered_rotation': Perturbation('degrees', 0, 45, (5, 10, 25, 45), COMMON, in_all=False),
    'screenshot': Perturbation('zoom', 1, 2, (1.1, 1.25, 1.5, 1.75), COMMON),
    'webp': Perturbation('quality', 100, 10, (90, 75, 50, 30), COMMON, trained=False, in_all=False),
    'avif': Perturbation('quality', 100, 10, (90, 75, 50, 30), COMMON, trained=False, in_all=False),
}

NONE = 'none'            # the picture as it is
CODEC = 'jpeg_codec'     # in training: 'jpeg' by the real codec, whose gradient is taken to be 1
PAPER_NAMES = tuple(name for name, row in TABLE.items() if row.source == PAPER)
TRAINED = tuple(name for name, row in TABLE.items() if row.trained)
ALL_NAMES = tuple(name for name, row in TABLE.items() if row.in_all)

# WAVES' four: all of a group one after the other, in its order, each at the strength itself.
WAVES_GROUPS = {
    'waves_geometric': ('rotation', 'resized_crop', 'erasing'),
    'waves_photometric': ('brightness', 'contrast'),
    'waves_degradation': ('waves_blur', 'waves_noise', 'waves_jpeg'),
}
WAVES_GROUPS['waves_all'] = tuple(name for names in tuple(WAVES_GROUPS.values()) for name in names)
REGISTERED_TURN = 0.5  # degrees by which a registered rotation is turned back too far or too little, at most
COMBINED = ('crop', 'blur', 'jpeg', 'noise')                       # the paper's combination, in its order
SIGNATURE_CHAIN = (('centre_crop', 0.5), ('brightness', 1.5), ('jpeg', 80))


def row_of(name):
    """The row of a perturbation; 'jpeg_codec' has that of 'jpeg'."""
    return TABLE['jpeg' if name == CODEC else name]


def value_at(name, strength):
    """The value of a perturbation that has a range, from its mild end at 0 to its severe end at 1."""
    row = row_of(name)
    return row.mild + strength * (row.severe - row.mild)


def blur_sigma(kernel):
    """The standard deviation that OpenCV gives a Gaussian kernel of this many pixels, 0 for kernel 1 or less."""
    return 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8


def check_names(text):
    """The perturbations that a comma-separated text names for training, each once: a tuple of names.

    'all' stands for each operation once, 'paper' for the paper's five; '' is none.

    Raises:
        UsageError: there is no such perturbation, or only one for files.
    """
    groups = {'all': ALL_NAMES, 'paper': PAPER_NAMES}
    asked = [name.strip() for name in text.split(',') if name.strip()]
    names = [name for one in asked for name in groups.get(one, (one,))]
    for name in names:
        if name not in TRAINED and name != CODEC:
            reason = 'can be measured but not trained against' if name in TABLE else 'does not exist'
            raise UsageError(f'the perturbation {name!r} {reason}; choose from all, paper, '
                             f'{", ".join([*TRAINED, CODEC])}, separated by commas')
    return tuple(dict.fromkeys(names))
