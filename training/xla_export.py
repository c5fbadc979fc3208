"""Trains on a GPU that TensorFlow can't drive: the run's own training step, compiled by JAX, and back again.

    python -m training.xla_export export --dataset=photographs --config=config-e --out=package
    python -m training.xla_run package --out=package-run               # there: JAX, NumPy, Pillow, no TensorFlow
    python -m training.xla_export import package package-run/state-000300.npz --run-dir=results/photographs-jax

`export` writes each phase of the step as an XLA HloModuleProto with the real images and every starting value that is
not drawn at random; `xla_run` compiles and runs them; `import` makes a run folder of the state that comes back, for
run_metrics.py, run_generator.py and run_release.py.
"""
import functools
import io
import math
import os
import re
import zipfile

import numpy as np
import tensorflow as tf
from PIL import Image

from datasets.sources import find_dataset
from dnnlib import cli
from dnnlib.arrays import DamagedArrays, read_arrays
from dnnlib.images import to_float_tensor, to_uint8_tensor
from dnnlib.util import UsageError, UserError, atomic_folder, progress, read_json, write_json
from models.presets import ADOPTS, PRESETS
from training.config import Plan, add_flags, flags_config, from_record
from training.loop import options_record
from training.snapshot import OPTIONS, SNAPSHOTS, evaluation_checkpoint
from training.state import TrainState
from training.step import TrainStep
from training.xla_package import CONSTANTS, MANIFEST, REALS, STATE, hlo_file, taken_values, variant_name


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='training/xla_export.py', description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True)
    export = commands.add_parser('export', help='write the training step, for training/xla_run.py')
    export.add_argument('--config', choices=list(PRESETS), default='config-e', help='preset of the options below')
    export.add_argument('--dataset', required=True, help='a name under --data-dir, or a folder')
    export.add_argument('--data-dir', default='data', help='where datasets lie')
    export.add_argument('--out', required=True, help='the package to make, a folder')
    add_flags(export.add_argument_group('options of the run, whose defaults the preset gives'))
    back = commands.add_parser('import', help='make a run folder of a state that xla_run.py saved')
    back.add_argument('package', help='the folder that export made')
    back.add_argument('states', nargs='+', help='state-*.npz, all of them where the state came in parts')
    back.add_argument('--run-dir', required=True, help='the run folder to make')
    back.add_argument('--data-dir', default='data', help='where datasets lie')
    return parser


def main(args):
    {'export': _export, 'import': _import}[args.command](args)


def _export(args):
    config = flags_config(args)
    if config.impl == 'native':
        raise UsageError('--impl=native: XLA has no kernels for the native ops; leave the flag out')
    if config.init_from or config.method in ADOPTS:
        raise UsageError('--init-from: a package holds untrained networks only; train this run with run_training.py')
    dataset = find_dataset(args.dataset, args.data_dir)
    tf.config.experimental.enable_tensor_float_32_execution(config.tf32)  # is written into the modules
    with atomic_folder(args.out) as folder:
        save_reals(os.path.join(folder, REALS), dataset)
        manifest = export_steps(folder, config, dataset.resolution)
        write_json(os.path.join(folder, MANIFEST),
                   {**options_record(Plan(args.config, config, args.out, 0), dataset), **manifest})
    print(f'{args.out}: {", ".join(manifest["steps"])}; {dataset.num_images("train")} images')


def save_reals(path, dataset):
    """Writes the training split as lossless WebP files 00000.webp, ... in a zip."""
    count = dataset.num_images('train')
    with zipfile.ZipFile(path, 'w') as archive, progress(total=count, unit=' images', desc='reals') as bar:
        index = 0
        for batch in dataset.images('train'):
            for image in batch:
                file = io.BytesIO()
                Image.fromarray(image).save(file, 'WEBP', lossless=True, exact=True)
                archive.writestr(f'{index:05d}.webp', file.getvalue())
                index += 1
            bar.update(len(batch))


def state_variables(state):
    """{key: variable} of everything a TrainState's checkpoint holds, in an order that only the configuration gives."""
    found = {}
    for group, nets in (('nets', state.nets), ('ema', state.ema)):
        found.update({f'{group}/{name}/{i:03d}': variable
                      for name, net in nets.items() for i, variable in enumerate(net.variables)})
    found.update({f'optimizers/{name}/{i:03d}': variable for name, optimizer in state.optimizers.items()
                  for i, variable in enumerate(optimizer.variables())})
    return {**found, 'images_seen': state.images_seen}


