"""The loop: ticks of steps, statistics, grids, snapshots, metrics; resume; and stopping on a NaN."""
import contextlib
import dataclasses
import fcntl
import importlib.metadata
import os
import platform
import resource
import time

import numpy as np
import tensorflow as tf

from dnnlib.images import save_grid
from dnnlib.ops import native
from dnnlib.util import (
    Log,
    UserError,
    append_json_line,
    format_time,
    keep_json_lines,
    make_folder,
    progress,
    read_json,
    read_json_lines,
    write_json,
)
from metrics.base import Options, check_metrics, run_metric
from training.config import RESUMABLE, Config
from training.distribution import check_batch, make_strategy, training_batches, worker
from training.evaluation import make_model, write_grids
from training.state import OPTIONS, SNAPSHOTS, TrainState, list_snapshots, restore
from training.steps import TrainingSteps


@dataclasses.dataclass(frozen=True)
class Plan:
    """What run_training.py has resolved: the preset's name, its Config, the run's folder, GPUs."""
    preset: str
    config: Config
    run_dir: str
    num_gpus: int


def train(plan, dataset, strategy=None):
    """Trains on a datasets.tfrecord.Dataset to config.total_kimg, from the run folder's last snapshot where there is
    one. Returns the kimg reached.

    Raises:
        UserError: a run folder of other options, a corrupt snapshot, a NaN, a folder that can't be written.
    """
    if plan.config.deterministic and plan.num_gpus:  # on CPUs every op used here is deterministic anyway
        tf.config.experimental.enable_op_determinism()
    strategy = strategy or make_strategy(plan.num_gpus)
    check_batch(strategy, plan.config.batch_size)
    check_metrics(metric_names(plan.config))
    make_folder(plan.run_dir)
    with _only_run(plan.run_dir, worker(strategy)[0]):
        return _Loop(plan, dataset, strategy).run()


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
        'preset': plan.preset, 'config': dataclasses.asdict(plan.config),
        'dataset': {'name': dataset.name, 'path': dataset.path, 'shape': list(dataset.shape),
                    'train_images': dataset.num_images('train'), 'digest': dataset.digest},
        'num_gpus': plan.num_gpus, 'ops': native.resolve(plan.config.ops),
        'versions': {'python': platform.python_version(),
                     **{name: importlib.metadata.version(name) for name in ('tensorflow', 'numpy')}},
    }


def _check_same_run(path, record):
    """Raises UserError where the run in this folder was made with options that a continuation may not change."""
    saved = read_json(path)
    old, new = saved.get('config', {}), record['config']
    differing = [f'{name.replace("_", "-")} was {old.get(name)!r}, is {new[name]!r}' for name in new
                 if name not in RESUMABLE and old.get(name) != new[name]]
    if saved.get('dataset', {}).get('digest') != record['dataset']['digest']:
        differing.append(f'the dataset was {saved.get("dataset", {}).get("name")!r} with other images')
    if differing:
        raise UserError(f'{os.path.dirname(path)} holds a run of another configuration ({"; ".join(differing)}); '
                        'name another --run-dir, or repeat its flags to resume it')


