"""The loop: ticks of steps, statistics, grids, snapshots, metrics; resume; and stopping on a NaN."""
import contextlib
import fcntl
import importlib.metadata
import os
import platform

import numpy as np
import tensorflow as tf

from dnnlib.ops import native
from dnnlib.pictures import save_grid, tile_zoom
from dnnlib.util import (
    Log,
    UserError,
    append_json_line,
    keep_json_lines,
    make_folder,
    read_json,
    read_json_lines,
    write_json,
)
from metrics.base import Options, check_metrics, run_metric
from models.limits import check_division, check_networks, check_parts
from training.config import FIELDS, to_record
from training.distribution import make_strategy, training_batches, worker
from training.grids import write_grids
from training.snapshot import OPTIONS, SNAPSHOTS, list_snapshots
from training.state import TrainState, restore
from training.step import TrainStep
from training.ticks import Ticks

METRICS = 'metrics.jsonl'


def train(plan, dataset, strategy=None):
    """Trains on a datasets.reader.Dataset to config.total_kimg, from the run folder's last snapshot if there is one.

    Args:
        plan: training.config.Plan.
        dataset: the images.
        strategy: a tf.distribute.Strategy; None for the one that plan.num_gpus and TF_CONFIG ask for.

    Returns: the kimg reached.

    Raises:
        UsageError: a batch that can't be divided over the replicas, a resolution without modulated layers.
        UserError: a run folder of other options, a corrupt snapshot, a NaN, a folder that can't be written.
    """
    if plan.config.deterministic and plan.num_gpus:  # on CPUs every op used here is deterministic anyway
        tf.config.experimental.enable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(plan.config.tf32)
    strategy = strategy or make_strategy(plan.num_gpus)
    check_division(plan.config.batch_size, strategy.num_replicas_in_sync)
    check_parts(plan.config.batch_per_replica, plan.config.batch_size, strategy.num_replicas_in_sync)
    check_networks(plan.config, dataset.resolution)
    check_metrics(metric_names(plan.config))
    make_folder(plan.run_dir)
    with _only_run(plan.run_dir, worker(strategy)[0]):
        return Loop(plan, dataset, strategy).run()


def metric_names(config):
    """The metrics to run at each snapshot."""
    return [] if config.metrics == 'none' else config.metrics.split(',')


@contextlib.contextmanager
def _only_run(run_dir, index):
    """Refuses a second process that trains in the same run folder as the same worker."""
    with open(os.path.join(run_dir, f'.lock{index}'), 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f'another process is training in {run_dir}; '
                            'wait for it or name another --run-dir') from None
        yield


def options_record(plan, dataset):
    """What training_options.json holds: everything a run was made with."""
    return {
        'preset': plan.preset, 'config': to_record(plan.config),
        'dataset': {'name': dataset.name, 'path': dataset.path, 'shape': list(dataset.shape),
                    'train_images': dataset.num_images('train'), 'digest': dataset.digest},
        'num_gpus': plan.num_gpus, 'impl': native.resolve(plan.config.impl),
        'versions': {'python': platform.python_version(),
                     **{name: importlib.metadata.version(name) for name in ('tensorflow', 'numpy')}},
    }


def _check_same_run(path, record):
    """Raises UserError if the run in this folder was made with options that a continuation may not change."""
    saved = read_json(path)
    old, new = saved.get('config', {}), record['config']
    differing = [f'{field.name.replace("_", "-")} was {old.get(field.name)!r}, is {new[field.name]!r}'
                 for field in FIELDS if not field.metadata['may_change'] and old.get(field.name) != new[field.name]]
    if saved.get('dataset', {}).get('digest') != record['dataset']['digest']:
        differing.append(f'the dataset was {saved.get("dataset", {}).get("name")!r} with other images')
    if differing:
        raise UserError(f'{os.path.dirname(path)} holds a run of another configuration ({"; ".join(differing)}); '
                        'name another --run-dir, or repeat its flags to resume it')


