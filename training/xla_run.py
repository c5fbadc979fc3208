"""Runs what training/xla_export.py exported, on the GPU that JAX finds: trains, or times. Needs no TensorFlow.

    python -m training.xla_run package --out=package-run       # trains; the same command again resumes
    python -m training.xla_run package --time                  # milliseconds per phase, images per second
    python -m training.xla_run package --memory                # of each phase, as XLA has planned it
"""
import collections
import concurrent.futures
import functools
import glob
import io
import itertools
import json
import os
import re
import statistics
import tempfile
import time
import zipfile

import numpy as np
from PIL import Image

from dnnlib import cli
from dnnlib.arrays import DamagedArrays, read_arrays
from dnnlib.pictures import save_grid, tile_zoom
from dnnlib.util import (
    Log,
    UserError,
    atomic_file,
    make_folder,
    progress,
    read_json,
)
from training.config import from_record
from training.ticks import Ticks
from training.xla_package import CONSTANTS, MANIFEST, REALS, STATE, hlo_file, taken_values, variant_name

try:
    import jax
    from jax._src.interpreters import mlir
    from jax._src.lib import _jax, xla_client
    from jax._src.lib.mlir import ir
except ImportError as error:
    raise SystemExit(f'training/xla_run.py: error: {error}; run it with an interpreter that has JAX, such as '
                     '.venv-jax/bin/python, which `make jax` makes') from None

jax.config.update('jax_enable_x64', True)  # an optimizer counts its steps in int64

SEED_OF_INITIALIZATION = -1  # no step has this number
GRID = 64


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='training/xla_run.py', description=__doc__.split('\n')[0])
    parser.add_argument('package', help='the folder that `training.xla_export export` made')
    parser.add_argument('--out', help='where the run is written (default: PACKAGE-run)')
    parser.add_argument('--total-kimg', type=int, help="length of the run (default: the package's)")
    parser.add_argument('--stop-after', type=float, help='seconds after which to save and stop, at a tick')
    parser.add_argument('--time', action='store_true', help='time each phase and the whole step, and stop')
    parser.add_argument('--profile', action='store_true', help='print where the time of a step goes, and stop')
    parser.add_argument('--memory', action='store_true', help='print the memory that each phase needs on this device, '
                        'as the compiler has planned it, and stop; nothing is run')
    parser.add_argument('--rounds', type=int, default=5, help='with --time: rounds, of which the median counts')
    return parser