def evaluation_prefixes(method):
    """The beginnings of the keys that metrics, pictures and instances take from a state."""
    return ['images_seen', *(f'ema/{name}/' for name in method.AVERAGED),
            *(f'nets/{name}/' for name in method.EVALUATED if name not in method.AVERAGED)]


def export_steps(folder, config, resolution):
    """Writes NAME.hlo per step, state.npz and constants.npz; returns the manifest's part that says how to run them."""
    state = TrainState(config, resolution)
    variables, instance = state_variables(state), None
    if hasattr(state.method, 'bake'):
        instance = state.method.bake(state.evaluated_nets(), tf.zeros([config.fingerprint_bits]))
        variables.update({f'instance/{i:03d}': variable for i, variable in enumerate(instance.variables)})
    step = TrainStep(config, state, tf.distribute.get_strategy(), jit_compile=True)
    functions = {**phase_functions(step, resolution), **other_functions(step, instance, resolution)}
    constants, steps = {}, {}
    for name, (function, arguments) in functions.items():
        steps[name] = write_step(os.path.join(folder, hlo_file(name)), function, arguments, variables, constants)
    drawn = {key for name in ('initialize', 'bake') if name in steps for key in steps[name]['updates'].values()}
    np.savez_compressed(os.path.join(folder, STATE),
                        **{key: value.numpy() for key, value in variables.items() if key not in drawn})
    np.savez_compressed(os.path.join(folder, CONSTANTS), **constants)
    shapes = {key: [list(value.shape), value.dtype.name] for key, value in variables.items()}
    return {'steps': steps, 'variables': shapes, 'evaluation': evaluation_prefixes(state.method),
            'phases': [[phase.name, phase.interval, list(phase.takes)] for phase in state.phases]}


