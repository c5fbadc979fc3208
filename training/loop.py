"""The loop: ticks of steps, statistics, grids, snapshots, metrics; resume; and stopping on a NaN."""
import contextlib
import fcntl
import importlib.metadata
import os
import platform

import numpy as np
import tensorflow as tf

from dnnlib.cli import Deferred
from dnnlib.ops import native
from dnnlib.pictures import save_grid, tile_zoom
from dnnlib.util import (
    Log,
    UserError,
    append_json_line,
    keep_json_lines,
    make_folder,
    private_files,
    read_json,
    read_json_lines,
    write_json,
)
from metrics.base import Options, check_metrics, run_metric
from models.limits import check_division, check_networks, check_parts
from training import preemption
from training.config import FIELDS, OPTIONS, to_record
from training.distribution import make_strategy, training_batches, worker
from training.grids import write_grids
from training.initial import take_over
from training.snapshot import SNAPSHOTS, list_snapshots, remove_unfinished
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
    check_run_folder(plan.run_dir)
    with _only_run(plan.run_dir, worker(strategy)[0]):
        return Loop(plan, dataset, strategy).run()


def check_run_folder(run_dir):
    """Raises UserError for a folder of anything else: a run writes files of its own names, and cuts some of them."""
    names = [name for name in os.listdir(run_dir) if not name.startswith('.')]
    path = os.path.join(run_dir, OPTIONS)
    if names and not (os.path.exists(path) and 'config' in read_json(path)):
        raise UserError(f'{run_dir} holds files that no training made ({min(names)}); name a new or empty --run-dir')


def metric_names(config):
    """The metrics to run at each snapshot."""
    return [] if config.metrics == 'none' else config.metrics.split(',')