class Package:
    """Compiled steps and the state they share, which stays on the device.

    Args:
        folder: what `training.xla_export export` wrote.
        names: the steps to compile; None for all.

    Raises:
        UserError: no such package, a damaged one, or one that this JAX can't compile.
    """

    def __init__(self, folder, names=None):
        self.device, self.folder = jax.devices()[0], folder
        self.manifest = read_json(os.path.join(folder, MANIFEST))
        self.config = from_record(self.manifest['config'], os.path.join(folder, MANIFEST))
        self.steps = self.manifest['steps']
        self.constants = self._load(CONSTANTS)
        self.state = {key: self._put(np.zeros(shape, dtype))
                      for key, (shape, dtype) in self.manifest['variables'].items()}
        self.state.update(self._load(STATE))
        names = names or list(self.steps)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            self.compiled = dict(zip(names, progress(pool.map(self._compile, names), total=len(names), desc='compile')))

    def _put(self, array):
        return jax.device_put(array, self.device)

    def _load(self, name):
        path = os.path.join(self.folder, name)
        try:
            return {key: self._put(array) for key, array in read_arrays(path).items()}
        except DamagedArrays as error:
            raise UserError(f'{path} is damaged ({error}); export the package again, or copy it again') from None

    def _compile(self, name):
        path = os.path.join(self.folder, hlo_file(name))
        try:
            return self.device.client.compile_and_load(read_module(path), xla_client.DeviceList((self.device,)),
                                                       xla_client.CompileOptions())
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split('\n')[0]
            raise UserError(f'{path}: JAX {jax.__version__} cannot compile it ({reason}); export the package again, '
                            'or use the JAX of constraints-jax.txt') from None

    def run(self, name, **arguments):
        """Runs a step and updates the state. Returns its results, {name: JAX array}, without waiting for them."""
        step = self.steps[name]
        sources = {'argument': lambda i: self._put(arguments[step['arguments'][i]]),
                   'variable': self.state.__getitem__, 'constant': self.constants.__getitem__}
        outputs = self.compiled[name].execute_sharded([sources[kind](key) for kind, key in step['parameters']])
        outputs = [output[0] for output in outputs.disassemble_into_single_device_arrays()]
        self.state.update({key: outputs[int(index)] for index, key in step['updates'].items()})
        return dict(zip(step['results'], outputs))

    @property
    def images_seen(self):
        """How many real images the state has seen."""
        return int(np.asarray(self.state['images_seen']))

    @images_seen.setter
    def images_seen(self, count):
        self.state['images_seen'] = self._put(np.int64(count))

    def parameter_shape(self, name, argument):
        """The shape of one of a step's arguments."""
        return self.steps[name]['shapes'][self.steps[name]['arguments'].index(argument)]

    def save(self, path, prefixes=('',)):
        """Writes the state's variables whose keys begin with one of `prefixes`, atomically."""
        with atomic_file(path, 'wb') as file:
            np.savez(file, **{key: np.asarray(value) for key, value in self.state.items()
                              if key.startswith(prefixes) and not key.startswith('instance/')})

    def restore(self, path):
        """Takes the state from a file that `save` wrote in full. Raises UserError where it is damaged or another's."""
        try:
            arrays = read_arrays(path)
        except DamagedArrays as error:
            raise UserError(f'{path} is damaged ({error}); remove it to begin anew') from None
        shapes = {key: shape for key, (shape, _) in self.manifest['variables'].items()
                  if not key.startswith('instance/')}
        if {key: list(array.shape) for key, array in arrays.items()} != shapes:
            raise UserError(f'{path} is the state of another package than {self.folder}; name another --out')
        self.state.update({key: self._put(array) for key, array in arrays.items()})


def read_module(path):
    """The bytes of an MLIR module, of an HloModuleProto's file, without `mhlo.copy`, by which TensorFlow returns a
    value: it is no operation of StableHLO, and a GPU's compiler takes no other."""
    copies = []

    def visit(operation):
        if operation.name == 'mhlo.copy':
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    with open(path, 'rb') as file, mlir.make_ir_context():
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(file.read()))
        module.operation.walk(visit)
        for copy in copies:
            copy.results[0].replace_all_uses_with(copy.operands[0])
            copy.erase()
        return mlir.module_to_bytecode(module)


def read_reals(folder):
    """The real images of a package, uint8 [N, H, W, 3]."""
    with zipfile.ZipFile(os.path.join(folder, REALS)) as archive:
        return np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in sorted(archive.namelist())])


def batches(reals, batch_size, seed, start_image):
    """Endless batches of `reals`, in a new order each epoch, from the stream's `start_image`-th image on."""
    @functools.lru_cache(maxsize=2)
    def order(epoch):
        return np.random.default_rng([seed, epoch]).permutation(len(reals))

    for start in itertools.count(start_image, batch_size):
        places = (divmod(image, len(reals)) for image in range(start, start + batch_size))
        yield reals[[order(epoch)[offset] for epoch, offset in places]]


def step_arguments(config, takes, step, reals):
    """{argument: array} of a phase at a step: its seed and what it takes."""
    taken = taken_values(config, takes, step, reals)
    weights = {name: np.float32(value) for name, value in taken.items() if name != 'reals'}
    return {'seed': np.array([config.seed, step], np.int32), **taken, **weights}


def run_step(package, step, reals):
    """The phases due at a step, then the averages. Returns {statistic: JAX array}."""
    results = {}
    for phase, interval, takes in package.manifest['phases']:
        if step % interval == 0:
            arguments = step_arguments(package.config, takes, step, reals)
            results.update(package.run(variant_name(phase, takes, arguments), **arguments))
    package.run('average')
    return results