class Loop:
    """One training run in its folder: `run` trains to the end.

    On several hosts every worker runs it; the chief alone writes what people read.
    """

    def __init__(self, plan, dataset, strategy):
        self.plan, self.config, self.dataset, self.strategy = plan, plan.config, dataset, strategy
        self.chief = worker(strategy)[0] == 0
        self.log = Log(self.path('log.txt')) if self.chief else Log()
        self._write_options()
        with strategy.scope():
            self.state = TrainState(self.config, dataset.resolution)
        self.step = TrainStep(self.config, self.state, strategy)
        self.model = self.state.method.as_model(self.state.evaluated_nets())
        self.manager = self._checkpoint_manager()
        self.writer = tf.summary.create_file_writer(self.path('events')) if self.chief else None

    def path(self, *names):
        """A path within the run folder."""
        return os.path.join(self.plan.run_dir, *names)

    def run(self):
        """Trains from the last snapshot, or from the beginning, to the end. Returns the kimg reached."""
        config, resumed = self.config, self._restore()
        self.ticks = Ticks(config, self.plan.run_dir if self.chief else None, self.log,
                           int(self.state.images_seen.numpy()), config.total_kimg)
        if resumed:
            self._catch_up()
        else:
            self._begin()
        batches = training_batches(self.strategy, self.dataset, config.batch_size, config.seed, self.ticks.images_seen)
        while not self.ticks.done:
            self._tick(batches)
            if self.chief and self.ticks.due(config.image_snapshot_ticks):
                write_grids(self.model, config.seed, self.path(f'fakes_{{}}_{self.ticks.kimg:06d}.png'))
            if self.ticks.due(config.snapshot_ticks):
                self.manager.save(checkpoint_number=self.ticks.kimg)
                self._measure()
        self.log(f'done: {self.ticks.kimg} kimg in {self.plan.run_dir}')
        return self.ticks.kimg

    def _write_options(self):
        """Writes training_options.json before the first step, or checks that it tells of the same run."""
        record, path = options_record(self.plan, self.dataset), self.path(OPTIONS)
        if os.path.exists(path) and list_snapshots(self.plan.run_dir):  # without a snapshot nothing was trained yet
            _check_same_run(path, record)
        if self.chief:
            write_json(path, record)

    def _checkpoint_manager(self):
        # Every worker takes part in a save; those that are not the chief do so in a folder nobody reads.
        folder = self.path(SNAPSHOTS) if self.chief else self.path(f'.worker{worker(self.strategy)[0]}')
        return tf.train.CheckpointManager(self.state.checkpoint(), folder, self.config.keep_snapshots,
                                          checkpoint_name='snapshot')

    def _restore(self):
        """Restores the last snapshot. Returns whether there is one."""
        snapshots = list_snapshots(self.plan.run_dir)
        if snapshots:
            kimg, path = snapshots[-1]
            restore(self.state.checkpoint(), path)
            self.log(f'resuming {self.plan.run_dir} at {kimg} kimg')
        return bool(snapshots)

    def _catch_up(self):
        """Forgets measurements later than the snapshot, and measures it if a kill came before that was done."""
        if self.chief:
            keep_json_lines(self.path(METRICS), lambda record: record['kimg'] <= self.ticks.kimg)
            if self.ticks.kimg not in {record['kimg'] for record in read_json_lines(self.path(METRICS))}:
                self._measure()

    def _begin(self):
        """What comes before the first step: the method's warm start; grids of real images and of untrained ones."""
        if hasattr(self.state.method, 'warm_start'):
            self.state.method.warm_start(self.config, self.state.nets)
        if self.chief:
            reals = next(self.dataset.images('train', 64, 64))
            save_grid(self.path('reals.png'), reals, 8, tile_zoom(self.dataset.resolution, 64))
            write_grids(self.model, self.config.seed, self.path('fakes_{}_000000.png'))

    def _tick(self, batches):
        """tick_kimg thousand images, and what they did to the statistics."""
        statistics = self.ticks.run(self.step.run, batches)
        self.ticks.check_finite(statistics, self._broken_nets(), self._last_good())
        self.ticks.advance(statistics)
        self.state.images_seen.assign(self.ticks.images_seen)
        if self.chief:
            with self.writer.as_default(step=self.ticks.kimg):
                for name, value in statistics.items():
                    tf.summary.scalar(name, value)
            self.writer.flush()

    def _broken_nets(self):
        return sorted(name for name, net in self.state.nets.items()
                      if not all(np.all(np.isfinite(value)) for value in net.get_weights()))

    def _last_good(self):
        snapshots = list_snapshots(self.plan.run_dir)
        return f'the last good snapshot is {snapshots[-1][1]}' if snapshots else 'there is no snapshot yet'

    def _measure(self):
        """The metrics of the present snapshot: a record in metrics.jsonl and a line each."""
        if not self.chief:
            return
        options = Options(num_images=self.config.metric_images, seed=self.config.seed,
                          inception=self.config.inception or None)
        for name in metric_names(self.config):
            record = {'kimg': self.ticks.kimg, **run_metric(name, self.model, self.dataset, options)}
            append_json_line(self.path(METRICS), record)
            shown = record.get('summary') or f'{record["value"]:.4f}'
            over = f' over {record["images"]} images' if 'images' in record else ''
            self.log(f'kimg {self.ticks.kimg}  {record["metric"]} {shown}{over}')
            if record['value'] is None:
                continue
            with self.writer.as_default(step=self.ticks.kimg):
                tf.summary.scalar(f'metrics/{record["metric"]}', record['value'])
