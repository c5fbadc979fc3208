"""Fréchet Inception Distance (Heusel et al., 2017): how far generated images are from real ones, in features."""
import os

import numpy as np

from dnnlib.arrays import DamagedArrays, read_arrays
from dnnlib.images import to_uint8
from dnnlib.util import UserError, atomic_file, make_folder, progress
from metrics.base import check_count, generate_images, metric, number_of_images
from metrics.inception import Inception, cache_folder, find_graph

MAX_DEFAULT_IMAGES = 50_000
BATCH = 32  # images the network is fed at once


@metric('fid')
def fid(model, dataset, options):
    """The Fréchet distance between generated images, rounded to uint8, and the first images of a dataset's split.

    As many images are generated as `options.num_images` says, or as the split has, 50,000 at most; as many real ones
    are taken, where there are that many.

    Returns:
        metric: 'fid2048' on the standard network, 'fid768' on the one cut after mixed_7: never compare the two.
        value: the distance. features: 2048 or 768. images, reals, split: how many were compared, and with which.
        full_rank: whether both sets hold more images than features; where not, the distance is biased and of use only
            beside others on as many images.
        graph_sha256: the network's.

    Raises:
        UserError: no dataset, an empty split, a dataset of another resolution, no network.
        UsageError: fewer than 2 images.
    """
    _check_dataset(model, dataset, options.split)
    available = dataset.num_images(options.split)
    count = number_of_images('fid', options, min(available, MAX_DEFAULT_IMAGES), 2)
    real_count = min(available, count)
    check_count('fid', real_count, 2)
    network = Inception(find_graph(options.inception))
    real = real_moments(network, dataset, options.split, real_count)
    fake = Moments(network.dims)
    for images, _ in generate_images(model, count, options.seed, network.name):
        fake.add_images(network, to_uint8(images))
    return {
        'metric': network.name, 'value': frechet_distance(real.mean, real.covariance, fake.mean, fake.covariance),
        'features': network.dims, 'images': count, 'reals': real_count, 'split': options.split,
        'full_rank': min(count, real_count) > network.dims, 'graph_sha256': network.sha256}


def _check_dataset(model, dataset, split):
    if dataset is None or not dataset.num_images(split):
        what = f'{dataset.path} has no {split} images' if dataset else 'there is no dataset'
        raise UserError(f'fid compares with real images, and {what}; name a dataset that holds some')
    if dataset.resolution != model.resolution:
        raise UserError(f'{dataset.path} has images of {dataset.resolution} pixels, the model makes '
                        f'{model.resolution}; use the dataset at the model\'s resolution')


def frechet_distance(mean1, covariance1, mean2, covariance2):
    """The squared Wasserstein-2 distance between two Gaussians (Dowson and Landau, 1982; Heusel et al. 2017, eq. 6).

        |m1 - m2|² + Tr(C1 + C2 - 2 (C1 C2)^(1/2))

    The trace of the root is the sum of the singular values of R1ᵀ R2, where R Rᵀ = C. That takes symmetric
    eigenvalues and singular values only: it needs neither the root of a product that is not symmetric, which may turn
    out complex, nor an ε on the diagonal where the covariance is singular. float64 throughout.
    """
    roots = [_root(covariance) for covariance in (covariance1, covariance2)]
    overlap = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    difference = np.asarray(mean1, np.float64) - np.asarray(mean2, np.float64)
    distance = difference @ difference + np.trace(covariance1) + np.trace(covariance2) - 2 * overlap
    return max(float(distance), 0.0)  # rounding can leave equal sets a hair below


def _root(covariance):
    """R [D, D] with R Rᵀ = covariance, which is positive semidefinite up to rounding."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    return vectors * np.sqrt(np.maximum(values, 0))


class Moments:
    """Mean [D] and covariance [D, D] of feature vectors, float64, gathered batch by batch.

    Batches are merged by the formulas of Chan, Golub and LeVeque (1979), which lose no digits to a large mean.
    """

    def __init__(self, dims):
        self.count, self.mean, self._scatter = 0, np.zeros(dims), np.zeros([dims, dims])

    @property
    def covariance(self):
        """The unbiased covariance."""
        return self._scatter / (self.count - 1)

    def add(self, features):
        """Takes in features [N, D]."""
        features = np.asarray(features, np.float64)
        count, mean = len(features), features.mean(axis=0)
        total, shift, centred = self.count + count, mean - self.mean, features - mean
        self._scatter += centred.T @ centred + np.outer(shift, shift) * (self.count * count / total)
        self.mean += shift * (count / total)
        self.count = total

    def add_images(self, network, images):
        """Takes in the features of uint8 images [N, H, W, 3]."""
        for start in range(0, len(images), BATCH):
            self.add(network.features(images[start:start + BATCH]))

    def save(self, path, key):
        """Writes an .npz, atomically, that `load` accepts for the same key only."""
        with atomic_file(path, 'wb') as file:
            np.savez(file, key=key, count=self.count, mean=self.mean, scatter=self._scatter)

    @classmethod
    def load(cls, path, key):
        """Reads what `save` wrote; None where the file is absent, damaged or of another key."""
        try:
            values = read_arrays(path)
        except DamagedArrays:
            return None
        if set(values) != {'key', 'count', 'mean', 'scatter'} or str(values['key']) != key:
            return None
        moments = cls(len(values['mean']))
        moments.count, moments.mean, moments._scatter = int(values['count']), values['mean'], values['scatter']
        return moments


def real_moments(network, dataset, split, count):
    """The Moments of the first `count` images of a dataset's split, computed once and then read from the cache."""
    key = f'{dataset.digest} {split} {count} {network.sha256} {network.name}'
    folder = make_folder(os.path.join(cache_folder(), 'fid'))
    path = os.path.join(folder, f'{dataset.digest[:16]}-{split}-{count}-{network.sha256[:16]}-{network.name}.npz')
    moments = Moments.load(path, key)
    if moments is None:
        moments = Moments(network.dims)
        with progress(total=count, unit=' images', desc=f'{network.name} of {dataset.name} {split}') as bar:
            for images in dataset.images(split, count, BATCH):
                moments.add_images(network, images)
                bar.update(len(images))
        moments.save(path, key)
    return moments
