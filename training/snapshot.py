"""Snapshots of a run: listing, loading read-only, and keeping the one that instances were issued from."""
import dataclasses
import functools
import glob
import hashlib
import os
import re
import shutil

import tensorflow as tf

from dnnlib.images import to_uint8_tensor
from dnnlib.util import UsageError, UserError, atomic_folder, make_folder, read_json, sha256_file
from models.methods import METHODS
from models.sampling import RandomNoise
from training.config import OPTIONS, from_record
from training.state import restore

SNAPSHOTS = 'snapshots'
RELEASED = 'released'


def list_snapshots(run_dir, folder=SNAPSHOTS):
    """[(kimg, path prefix)] of a run's snapshots, oldest first. Only complete ones have an index file."""
    found = []
    for index in glob.glob(os.path.join(glob.escape(run_dir), folder, 'snapshot-*.index')):
        match = re.fullmatch(r'snapshot-(\d+)\.index', os.path.basename(index))
        if match:
            found.append((int(match.group(1)), index[:-len('.index')]))
    return sorted(found)


def remove_unfinished(run_dir):
    """Removes what saves that were cut off (by a kill, a full disk) have left. No other process may be saving there."""
    for folder in glob.glob(os.path.join(glob.escape(run_dir), SNAPSHOTS, 'snapshot-*_temp')):
        if re.fullmatch(r'snapshot-\d+_temp', os.path.basename(folder)):
            shutil.rmtree(folder, ignore_errors=True)


class Snapshot:
    """A trained model as metrics, grids and instances use it.

    Args:
        run_dir: the folder of a training run.
        kimg: which snapshot; None for the latest.
        impl: implementation of the native ops; None for the run's own.
        folder: where in run_dir the snapshots lie.

    Attributes: config, method (module of models/), resolution, kimg, path, options (the run's training_options.json),
    nets ({name: network} that the method's as_model and bake take, the averaged ones as averages).

    Raises:
        UserError: no such run or snapshot, or a corrupt one.
    """

    def __init__(self, run_dir, kimg=None, impl=None, folder=SNAPSHOTS):
        self.options = read_json(os.path.join(run_dir, OPTIONS))
        snapshots = dict(list_snapshots(run_dir, folder))
        if not snapshots:
            raise UserError(f'{run_dir} holds no snapshot yet; let the training reach its first')
        if kimg is not None and kimg not in snapshots:
            there = ', '.join(map(str, snapshots))
            raise UserError(f'{run_dir} has no snapshot at {kimg} kimg; there are those at {there}')
        self.kimg = max(snapshots) if kimg is None else kimg
        self.path = snapshots[self.kimg]
        self.config, self.resolution = _read_options(self.options, os.path.join(run_dir, OPTIONS), impl)
        self.method = METHODS[self.config.method]
        self.nets = self.method.networks(self.config, self.resolution, self.method.EVALUATED)
        restore(evaluation_checkpoint(self.method, self.nets), self.path, partial=True)

    def model(self, batch_size=64, truncation_psi=1.0, noise_seed=None):
        """The metrics.base.Model of it; with a `noise_seed` it draws new noise for each image.

        Raises UsageError for a truncation if the method's latents have no mean w.
        """
        if truncation_psi != 1 and 'mean_w' not in self.nets:
            raise UsageError(f'--truncation-psi={truncation_psi}: only --method=stylegan2 maps its latents; '
                             'leave the flag out')
        truncation = {} if truncation_psi == 1 else {'truncation_psi': truncation_psi}
        if noise_seed is None:
            return self.method.as_model(self.nets, batch_size, **truncation)
        nets = {**self.nets, 'G': RandomNoise(self.nets['G'], noise_seed)}
        return dataclasses.replace(self.method.as_model(nets, batch_size, **truncation), noise='random')

    @property
    def can_bake(self):
        """Whether the method has fingerprints, so that instances can be issued."""
        return hasattr(self.method, 'bake')

    @functools.cached_property
    def has_fingerprint(self):
        """Whether a random fingerprint and its opposite make different 8-bit pictures of four latents."""
        generator = tf.random.Generator.from_seed(0)
        latents = generator.normal([4, self.config.latent_dim])
        code = tf.cast(generator.uniform([1, self.config.fingerprint_bits]) < 0.5, tf.float32)
        first, second = (to_uint8_tensor(self.method.generate(self.nets, latents, tf.repeat(bits, 4, 0)))
                         for bits in (code, 1 - code))
        return bool(tf.reduce_any(first != second))

    @functools.cached_property
    def digest(self):
        """The hex sha256 that names this model in a registry: of the sha256s of its files."""
        return snapshot_digest(self.path)


def _read_options(options, path, impl):
    """(Config, resolution) of a run's training_options.json."""
    try:
        record, resolution = options['config'], options['dataset']['shape'][0]
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f'{path} lacks {error}; it was not written by run_training.py') from None
    config = from_record(record, path)
    return dataclasses.replace(config, impl=impl) if impl else config, resolution


def evaluation_checkpoint(method, nets):
    """The tf.train.Checkpoint of the part of a run's state that evaluation takes, to be restored into `nets`."""
    return tf.train.Checkpoint(ema={name: nets[name] for name in method.AVERAGED},
                               nets={name: nets[name] for name in method.EVALUATED if name not in method.AVERAGED})


def snapshot_files(path):
    """The files of a snapshot, given its prefix."""
    return sorted(glob.glob(f'{glob.escape(path)}.*'))


def snapshot_digest(path):
    """The hex sha256 over the sha256s of a snapshot's files, given its prefix."""
    return hashlib.sha256(''.join(map(sha256_file, snapshot_files(path))).encode()).hexdigest()


def released_folder(digest):
    """The folder, within a run, of the snapshot of this digest: its name alone may be that of another model."""
    return os.path.join(RELEASED, digest[:16])


def keep_released(run_dir, snapshot):
    """Copies a snapshot's files to RUN_DIR/released/DIGEST, if they are not there: training never removes them.

    They are secret, so they are their owner's alone.
    """
    folder = os.path.join(run_dir, released_folder(snapshot.digest))
    if os.path.isdir(folder):
        return
    make_folder(os.path.dirname(folder), private=True)
    with atomic_folder(folder, private=True) as temporary:
        for file in snapshot_files(snapshot.path):
            os.chmod(shutil.copy(file, temporary), 0o600)


def find_released(run_dir, model_digest, impl='ref'):
    """The released Snapshot of this digest. Raises UserError if the run does not hold it."""
    folder = released_folder(model_digest)
    for kimg, path in list_snapshots(run_dir, folder):
        if snapshot_digest(path) == model_digest:
            snapshot = Snapshot(run_dir, kimg, impl=impl, folder=folder)
            snapshot.digest = model_digest  # its files have just been hashed
            return snapshot
    raise UserError(f'{run_dir} does not hold the model {model_digest[:12]}… that the registry was issued from; '
                    'name the run that does')