@contextlib.contextmanager
def _only_run(run_dir, index):
    """Refuses a second process that trains in the same run folder as the same worker."""
    with open(os.path.join(run_dir, f'.lock{index}'), 'a') as file:
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
        index, self.workers = worker(strategy)
        self.chief = index == 0
        self.own_folder = [] if self.chief else [f'.worker{index}']  # of what only the chief's copy is read
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
        """Trains from where the run has come to, or from the beginning, to the end. Returns the kimg reached."""
        config = self.config
        snapshot, preempted = self._restore()
        self.ticks = Ticks(config, self.plan.run_dir if self.chief else None, self.log,
                           int(self.state.images_seen.numpy()), config.total_kimg)
        if preempted:
            self.ticks.history = preempted.history
        if snapshot or preempted:
            self._catch_up(bool(preempted))
        else:
            self._begin()
        batches = training_batches(self.strategy, self.dataset, config.batch_size, config.seed, self.ticks.next_image)
        with Deferred() as deferred:
            while not self.ticks.done:
                self._tick(batches, deferred)
            deferred.stop()
        self.log(f'done: {self.ticks.kimg} kimg in {self.plan.run_dir}')
        return self.ticks.kimg

    def _tick(self, batches, deferred):
        """A tick and what is due after it. If it is told to stop, it saves the state after the present step, and does.

        Several hosts must stop at the same step: they agree at the tick's end.
        """
        whole = self._train(batches, (lambda: deferred.asked) if self.workers == 1 else (lambda: False))
        if whole and self.chief and self.ticks.due(self.config.image_snapshot_ticks):
            write_grids(self.model, self.config.seed, self.path(f'fakes_{{}}_{self.ticks.kimg:06d}.png'))
        snapshot_due = whole and self.ticks.due(self.config.snapshot_ticks)
        if snapshot_due:
            self._save()
        if self._any_asked(deferred):
            if not snapshot_due:
                preemption.save(self._preempted(), self.state.checkpoint(), self.ticks.kimg, self.ticks.history)
            self.log(f'stopped after {self.ticks.next_image} images; the same command goes on from there')
            deferred.stop()
        if snapshot_due:
            with deferred.lifted():  # the snapshot is kept, and a resumed run measures it anew
                self._measure()

    def _any_asked(self, deferred):
        """Whether any worker was told to stop; a worker that was not, yet must, stops as if terminated."""
        if self.workers == 1:
            return deferred.asked
        asked = self.strategy.run(lambda: tf.constant(float(deferred.asked)))
        if not self.strategy.reduce(tf.distribute.ReduceOp.SUM, asked, axis=None):
            return False
        deferred.ask()
        return True

    def _save(self):
        """Saves the snapshot of the present kimg."""
        try:
            with private_files():
                self.manager.save(checkpoint_number=self.ticks.kimg)
        except BaseException:
            remove_unfinished(self.plan.run_dir)
            raise
        preemption.remove(self._preempted())

    def _preempted(self):
        """Where this worker's state is kept when the run is told to stop."""
        return self.path(*self.own_folder, preemption.PREEMPTED)

    def _write_options(self):
        """Writes training_options.json before the first step, or checks that it tells of the same run."""
        record, path = options_record(self.plan, self.dataset), self.path(OPTIONS)
        trained = list_snapshots(self.plan.run_dir) or preemption.find(self.path(preemption.PREEMPTED))
        if os.path.exists(path) and trained:
            _check_same_run(path, record)
        if self.chief:
            write_json(path, record)

    def _checkpoint_manager(self):
        # Every worker takes part in a save; those that are not the chief do so in a folder nobody reads.
        folder = make_folder(self.path(*(self.own_folder or [SNAPSHOTS])), private=True)
        return tf.train.CheckpointManager(self.state.checkpoint(), folder, self.config.keep_snapshots,
                                          checkpoint_name='snapshot')

    def _restore(self):
        """Restores the later of the last snapshot and what the run stopped with.

        Returns (the snapshot's path or None, the Preempted or None), at most one of them.
        """
        if self.chief:
            remove_unfinished(self.plan.run_dir)
        kimg, path = (list_snapshots(self.plan.run_dir) or [(-1, None)])[-1]
        preempted = preemption.find(self.path(preemption.PREEMPTED))
        if preempted and preempted.kimg >= kimg:
            restore(self.state.checkpoint(), preempted.path)
            self.log(f'resuming {self.plan.run_dir} {len(preempted.history)} steps after {preempted.kimg} kimg')
            return None, preempted
        if path:
            restore(self.state.checkpoint(), path)
            self.log(f'resuming {self.plan.run_dir} at {kimg} kimg')
        return path, None

    def _catch_up(self, later):
        """Forgets measurements later than the snapshot, and measures it if a kill came before that was done.

        later: the state is one after the snapshot, which was measured before.
        """
        if self.chief:
            keep_json_lines(self.path(METRICS), lambda record: record['kimg'] <= self.ticks.kimg)
            measured = {record['kimg'] for record in read_json_lines(self.path(METRICS))}
            if not later and self.ticks.kimg not in measured:
                self._measure()

    def _begin(self):
        """What comes before the first step: networks taken over, a warm start, grids of real and first images."""
        trained = take_over(self.config, self.state, self.dataset.resolution, self.log)
        if not trained and hasattr(self.state.method, 'warm_start'):
            self.state.method.warm_start(self.config, self.state.nets)
        if self.chief:
            reals = next(self.dataset.images('train', 64, 64))
            save_grid(self.path('reals.png'), reals, 8, tile_zoom(self.dataset.resolution, 64))
            write_grids(self.model, self.config.seed, self.path('fakes_{}_000000.png'))

    def _train(self, batches, stopping):
        """tick_kimg thousand images, and what they did to the statistics. Returns whether they were all shown."""
        statistics = self.ticks.run(self.step.run, batches, stopping)
        if statistics is None:
            return False
        self.ticks.check_finite(statistics, self._broken_nets(), self._last_good())
        self.ticks.advance(statistics)
        self.state.images_seen.assign(self.ticks.images_seen)
        if self.chief:
            with self.writer.as_default(step=self.ticks.kimg):
                for name, value in statistics.items():
                    tf.summary.scalar(name, value)
            self.writer.flush()
        return True

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
