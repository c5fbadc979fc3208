"""Robustness: what perturbations leave of the fingerprints in saved files, and what they do to the pictures.

Any of dnnlib/perturbations/table.py, by default the five of Yu et al. 2022 (arXiv 2012.08726, section 4.5), as the
world applies them: to 8-bit pictures. What a decoder was trained against plays no part.
"""
import numpy as np

from dnnlib.images import to_float, to_uint8
from dnnlib.perturbations.files import perturb
from dnnlib.perturbations.table import NONE, PAPER_NAMES, TABLE
from fingerprints.statistics import accuracy_interval
from metrics.base import generate_images, metric, number_of_images
from metrics.bit_accuracy import RATES, attributable, check_decoder, read_bits
from metrics.fid import Moments, frechet_distance
from metrics.inception import Inception, find_graph
from metrics.similarity import psnr, squared_error, ssim

DEFAULT_IMAGES = 500
SSIM_IMAGES = 100  # of which SSIM is taken: it costs more than the rest
MANY = 10 ** 6     # users
RATE = 1e-6        # of false positives, at which one of so many is named


@metric('robustness')
def robustness(model, dataset, options):
    """Draws latents and fingerprints, generates, perturbs, and reads the bits from what is left.

    At each strength of a perturbation the pictures are the same, and so is what is random in it.

    Returns:
        value: the mean bit accuracy over all perturbed points of the curves.
        curves: {perturbation, 'none' first: a list of points from weak to strong}. A point has
            value: in the unit that `parameters` says; None for 'none'.
            bit_accuracy, interval: 95%, over images.
            attributable: as bit_accuracy's, for one user; at 1e-03 the share is what WAVES calls TPR at 0.1% FPR, with
                the exact threshold in place of an estimated one.
            attributable_many: the same at 1e-6 among a million users; None where there are too few bits.
            psnr, ssim: of the perturbed picture to the unperturbed, psnr None where they are equal, ssim None where
                they are smaller than its window; ssim over the first 100.
            fid: between perturbed and unperturbed pictures; None if `fid_missing` says why.
        parameters: {perturbation: what its value is}.
        fid: the name of the FID, which says how many features it has; None, and `fid_missing` why, if no graph is
            named in the options or there are too few images.

    Raises:
        UserError: the model has no decoder, or its answers are not finite; there is no such graph.
    """
    check_decoder('robustness', model)
    count = number_of_images('robustness', options, DEFAULT_IMAGES)
    names = options.perturbations or PAPER_NAMES
    network, missing = fid_network(options.inception, count)
    points = [Point(name, value, options.seed, network) for name in (NONE, *names)
              for value in (TABLE[name].strengths if name != NONE else (None,))]
    for images, fingerprints in generate_images(model, count, options.seed, 'robustness'):
        pictures = to_uint8(images)
        for point in points:
            point.add(model, pictures, fingerprints)
    curves = {name: [point.summary(points[0]) for point in points if point.name == name] for name in (NONE, *names)}
    perturbed = [point['bit_accuracy'] for name in names for point in curves[name]]
    return {'value': float(np.mean(perturbed)), 'curves': curves,
            'parameters': {name: TABLE[name].parameter for name in names},
            'fid': network.name if network else None, **({} if network else {'fid_missing': missing}),
            'bits': model.fingerprint_bits, 'images': count}


def fid_network(path, count):
    """(the FID network at `path` or None, why there is none): it takes more images than it has features."""
    if path is None:
        return None, 'no Inception graph is named'
    network = Inception(find_graph(path))
    if count <= network.dims:
        return None, f'{count} images are too few for {network.name}; take at least {network.dims + 1}'
    return network, None


def rng_of(name, seed):
    """Draws what is random in a perturbation, the same at each of its values."""
    return np.random.default_rng([seed, [NONE, *TABLE].index(name)])


class Point:
    """One perturbation at one value, gathered batch by batch.

    Args:
        name, value: of the table; 'none' and None for the pictures as they are.
        seed: as of `rng_of`.
        network: metrics.inception.Inception, or None.
    """

    def __init__(self, name, value, seed, network):
        self.name, self.value, self.network = name, value, network
        self.rng = rng_of(name, seed)
        self.right, self.errors, self.similarities = [], [], []
        self.moments = Moments(network.dims) if network else None

    def add(self, model, pictures, fingerprints):
        """Perturbs and reads uint8 pictures [N, H, W, 3] that carry fingerprints [N, bits]."""
        perturbed = perturb(self.name, self.value, pictures, self.rng)
        self.right.append(read_bits(model, to_float(perturbed)) == fingerprints)
        self.errors.extend([squared_error(perturbed, pictures)] * len(pictures))
        left = SSIM_IMAGES - len(self.similarities)
        similarity = ssim(perturbed[:left], pictures[:left]) if left else None
        self.similarities.extend([] if similarity is None else similarity)
        if self.network:
            self.moments.add_images(self.network, perturbed)

    def summary(self, unperturbed):
        """The point as `measure` returns it; `unperturbed` is the Point of 'none'."""
        right = np.concatenate(self.right)
        count, bits = right.shape
        matching = right.sum(axis=1)
        found = {'value': self.value, 'bit_accuracy': float(right.mean()),
                 'interval': accuracy_interval(right.mean(axis=1), bits),
                 'attributable': {f'{fpr:.0e}': attributable(matching, bits, fpr) for fpr in RATES},
                 'attributable_many': attributable(matching, bits, RATE, MANY),
                 'psnr': psnr(np.mean(self.errors)),
                 'ssim': float(np.mean(self.similarities)) if self.similarities else None}
        return {**found, 'fid': self._fid(unperturbed) if self.network else None}

    def _fid(self, unperturbed):
        ours, theirs = self.moments, unperturbed.moments
        return frechet_distance(ours.mean, ours.covariance, theirs.mean, theirs.covariance)