def phase_functions(step, resolution):
    """{name: (tf.function, {argument: example})} of the phases, in each variant that occurs in the run."""
    config, found = step.config, {}
    reals = tf.zeros([config.batch_size, resolution, resolution, 3], tf.uint8)
    for phase in step.state.phases:
        for number in range(0, config.total_kimg * 1000 // config.batch_size, phase.interval):
            taken = taken_values(config, phase.takes, number, reals)
            name = variant_name(phase.name, phase.takes, taken)
            if name not in found:
                examples = {key: reals if key == 'reals' else tf.constant(0.0) for key in taken}
                found[name] = (_compiled(functools.partial(_phase, step, phase, tuple(taken))),
                               {'seed': tf.zeros([2], tf.int32), **examples})
    return found


def _phase(step, phase, names, seed, *values):
    """The phase's function, given only the values called `names`."""
    taken = dict(zip(names, values))
    return step.compiled[phase.name].python_function(seed, *(taken.get(name) for name in phase.takes))


def other_functions(step, instance, resolution):
    """What else is needed away from TensorFlow: {name: (tf.function, {argument: example})}.

    average moves the averages; initialize draws the initial weights; generate and decode are the averaged model's, on
    uint8 images; bake makes the `instance` of one fingerprint, which generates uint8 images.
    """
    config, state, method = step.config, step.state, step.state.method
    nets = state.evaluated_nets()
    bits = tf.zeros([config.batch_size, method.as_model(nets).fingerprint_bits])
    latents = tf.zeros([config.batch_size, config.latent_dim])
    images = tf.zeros([config.batch_size, resolution, resolution, 3], tf.uint8)

    def generate(latents, fingerprints):
        return to_uint8_tensor(method.generate(nets, latents, fingerprints))

    functions = {
        'average': (step.update_ema, {}),
        'initialize': (_compiled(functools.partial(initialize, state)), {'seed': tf.zeros([2], tf.int32)}),
        'generate': (_compiled(generate), {'latents': latents, 'fingerprints': bits})}
    if instance is not None:
        functions.update(
            decode=(_compiled(lambda images: method.decode(nets, to_float_tensor(images))), {'images': images}),
            bake=(_compiled(lambda code: _bake(method, nets, code, instance)), {'fingerprint': bits[0]}),
            instance=(_compiled(lambda latents: to_uint8_tensor(instance(latents))), {'latents': latents}))
    return functions


def _bake(method, nets, code, instance):
    method.bake(nets, code, into=instance)


def _compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


def initialize(state, seed):
    """Draws every weight that the layers of models/ draw at random, from the same distribution, and the averages."""
    drawn = [layer.drawn_weight for net in state.nets.values() for layer in net.submodules
             if hasattr(layer, 'drawn_weight')]
    sizes = [math.prod(weight.shape) for weight, _ in drawn]
    values = tf.split(tf.random.stateless_normal([sum(sizes)], seed), sizes)  # one draw: XLA compiles each anew
    for (weight, deviation), value in zip(drawn, values):
        weight.assign(tf.reshape(value, weight.shape) * deviation)
    state.copy_to_ema()


def write_step(path, function, arguments, variables, constants):
    """Writes one compiled function's HloModuleProto.

    Returns {'arguments': names; 'shapes': of the arguments; 'parameters': [kind, index or key] per parameter of the
    module; 'results': names of its first outputs; 'updates': {output: key of the variable it is assigned to}}. What is
    captured and belongs to no variable is added to `constants`.
    """
    values = list(arguments.values())
    concrete = function.get_concrete_function(*values)
    ir = function.experimental_get_compiler_ir(*values)
    with open(path, 'wb') as file:
        file.write(ir(stage='hlo_serialized'))
    # The module's parameters stand in the order of the concrete function's inputs: the arguments, then the captured.
    keys = {id(variable.handle): key for key, variable in variables.items()}
    # An argument without elements is a constant to XLA, and no parameter.
    parameters = [['argument', i] for i, value in enumerate(values) if value.shape.num_elements()]
    for captured in concrete.captured_inputs:
        if id(captured) in keys:
            parameters.append(['variable', keys[id(captured)]])
            continue
        key = f'{len(constants):04d}'
        if captured.dtype == tf.resource:  # an optimizer's hyperparameter
            dtype = captured._handle_data.shape_and_type[0].dtype
            captured = tf.raw_ops.ReadVariableOp(resource=captured, dtype=tf.as_dtype(dtype))
        constants[key] = captured.numpy()
        parameters.append(['constant', key])
    # Outputs are the results, then each variable the function assigns; the header says which parameter that is.
    header = ir(stage='hlo').split('\n', 1)[0]
    alias = re.search(r'input_output_alias=\{(.*?)\}, entry', header)
    pairs = re.findall(r'\{(\d*)\}: \((\d+), \{\}', alias.group(1)) if alias else []
    updates = {output or '0': parameters[int(parameter)] for output, parameter in pairs}
    assert all(kind == 'variable' for kind, _ in updates.values()), path
    outputs = concrete.structured_outputs
    results = sorted(outputs) if isinstance(outputs, dict) else ['result'] if outputs is not None else []
    return {'arguments': list(arguments), 'shapes': [list(value.shape) for value in values],
            'parameters': parameters, 'results': results,
            'updates': {output: key for output, (_, key) in updates.items()}}


def _import(args):
    manifest = read_json(os.path.join(args.package, MANIFEST))
    arrays = read_states(args.states, manifest['variables'])
    config = from_record(manifest['config'], os.path.join(args.package, MANIFEST))
    state = TrainState(config, manifest['dataset']['shape'][0])
    variables = state_variables(state)
    needed = [key for key in variables if key.startswith(tuple(manifest['evaluation']))]
    missing = [key for key in needed if key not in arrays]
    if missing:
        raise UserError(f'{" ".join(args.states)}: {missing[0]} is missing; name every part of the state')
    for key, variable in variables.items():
        if key in arrays:
            variable.assign(arrays[key])
    whole = set(variables) <= set(arrays)
    checkpoint = state.checkpoint() if whole else evaluation_checkpoint(state.method, state.evaluated_nets())
    kimg = int(arrays['images_seen']) // 1000
    dataset = find_dataset(manifest['dataset']['path'], args.data_dir)
    plan = Plan(manifest['preset'], config, args.run_dir, 0)
    with atomic_folder(args.run_dir) as folder:
        write_json(os.path.join(folder, OPTIONS), options_record(plan, dataset))
        tf.train.CheckpointManager(checkpoint, os.path.join(folder, SNAPSHOTS), 1,
                                   checkpoint_name='snapshot').save(checkpoint_number=kimg)
    print(f'{args.run_dir}: snapshot at {kimg} kimg' + ('' if whole else ', to measure and issue from, not to resume'))


def read_states(paths, variables):
    """{key: array} of the files together, each with the shape the manifest gives. Raises UserError if not."""
    arrays = {}
    for path in paths:
        try:
            arrays.update(read_arrays(path))
        except DamagedArrays as error:
            raise UserError(f'{path} is no state that xla_run.py saved, or damaged ({error}); copy it again') from None
    for key, array in arrays.items():
        if key not in variables or list(array.shape) != variables[key][0]:
            raise UserError(f'{" ".join(paths)}: {key} {array.shape} is not of this package; '
                            'name the package the state was trained from')
    if 'images_seen' not in arrays:
        raise UserError(f'{" ".join(paths)}: how many images were seen is missing; name every part of the state')
    return arrays


if __name__ == '__main__':
    cli.run(make_parser(), main)
