"""What was measured of the model: the rows of the validation table, and the likelihood ratio with what it rests on."""
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, Callable, Optional

import numpy as np

from datasets.reader import Dataset, open_dataset
from dnnlib.images import to_float, to_uint8
from dnnlib.util import UserError, progress, read_json_lines
from fingerprints.codes import matching_bits
from fingerprints.evidence import likelihood_ratio
from metrics.base import Model
from release.evidence.words import verbal, weight

METRICS = 'metrics.jsonl'
SPLIT = 'eval'
MOST_INNOCENTS = 10_000
ATTACKS = {
    'stranger_100': 'the mean of 100 pictures of this user’s, less that of others, added to another’s pictures',
    'photographs_100': 'the same added to photographs',
    'removal_100': 'the same taken from this user’s own pictures',
    'two_instances': 'what this user’s picture of a latent has more than another’s, added to the other’s pictures',
    'averaged': 'the mean of this user’s picture and another’s of the same latent',
}


def validation(run_dir: str, kimg: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of the validation table {'accuracy', 'robustness', 'forgery': rows}, from the run's metrics.

    Only what was measured on the snapshot at `kimg` counts, which is what instances were issued from; of a metric that
    was measured several times, the last. A table without rows was not measured.
    """
    records = {record['metric']: record for record in read_json_lines(os.path.join(run_dir, METRICS))
               if record.get('kimg') == kimg}
    rows = {'bit_accuracy': _accuracy_rows, 'robustness': _robustness_rows, 'forgery': _forgery_rows}
    names = {'bit_accuracy': 'accuracy'}
    return {names.get(name, name): make(records[name]) if name in records else [] for name, make in rows.items()}


def _accuracy_rows(record):
    rows = [{'what': f'bits read right, {kind}', 'value': record[kind], 'images': record['images']}
            for kind in ('float', 'uint8', 'png')]
    for rate, found in record['attributable'].items():
        if found is not None:
            rows.append({'what': f'pictures that name their one user at a rate of {float(rate):g}',
                         'value': found['share'], 'interval': found['interval'], 'images': record['images']})
    return rows


def _robustness_rows(record):
    return [{'what': name if point['value'] is None else f'{name} {point["value"]:g}', 'value': point['bit_accuracy'],
             'interval': point['interval'], 'unit': record['parameters'].get(name), 'images': record['images']}
            for name, points in record['curves'].items() for point in points]


def _forgery_rows(record):
    return [{'what': words, 'framed': record['attacks'][name]['alice'], 'nobody': record['attacks'][name]['nobody'],
             'images': record['attacks'][name]['images']}
            for name, words in ATTACKS.items() if name in record['attacks']]


@dataclasses.dataclass(frozen=True)
class Innocents:
    """Pictures of no instance: a dataset, and why there is none if there is none."""
    dataset: Optional[Dataset]
    missing: str = ''


def find_innocents(path: Optional[str], options: dict[str, Any], resolution: int) -> Innocents:
    """The pictures that no instance drew: of the dataset at `path` or, if None, of the one that the run trained on.

    Raises UserError if a dataset was named and can't be used.
    """
    try:
        dataset = open_dataset(path or options['dataset']['path'])
        if dataset.resolution != resolution:
            raise UserError(f'{dataset.path} has images of {dataset.resolution} pixels a side, the model draws '
                            f'{resolution}; name a dataset of that size')
        if not dataset.num_images(SPLIT):
            raise UserError(f'{dataset.path} holds no images out of training (split {SPLIT}); name one that does')
    except UserError as error:
        if path:
            raise
        return Innocents(None, f'no pictures of no instance are at hand ({error}); --innocents=DATASET names some')
    return Innocents(dataset)


def innocent_pictures(innocents: Innocents, count: int) -> np.ndarray:
    """The first `count` of them, or all, uint8 [N, H, W, 3]."""
    return np.concatenate(list(innocents.dataset.images(SPLIT, count)))[:count]


def own_pictures(model: Model, code: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yields uint8 batches [N, H, W, 3] of the instance's pictures, `count` in all, with a progress bar."""
    rng = np.random.default_rng([seed, 0])
    size = model.batch_size
    codes = np.repeat(np.asarray(code, np.float32)[np.newaxis], size, axis=0)
    with progress(total=count, desc='own pictures', unit=' images') as bar:
        for start in range(0, count, size):
            used = min(size, count - start)
            yield to_uint8(model.generate(rng.standard_normal([size, model.latent_dim], np.float32), codes))[:used]
            bar.update(used)


def likelihood(model: Model, codes: np.ndarray, user: int, needed: int, innocents: Innocents, count: int,
               versions: list[Callable[[np.ndarray], np.ndarray]], seed: int = 0) -> dict[str, Any]:
    """The likelihood ratio of "as many bits agree as name a user": what was measured, and its meaning in words.

    The threshold is what the ratio is for, and not the very number of bits that was found: most of the instance's own
    pictures have fewer than a picture that is read without an error, which would weaken what is stronger.

    Args:
        model: the model. codes: all users' [U, bits]. user: whose row is in question.
        needed: the threshold.
        innocents: each counts with the best of all users, in the best of `versions`, since so was the picture.
        count: how many pictures to draw.
        versions: functions of uint8 images [N, H, W, 3], the alignments that were tried.
    """
    if innocents.dataset is None:
        return {'missing': innocents.missing}
    own = np.concatenate([_matching(model, images, codes[user:user + 1])
                          for images in own_pictures(model, codes[user], count, seed)])
    pictures = innocent_pictures(innocents, MOST_INNOCENTS)
    false = np.max([_matching(model, version(pictures), codes) for version in versions], axis=0)
    ratio = likelihood_ratio(needed, own, false)
    return {**dataclasses.asdict(ratio), 'verbal': verbal(ratio.ratio), 'dataset': innocents.dataset.name,
            'dataset_digest': innocents.dataset.digest, 'least_own': int(own.min()), 'most_innocent': int(false.max()),
            'words': weight(ratio.ratio, ratio.capped, ratio.own_images, ratio.innocents)}


def _matching(model, images, codes):
    """The most bits in which each of uint8 images [N, H, W, 3] agrees with any of codes [U, bits]: int [N]."""
    batches = progress(range(0, len(images), model.batch_size), desc='read', unit='batch')
    return np.concatenate([matching_bits(model.decode(to_float(images[start:start + model.batch_size])) > 0, codes)
                           .max(axis=1) for start in batches])
