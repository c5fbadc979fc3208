"""Trains on a GPU that TensorFlow 2.15 can't drive: the run's own training step, compiled by JAX, and back again.

    python -m experiments.hlo export --dataset=photographs --config=config-e --out=package
    python -m experiments.hlo_run package --out=package-run               # there: JAX, NumPy, Pillow, no TensorFlow
    python -m experiments.hlo import package package-run/state-000300.npz --run-dir=results/photographs-jax

`export` writes each phase of the step as an XLA HloModuleProto with the real images and every starting value that is
not drawn at random; `hlo_run.py` compiles and runs them; `import` makes a run folder of the state that comes back, for
run_metrics.py, run_generator.py and run_release.py.
"""
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
from dnnlib.util import UsageError, UserError, atomic_folder, progress, read_json, write_json
from release.instance import bake_into, to_uint8
from training.config import PRESETS, Config, add_flags, consistency_weight, flags_config
from training.layers import EqualizedLayer
from training.networks import ConstantInput, Generator
from training.state import OPTIONS, SNAPSHOTS, TrainState
from training.steps import TrainingSteps, synthesize
from training.training_loop import Plan, options_record

MANIFEST, REALS, STATE, CONSTANTS = 'manifest.json', 'reals.zip', 'state.npz', 'constants.npz'
EVALUATION = ('averages/', 'nets/F/')  # what metrics, pictures and instances take from a state


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='experiments/hlo.py', description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True)
    export = commands.add_parser('export', help='write the training step, for experiments/hlo_run.py')
    export.add_argument('--config', choices=list(PRESETS), default='config-e', help='preset of the options below')
    export.add_argument('--dataset', required=True, help='a name under --data-dir, or a folder')
    export.add_argument('--data-dir', default='data', help='where datasets lie')
    export.add_argument('--out', required=True, help='the package to make, a folder')
    add_flags(export.add_argument_group('options of the run, whose defaults the preset gives'))
    back = commands.add_parser('import', help='make a run folder of a state that hlo_run.py saved')
    back.add_argument('package', help='the folder that export made')
    back.add_argument('states', nargs='+', help='state-*.npz, all of them where the state came in parts')
    back.add_argument('--run-dir', required=True, help='the run folder to make')
    back.add_argument('--data-dir', default='data', help='where datasets lie')
    return parser


def main(args):
    {'export': _export, 'import': _import}[args.command](args)


def _export(args):
    config = flags_config(args)
    if config.ops == 'native':
        raise UsageError('--ops=native: XLA has no kernels for the native ops; leave the flag out')
    dataset = find_dataset(args.dataset, args.data_dir)
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
    for group, nets in (('nets', state.nets), ('averages', state.averages)):
        found.update({f'{group}/{name}/{i:03d}': variable
                      for name, net in nets.items() for i, variable in enumerate(net.variables)})
    found.update({f'optimizers/{name}/{i:03d}': variable for name, optimizer in state.optimizers.items()
                  for i, variable in enumerate(optimizer.variables())})
    return {**found, 'path_length': state.path_length, 'images': state.images}


def export_steps(folder, config, resolution):
    """Writes NAME.hlo per step, state.npz and constants.npz; returns the manifest's part that says how to run them."""
    state = TrainState(config, resolution)
    variables, instance = state_variables(state), None
    if state.fingerprinted:
        instance = Generator(config, resolution, modulated=False)
        variables.update({f'instance/{i:03d}': variable for i, variable in enumerate(instance.variables)})
    training = TrainingSteps(config, state, tf.distribute.get_strategy(), jit_compile=True)
    constants, steps = {}, {}
    for name, (function, arguments) in step_functions(training, instance).items():
        steps[name] = write_step(os.path.join(folder, f'{name}.hlo'), function, arguments, variables, constants)
    drawn = {key for name in ('initialize', 'bake') if name in steps for key in steps[name]['updates'].values()}
    np.savez_compressed(os.path.join(folder, STATE),
                        **{key: value.numpy() for key, value in variables.items() if key not in drawn})
    np.savez_compressed(os.path.join(folder, CONSTANTS), **constants)
    shapes = {key: [list(value.shape), value.dtype.name] for key, value in variables.items()}
    return {'steps': steps, 'variables': shapes,
            'phases': [[phase.name, phase.interval] for phase in training.phases]}