def list_states(out):
    """[(kimg, path)] of the full states in a run's folder, oldest first."""
    found = [(int(re.search(r'state-(\d+)\.npz$', path).group(1)), path)
             for path in glob.glob(os.path.join(glob.escape(out), 'state-*.npz'))]
    return sorted(found)


class Run:
    """A training run in a folder: stats.jsonl, log.txt, grids, the latest full state, and of each snapshot the part
    that evaluation takes."""

    def __init__(self, package, out, total_kimg):
        self.package, self.config, self.out = package, package.config, make_folder(out)
        self.log = Log(os.path.join(out, 'log.txt'))
        states = list_states(out)
        if states:
            package.restore(states[-1][1])
            self.log(f'resuming {out} at {states[-1][0]} kimg')
        else:
            package.run('initialize', seed=np.array([self.config.seed, SEED_OF_INITIALIZATION], np.int32))
        self.ticks = Ticks(self.config, out, self.log, package.images_seen, total_kimg)

    def train(self, stop_after=None):
        """Trains to the end, or to the first tick after `stop_after` seconds."""
        config, ticks, begun = self.config, self.ticks, time.time()
        stream = batches(read_reals(self.package.folder), config.batch_size, config.seed, ticks.images_seen)
        stopped = False
        while not ticks.done and not stopped:
            self.tick(stream)
            stopped = stop_after is not None and time.time() - begun > stop_after
            if stopped or ticks.due(config.snapshot_ticks):
                self.save()
            if stopped or ticks.due(config.image_snapshot_ticks):
                self.pictures()
        self.log(f'done: {ticks.kimg} kimg in {self.out}')

    def tick(self, stream):
        """tick_kimg thousand images."""
        statistics = self.ticks.run(functools.partial(run_step, self.package), stream)
        states = list_states(self.out)
        self.ticks.check_finite(statistics, [], f'the last good state is {states[-1][1]}' if states
                                else 'there is no state yet')
        self.ticks.advance(statistics)
        self.package.images_seen = self.ticks.images_seen

    def pictures(self):
        """A grid of the averaged model, each image its own latent and fingerprint, and the bit accuracy on uint8."""
        config, rng, pictures, right = self.config, np.random.default_rng(self.config.seed), [], []
        num_bits = self.package.parameter_shape('generate', 'fingerprints')[1]
        for _ in range(-(-GRID // config.batch_size)):
            latents = rng.standard_normal([config.batch_size, config.latent_dim]).astype(np.float32)
            bits = (rng.random([config.batch_size, num_bits]) < 0.5).astype(np.float32)
            images = np.asarray(self.package.run('generate', latents=latents, fingerprints=bits)['result'])
            pictures.append(images)
            if 'decode' in self.package.steps:
                right.append((np.asarray(self.package.run('decode', images=images)['result']) > 0) == bits)
        save_grid(os.path.join(self.out, f'fakes_{self.ticks.kimg:06d}.png'), np.concatenate(pictures)[:GRID], 8,
                  tile_zoom(pictures[0].shape[1], 64))
        if right:
            self.log(f'kimg {self.ticks.kimg}  bit_accuracy on uint8, averaged model, '
                     f'{len(right) * config.batch_size} images: {np.mean(right):.4f}')

    def save(self):
        """The full state, to resume from, replaces the one before; the evaluation's part of every snapshot is kept."""
        older = list_states(self.out)
        self.package.save(os.path.join(self.out, f'evaluation-{self.ticks.kimg:06d}.npz'),
                          tuple(self.package.manifest['evaluation']))
        self.package.save(os.path.join(self.out, f'state-{self.ticks.kimg:06d}.npz'))
        for kimg, path in older:
            if kimg != self.ticks.kimg:
                os.unlink(path)


class Measurement:
    """Times a package's steps on random weights and images, every loss in play."""

    def __init__(self, package, rounds):
        self.package, self.config, self.rounds = package, package.config, rounds
        config, rng = package.config, np.random.default_rng(0)
        size = package.manifest['dataset']['shape'][0]
        package.run('initialize', seed=np.array([config.seed, SEED_OF_INITIALIZATION], np.int32))
        self.reals = rng.integers(0, 256, [config.batch_size, size, size, 3]).astype(np.uint8)
        self.first = 16 * 10 ** 6  # beyond the end of every ramp, and a step at which each phase is due
        self.values = {'images': self.reals}
        for _, _, takes in package.manifest['phases']:
            self.values.update(step_arguments(config, takes, self.first, self.reals))

    def whole(self, count=16):
        """Runs `count` whole steps; 16 hold every phase as often as it is due."""
        for step in range(self.first, self.first + count):
            run_step(self.package, step, self.reals)
        jax.block_until_ready(self.package.state)

    def one(self, name, count=4):
        """Runs one step alone, `count` times."""
        arguments = {key: self.argument(name, key) for key in self.package.steps[name]['arguments']}
        for _ in range(count):
            results = self.package.run(name, **arguments)
        jax.block_until_ready([self.package.state, results])

    def argument(self, name, key):
        """What a step is given when timed alone; anything of the right shape if it is no phase's."""
        if key in self.values:
            return self.values[key]
        return np.ones(self.package.parameter_shape(name, key), np.float32)

    def seconds(self, function, *args, count):
        """The median time of a call, of `count` in a row; the first round warms up."""
        times = []
        for _ in range(self.rounds + 1):
            begun = time.perf_counter()
            function(*args, count=count)
            times.append((time.perf_counter() - begun) / count)
        return statistics.median(times[1:])

    def report(self):
        """Prints a table, and the same as one JSON line."""
        batch, device = self.config.batch_size, self.package.device.device_kind
        print(f'{device}, JAX {jax.__version__}, batch {batch}, {self.reals.shape[1]}x{self.reals.shape[2]}')
        record = {'whole step': self.seconds(self.whole, count=16)}
        record.update({name: self.seconds(self.one, name, count=4) for name in self.package.steps
                       if name != 'initialize'})
        for name, value in record.items():
            print(f'{name:20}{1e3 * value:10.2f} ms{batch / value:12.1f} images/s')
        print(json.dumps({'device': device, 'jax': jax.__version__, 'batch_size': batch, 'seconds': record}))

    def profile(self, rows=20):
        """Prints the kernels that take most of the device's time over 16 steps (on a CPU, of XLA's own threads)."""
        self.whole()
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                self.whole()
            (path,) = glob.glob(f'{folder}/**/*.xplane.pb', recursive=True)
            totals = collections.Counter()
            for plane in jax.profiler.ProfileData.from_file(path).planes:
                for line in plane.lines:
                    if (plane.name.startswith('/device:') and 'Stream' in line.name) or 'XLA' in line.name:
                        for event in line.events:
                            if not event.name.startswith(('ThunkExecutor', 'end: ')):  # these hold the others
                                totals[re.sub(r'[._]?[0-9.]*$', '', event.name)] += event.duration_ns
        for name, nanoseconds in totals.most_common(rows):
            print(f'{name[:80]:80}{nanoseconds / 16e6:10.2f} ms a step{nanoseconds / totals.total():8.1%}')


def print_memory(package):
    """Prints the memory of each compiled step in GiB: what it is given, what it makes, and what it needs meanwhile."""
    print(f'{package.device.device_kind}, JAX {jax.__version__}, batch {package.config.batch_size}, in parts of '
          f'{package.config.batch_per_replica or package.config.batch_size}')
    print(f'{"GiB":20}{"given":>10}{"results":>10}{"meanwhile":>10}')
    for name, compiled in package.compiled.items():
        found = compiled.get_compiled_memory_stats()
        sizes = (found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes)
        print(f'{name:20}' + ''.join(f'{size / 2 ** 30:10.3f}' for size in sizes))


def main(args):
    package = Package(args.package)
    if args.memory:
        print_memory(package)
        return
    if args.time or args.profile:
        measurement = Measurement(package, args.rounds)
        if args.time:
            measurement.report()
        if args.profile:
            measurement.profile()
        return
    run = Run(package, args.out or f'{args.package.rstrip("/")}-run', args.total_kimg or package.config.total_kimg)
    run.train(args.stop_after)


if __name__ == '__main__':
    cli.run(make_parser(), main)
