"""What every metric shares: the model's contract, options, registration, the images, the record of a result.

A metric is a function (model, dataset, options) -> dict with 'value' and whatever else is worth keeping, registered
by name:

    @metric('brightness')
    def brightness(model, dataset, options): ...

Its result may hold 'metric', a name that says more than the registered one ('fid2048'), and 'summary', a text to print
in place of the value. 'value' is None if it can't be measured on such a model, and the result says why.
"""
import dataclasses
import platform
import time
from collections.abc import Iterator
from typing import Callable, Optional

import numpy as np
import tensorflow as tf

from datasets.reader import Dataset
from dnnlib.util import UsageError, UserError, progress
from fingerprints.clock import now


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model as metrics see it: NumPy in, NumPy out.

    generate: latents [N, latent_dim] float32 and fingerprints [N, fingerprint_bits] float32 0/1 to images
        [N, resolution, resolution, 3] float32 in [-1, 1].
    decode: such images to logits [N, fingerprint_bits]; None where there is no decoder.
    batch_size: the number of images it is best asked for at once.
    noise: 'fixed', one set of noise images for all pictures, as instances have it, or 'random', new for each.
    """
    generate: Callable
    decode: Optional[Callable]
    latent_dim: int
    fingerprint_bits: int
    resolution: int
    batch_size: int = 64
    noise: str = 'fixed'


@dataclasses.dataclass(frozen=True)
class Options:
    """How to measure; a metric reads what concerns it.

    num_images: how many images to generate; None for the metric's default.
    seed: draws the latents and fingerprints.
    split: the part of the dataset that serves as reference.
    inception: path of the frozen FID network; None for the cached one, downloaded once.
    perturbations: names of dnnlib/perturbations/table.py; None for the metric's default.
    """
    num_images: Optional[int] = None
    seed: int = 0
    split: str = 'eval'
    inception: Optional[str] = None
    perturbations: Optional[tuple[str, ...]] = None


def batched(function: Callable, batch_size: int, *arrays: np.ndarray) -> np.ndarray:
    """Applies `function` to float32 arrays [N, ...], `batch_size` rows at a time, and joins the results: NumPy."""
    arrays = [np.asarray(array, np.float32) for array in arrays]
    return np.concatenate([function(*(tf.constant(array[i:i + batch_size]) for array in arrays)).numpy()
                           for i in range(0, len(arrays[0]), batch_size)])


METRICS = {}


def metric(name: str) -> Callable:
    """Registers the decorated function as the metric `name`."""
    def register(function):
        assert name not in METRICS, name
        METRICS[name] = function
        return function
    return register


def check_metrics(names: list[str]) -> None:
    """Raises UsageError, naming what there is, unless all are registered."""
    for name in names:
        if name not in METRICS:
            raise UsageError(f'there is no metric {name!r}; choose from {", ".join(sorted(METRICS))}')


def run_metric(name: str, model: Model, dataset: Optional[Dataset], options: Options) -> dict:
    """Measures one metric.

    Args:
        name: a registered metric.
        model: a Model.
        dataset: a datasets.reader.Dataset; None will do for metrics without a reference.
        options: Options.

    Returns:
        The record, fit for one line of metrics.jsonl: metric, value, what else the metric tells, then the model's
        noise, dataset, dataset_digest, seed, seconds, time (UTC), versions.

    Raises:
        UsageError: no such metric, or a number of images it can't work with.
        UserError: what the metric needs is missing.
    """
    check_metrics([name])
    begun = time.time()
    result = {'metric': name, **METRICS[name](model, dataset, options)}
    assert result['value'] is None or np.isfinite(result['value']), result
    return {
        **result, 'noise': model.noise,
        'dataset': dataset.name if dataset else None, 'dataset_digest': dataset.digest if dataset else None,
        'seed': options.seed, 'seconds': round(time.time() - begun, 3),
        'time': now(),
        'versions': {'tensorflow': tf.__version__, 'numpy': np.__version__, 'python': platform.python_version()}}


def check_count(name: str, count: int, least: int) -> None:
    """Raises UsageError unless `count` images are at least `least`."""
    if count < least:
        raise UsageError(f'{name} cannot be measured on {count} images; take at least {least}')


def number_of_images(name: str, options: Options, default: int, least: int = 1) -> int:
    """How many images the metric `name` generates. Raises UsageError if they are fewer than `least`."""
    count = default if options.num_images is None else options.num_images
    check_count(name, count, least)
    return count


def check_finite(images: np.ndarray) -> None:
    """Raises UserError unless all values that a generator made are finite."""
    if not np.isfinite(images).all():
        raise UserError('the generator made values that are not finite; use an earlier snapshot')


def generate_images(model: Model, count: int, seed: int, desc: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Generates `count` images in batches, with a progress bar.

    The images depend on `seed` and not on the batch size; the last batch is generated whole and cut, so that compiled
    networks meet one shape only.

    Yields:
        (images [n, H, W, 3] float32 in [-1, 1], fingerprints [n, bits] uint8 0/1), `count` in all.

    Raises:
        UserError: an image is not finite.
    """
    latent_rng, fingerprint_rng = (np.random.default_rng([seed, stream]) for stream in range(2))
    size = model.batch_size
    with progress(total=count, unit=' images', desc=desc) as bar:
        for start in range(0, count, size):
            latents = latent_rng.standard_normal([size, model.latent_dim], np.float32)
            fingerprints = (fingerprint_rng.random([size, model.fingerprint_bits]) < 0.5).astype(np.uint8)
            images = np.asarray(model.generate(latents, fingerprints.astype(np.float32)))
            check_finite(images)
            used = min(size, count - start)
            yield images[:used], fingerprints[:used]
            bar.update(used)