class _Loop:
    def __init__(self, plan, dataset, strategy):
        self.plan, self.config, self.dataset, self.strategy = plan, plan.config, dataset, strategy
        self.chief = worker(strategy)[0] == 0
        self.log = Log(self.path('log.txt')) if self.chief else Log()
        self._write_options()
        with strategy.scope():
            self.state = TrainState(self.config, dataset.resolution)
        self.steps = TrainingSteps(self.config, self.state, strategy)
        averages = self.state.averages
        self.model = make_model(self.config, averages['E'], averages['G'], self.state.nets.get('F'))
        self.manager = self._checkpoint_manager()
        self.writer = tf.summary.create_file_writer(self.path('events')) if self.chief else None

    def path(self, *names):
        return os.path.join(self.plan.run_dir, *names)

    @property
    def images(self):
        return int(self.state.images.numpy())

    @property
    def kimg(self):
        return self.images // 1000

    def _write_options(self):
        record, path = options_record(self.plan, self.dataset), self.path(OPTIONS)
        if os.path.exists(path):
            _check_same_run(path, record)
        if self.chief:
            write_json(path, record)

    def _checkpoint_manager(self):
        # Every worker takes part in a save; those that are not the chief do so in a folder nobody reads.
        folder = self.path(SNAPSHOTS) if self.chief else self.path(f'.worker{worker(self.strategy)[0]}')
        return tf.train.CheckpointManager(self.state.checkpoint(), folder, self.config.keep_snapshots,
                                          checkpoint_name='snapshot')

    def run(self):
        self._resume()
        if not self.kimg:
            self._first_pictures()
        config, started = self.config, time.time()
        self.started_kimg, self.started = self.kimg, started
        batches = training_batches(self.strategy, self.dataset, config.batch_size, config.seed, self.images)
        while self.kimg < config.total_kimg:
            self._tick(batches)
            tick, done = self.kimg // config.tick_kimg, self.kimg >= config.total_kimg
            if self.chief and (done or tick % config.image_snapshot_ticks == 0):
                write_grids(self.model, config.seed, self.path(f'fakes_{{}}_{self.kimg:06d}.png'))
            if done or tick % config.snapshot_ticks == 0:
                self._snapshot()
        self.log(f'done: {self.kimg} kimg in {self.plan.run_dir}')
        return self.kimg

    def _resume(self):
        snapshots = list_snapshots(self.plan.run_dir)
        if snapshots:
            kimg, path = snapshots[-1]
            restore(self.state.checkpoint(), path)
            self.log(f'resuming {self.plan.run_dir} at {kimg} kimg')
        if self.chief:
            # A killed run may have written more than it saved; those lines are about to be written again.
            for name in ('stats.jsonl', 'metrics.jsonl'):
                keep_json_lines(self.path(name), lambda record: record['kimg'] <= self.kimg)
        measured = {record['kimg'] for record in read_json_lines(self.path('metrics.jsonl'))}
        if snapshots and self.kimg not in measured:
            self._metrics()

    def _first_pictures(self):
        if self.chief:
            reals = next(self.dataset.images('train', 64, 64))
            save_grid(self.path('reals.png'), reals, 8, max(1, 64 // self.dataset.resolution))
            write_grids(self.model, self.config.seed, self.path('fakes_{}_000000.png'))

    def _tick(self, batches):
        """tick_kimg thousand images: the steps, then one line of statistics. The device is read once, at the end."""
        config, begun, history = self.config, time.time(), []
        first = self.images // config.batch_size
        with progress(total=config.tick_kimg * 1000, unit='img', desc=f'from {self.kimg} kimg') as bar:
            for step in range(first, first + config.tick_kimg * 1000 // config.batch_size):
                history.append(self.steps(step, next(batches)))
                bar.update(config.batch_size)
        statistics = _averages(history)
        self._check_finite(statistics)
        self.state.images.assign_add(config.tick_kimg * 1000)
        if self.chief:
            self._report(statistics, time.time() - begun)

    def _check_finite(self, statistics):
        broken = sorted(name for name, value in statistics.items() if not np.isfinite(value))
        broken += sorted(name for name, net in self.state.nets.items()
                         if not all(np.all(np.isfinite(value)) for value in net.get_weights()))
        if broken:
            snapshots = list_snapshots(self.plan.run_dir)
            good = f'the last good snapshot is {snapshots[-1][1]}' if snapshots else 'there is no snapshot yet'
            raise UserError(f'{", ".join(broken)} became NaN or infinite between {self.kimg} and '
                            f'{self.kimg + self.config.tick_kimg} kimg; {good}; try a lower --learning-rate, '
                            'or a higher --r1-gamma, in another --run-dir')

    def _report(self, statistics, seconds):
        config, kimg = self.config, self.kimg
        images_per_second = config.tick_kimg * 1000 / seconds
        total = time.time() - self.started
        left = (config.total_kimg - kimg) * total / max(kimg - self.started_kimg, 1)
        shown = '  '.join(f'{name.split("/")[-1]} {value:.3f}' for name, value in statistics.items()
                          if name.startswith('loss/') or name == 'bit_accuracy_float')
        # ru_maxrss is in KiB on Linux.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20
        self.log(f'kimg {kimg}/{config.total_kimg}  time {format_time(total)}  left {format_time(left)}  '
                 f'{images_per_second:.1f} img/s  {memory:.1f} GiB  {shown}')
        append_json_line(self.path('stats.jsonl'), {'kimg': kimg, 'images_per_second': images_per_second, **statistics})
        with self.writer.as_default(step=kimg):
            for name, value in {**statistics, 'timing/images_per_second': images_per_second}.items():
                tf.summary.scalar(name, value)
        self.writer.flush()

    def _snapshot(self):
        self.manager.save(checkpoint_number=self.kimg)
        self._metrics()

    def _metrics(self):
        if not self.chief:
            return
        options = Options(num_images=self.config.metric_images, seed=self.config.seed,
                          inception=self.config.inception or None)
        for name in metric_names(self.config):
            record = {'kimg': self.kimg, **run_metric(name, self.model, self.dataset, options)}
            append_json_line(self.path('metrics.jsonl'), record)
            self.log(f'kimg {self.kimg}  {record["metric"]} {record["value"]:.4f}')
            with self.writer.as_default(step=self.kimg):
                tf.summary.scalar(f'metrics/{record["metric"]}', record['value'])


def _averages(history):
    """The mean of each statistic over the steps that reported it, as floats."""
    values = {}
    for statistics in history:
        for name, value in statistics.items():
            values.setdefault(name, []).append(value)
    return {name: float(np.mean([value.numpy() for value in series])) for name, series in values.items()}
