"""Everything a run is made of, in one checkpoint; and the loading of a run's snapshot by those who use it."""
import functools
import glob
import hashlib
import os
import re

import tensorflow as tf

from dnnlib.util import UserError, read_json, sha256_file
from training.config import Config
from training.networks import Decoder, Discriminator, Encoder, Generator

SNAPSHOTS = 'snapshots'
OPTIONS = 'training_options.json'


class TrainState(tf.Module):
    """Networks, averages of E and G, an Adam state per network, the mean path length, and the images seen.

    Make it under the strategy's scope. `nets`: E, G, D and, when fingerprinted, F; `averages`: E, G.
    """

    def __init__(self, config, resolution):
        super().__init__(name='state')
        tf.keras.utils.set_random_seed(config.seed)
        self.fingerprinted = config.generator != 'stylegan2'
        self.nets = make_networks(config, resolution)
        self.averages = {'E': make_encoder(config), 'G': Generator(config, resolution)}
        for name, average in self.averages.items():
            for target, source in zip(average.variables, self.nets[name].variables):
                target.assign(source)
        lazy = {'D': config.r1_interval if config.r1_gamma else 0}
        lazy.update(dict.fromkeys('EG', config.path_length_interval if config.path_length_weight else 0))
        self.optimizers = {name: make_optimizer(config, net, lazy.get(name, 0)) for name, net in self.nets.items()}
        self.path_length = tf.Variable(0.0, trainable=False, name='path_length',
                                       aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
        self.images = tf.Variable(0, trainable=False, name='images', dtype=tf.int64,
                                  aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    def checkpoint(self):
        """The tf.train.Checkpoint of all of it."""
        return tf.train.Checkpoint(nets=self.nets, averages=self.averages, optimizers=self.optimizers,
                                   path_length=self.path_length, images=self.images)


def make_encoder(config):
    """E on fingerprints, or, for the plain generator, on normalized latents."""
    if config.generator == 'stylegan2':
        return Encoder(config, config.latent_dim, normalize=True)
    return Encoder(config, config.fingerprint_bits)


def make_networks(config, resolution):
    """{'E', 'G', 'D', 'F'} for a configuration; no F without fingerprints."""
    nets = {'E': make_encoder(config), 'G': Generator(config, resolution), 'D': Discriminator(config, resolution)}
    if config.generator != 'stylegan2':
        nets['F'] = Decoder(config, resolution)
    return nets


def make_optimizer(config, net, lazy_interval):
    """Adam with its slots built. With a regularizer every k steps: lr · k/(k+1), β^(k/(k+1)) (arXiv 1912.04958, B)."""
    ratio = lazy_interval / (lazy_interval + 1) if lazy_interval else 1.0
    # The legacy class runs one fused kernel per variable; the newer one about ten.
    optimizer = tf.keras.optimizers.legacy.Adam(
        learning_rate=config.learning_rate * ratio, beta_1=config.adam_beta1 ** ratio,
        beta_2=config.adam_beta2 ** ratio, epsilon=config.adam_epsilon)
    optimizer._create_all_weights(net.trainable_variables)  # so that a checkpoint is checked against all of them
    return optimizer


def restore(checkpoint, path, partial=False):
    """Restores a checkpoint: all that the file holds or, with `partial`, what `checkpoint` is made of.

    Raises:
        UserError: the file is corrupt or of another configuration.
    """
    try:
        status = checkpoint.restore(path).expect_partial()  # one error below instead of TensorFlow's list
        if partial:
            status.assert_existing_objects_matched()
        else:
            status.assert_consumed()
    except (AssertionError, tf.errors.OpError, ValueError, IndexError) as error:
        reason = re.sub(r'\{\{.*?\}\} | \[Op:\w+\]', '', str(error).strip().split('\n')[0])
        raise UserError(f'snapshot {path} is corrupt or of another configuration ({reason}); '
                        f'remove {path}.* to go on from the one before') from None


def list_snapshots(run_dir, folder=SNAPSHOTS):
    """[(kimg, path prefix)] of a run's snapshots, oldest first. Only complete ones have an index file."""
    found = []
    for index in glob.glob(os.path.join(glob.escape(run_dir), folder, 'snapshot-*.index')):
        match = re.fullmatch(r'snapshot-(\d+)\.index', os.path.basename(index))
        if match:
            found.append((int(match.group(1)), index[:-len('.index')]))
    return sorted(found)


class Snapshot:
    """A trained model as metrics, grids and instances use it: averaged E and G, and F.

    Args:
        run_dir: the folder of a training run.
        kimg: which snapshot; None for the latest.
        ops: implementation of the native ops; None for the run's own.
        folder: where in run_dir the snapshots lie.

    Attributes: config, resolution, kimg, path, options (the run's training_options.json), encoder, generator, decoder.

    Raises:
        UserError: no such run or snapshot, or a corrupt one.
    """

    def __init__(self, run_dir, kimg=None, ops=None, folder=SNAPSHOTS):
        self.options = read_json(os.path.join(run_dir, OPTIONS))
        snapshots = dict(list_snapshots(run_dir, folder))
        if not snapshots:
            raise UserError(f'{run_dir} holds no snapshot yet; let run_training.py reach its first')
        if kimg is not None and kimg not in snapshots:
            raise UserError(f'{run_dir} has no snapshot at {kimg} kimg; there are {", ".join(map(str, snapshots))}')
        self.kimg = max(snapshots) if kimg is None else kimg
        self.path = snapshots[self.kimg]
        try:
            self.config = Config(**{**self.options['config'], **({'ops': ops} if ops else {})})
            self.resolution = self.options['dataset']['shape'][0]
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f'{os.path.join(run_dir, OPTIONS)} is not of this version: {error}') from None
        self.encoder, self.generator = make_encoder(self.config), Generator(self.config, self.resolution)
        saved = {'averages': {'E': self.encoder, 'G': self.generator}}
        self.decoder = None
        if self.config.generator != 'stylegan2':
            self.decoder = Decoder(self.config, self.resolution)
            saved['nets'] = {'F': self.decoder}
        restore(tf.train.Checkpoint(**saved), self.path, partial=True)

    @functools.cached_property
    def digest(self):
        """The hex sha256 that names this model in a registry: of the sha256s of its files."""
        return snapshot_digest(self.path)


def snapshot_files(path):
    """The files of a snapshot, given its prefix."""
    return sorted(glob.glob(f'{glob.escape(path)}.*'))


def snapshot_digest(path):
    """The hex sha256 over the sha256s of a snapshot's files, given its prefix."""
    return hashlib.sha256(''.join(map(sha256_file, snapshot_files(path))).encode()).hexdigest()