def step_functions(steps, instance):
    """{name: (tf.function, {argument: example})}: the phases, and what else is needed away from TensorFlow.

    generator_single is the generator's phase before the consistency ramp begins; average moves the averages;
    initialize draws the initial weights; generate and decode are the averaged model's, on uint8 images; bake makes the
    `instance` of one fingerprint, which draws uint8 images.
    """
    config, state = steps.config, steps.state
    size, count = state.nets['G'].resolution, config.batch_size
    latents, bits = tf.zeros([count, config.latent_dim]), tf.zeros([count, config.fingerprint_bits])
    images, seed, weight = tf.zeros([count, size, size, 3], tf.uint8), tf.zeros([2], tf.int32), tf.constant(0.0)
    generator = {'seed': seed, 'fingerprint_weight': weight}
    paired = {**generator, 'consistency_weight': weight}
    examples = {'generator': paired if state.fingerprinted else generator, 'path_length': {'seed': seed},
                'discriminator': {'reals': images, 'seed': seed}, 'r1': {'reals': images, 'seed': seed}}

    def single(seed, fingerprint_weight):
        return steps.functions['generator'].python_function(seed, fingerprint_weight, None)

    def generate(latents, fingerprints):
        return to_uint8(synthesize(config, state.averages, latents, fingerprints))

    functions = {phase.name: (steps.functions[phase.name], examples[phase.name]) for phase in steps.phases}
    if not state.fingerprinted:
        functions['generator'] = (_compiled(single), generator)
    elif not consistency_weight(config, 0):
        functions['generator_single'] = (_compiled(single), generator)
    functions['average'] = (steps.update_averages, {})
    functions['initialize'] = (_compiled(lambda seed: initialize(state, seed)), {'seed': seed})
    functions['generate'] = (_compiled(generate), {'latents': latents, 'fingerprints': bits})
    if state.fingerprinted:
        decode = _compiled(lambda images: state.nets['F'](TrainingSteps.as_float(images))[1])
        bake = _compiled(lambda code: bake_into(instance, state.averages['E'], state.averages['G'], code))
        functions.update(
            decode=(decode, {'images': images}), bake=(bake, {'fingerprint': bits[0]}),
            instance=(_compiled(lambda latents: to_uint8(instance(latents))), {'latents': latents}))
    return functions


def _compiled(function):
    return tf.function(function, jit_compile=True)


def initialize(state, seed):
    """Draws every weight that training.layers draws at random, from the same distribution, and copies the averages."""
    drawn = [(layer.constant, 1.0) if isinstance(layer, ConstantInput) else (layer.weight, 1 / layer.bias_gain)
             for net in state.nets.values() for layer in net.submodules
             if isinstance(layer, (EqualizedLayer, ConstantInput))]
    sizes = [math.prod(weight.shape) for weight, _ in drawn]
    values = tf.split(tf.random.stateless_normal([sum(sizes)], seed), sizes)  # one draw: XLA compiles each anew
    for (weight, deviation), value in zip(drawn, values):
        weight.assign(tf.reshape(value, weight.shape) * deviation)
    for name, average in state.averages.items():
        for target, source in zip(average.variables, state.nets[name].variables):
            target.assign(source)


def write_step(path, function, arguments, variables, constants):
    """Writes one compiled function's HloModuleProto.

    Returns {'arguments': names; 'parameters': [kind, index or key] per parameter of the module; 'results': names of its
    first outputs; 'updates': {output: key of the variable it is assigned to}}. What is captured and belongs to no
    variable is added to `constants`.
    """
    values = list(arguments.values())
    concrete = function.get_concrete_function(*values)
    ir = function.experimental_get_compiler_ir(*values)
    with open(path, 'wb') as file:
        file.write(ir(stage='hlo_serialized'))
    # The module's parameters stand in the order of the concrete function's inputs: the arguments, then the captured.
    keys = {id(variable.handle): key for key, variable in variables.items()}
    parameters = [['argument', i] for i in range(len(values))]
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
    return {'arguments': list(arguments), 'parameters': parameters, 'results': results,
            'updates': {output: key for output, (_, key) in updates.items()}}


def _import(args):
    manifest = read_json(os.path.join(args.package, MANIFEST))
    arrays = read_states(args.states, manifest['variables'])
    config = Config(**manifest['config'])
    state = TrainState(config, manifest['dataset']['shape'][0])
    variables = state_variables(state)
    whole = set(variables) <= set(arrays)
    missing = [key for key in variables if key.startswith(EVALUATION) and key not in arrays]
    if missing:
        raise UserError(f'{" ".join(args.states)}: {missing[0]} is missing; name every part of the state')
    for key, variable in variables.items():
        if key in arrays:
            variable.assign(arrays[key])
    kimg = int(arrays['images']) // 1000
    checkpoint = state.checkpoint() if whole else tf.train.Checkpoint(
        averages=state.averages, nets={'F': state.nets['F']} if state.fingerprinted else {}, images=state.images)
    dataset = find_dataset(manifest['dataset']['path'], args.data_dir)
    plan = Plan(manifest['preset'], config, args.run_dir, 0)
    with atomic_folder(args.run_dir) as folder:
        write_json(os.path.join(folder, OPTIONS), options_record(plan, dataset))
        tf.train.CheckpointManager(checkpoint, os.path.join(folder, SNAPSHOTS), 1,
                                   checkpoint_name='snapshot').save(checkpoint_number=kimg)
    print(f'{args.run_dir}: snapshot at {kimg} kimg' + ('' if whole else ', to measure and issue from, not to resume'))


def read_states(paths, variables):
    """{key: array} of the files together, each with the shape the manifest gives. Raises UserError where not."""
    arrays = {}
    for path in paths:
        try:
            with np.load(path) as file:
                arrays.update({key: file[key] for key in file.files})
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f'{path} is no state that hlo_run.py saved, or damaged ({error}); copy it again') from None
    for key, array in arrays.items():
        if key not in variables or list(array.shape) != variables[key][0]:
            raise UserError(f'{" ".join(paths)}: {key} {array.shape} is not of this package; '
                            'name the package the state was trained from')
    if 'images' not in arrays:
        raise UserError(f'{" ".join(paths)}: how many images were seen is missing; name every part of the state')
    return arrays


if __name__ == '__main__':
    cli.run(make_parser(), main)
