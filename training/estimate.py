"""What a run would cost: operations, hours, memory of a card, disk; counted in the graphs of its phases.

A step's multiplications and additions are those of its convolutions and matrix products; everything else waits for
memory and is in the utilisation: the share of a card's float32 peak that a run of these networks reaches. The paper's
own run gives it: config-e at 128x128, 12,000 kimg, 6 days on two V100 (arXiv 2012.08726).
"""
import dataclasses
import math

import tensorflow as tf

from models.methods import METHODS
from models.sampling import BatchPart

PRODUCTS = {'Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter', 'MatMul', 'Einsum'}
ALIASES = {'Identity', 'Reshape', 'Squeeze', 'ExpandDims', 'StopGradient'}  # another name for the same memory
FLOAT = 4  # bytes

# Float32 operations a second, without TF32, by NVIDIA's data sheets of the SXM cards.
PEAKS = {'V100': 15.7e12, 'A100': 19.5e12, 'H100': 66.9e12}
PAPER_STEP = 14.226e12  # operations of a step of config-e at 128x128
PAPER_STEPS, PAPER_SECONDS, PAPER_CARDS = 12_000_000 // 32, 6 * 24 * 3600, 2
UTILISATION = PAPER_STEP * PAPER_STEPS / (PAPER_SECONDS * PAPER_CARDS * PEAKS['V100'])
PAPER_EPOCHS = 400
GIB, HOUR = 2 ** 30, 3600


@dataclasses.dataclass(frozen=True)
class PhaseCost:
    """flops: of one run of the phase, over the whole batch. stored: bytes that the forward pass of one part keeps for
    the backward pass. gradients: bytes of the gradients of the networks that it trains."""
    flops: int
    stored: int
    gradients: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """parameters: {network: number of trainable ones}. flops: per step, lazy phases by their share of the steps.
    fixed: bytes of networks, averages and optimizer slots, which a snapshot holds as well. working: bytes at most of
    activations and gradients, beside these."""
    parameters: dict
    flops: float
    fixed: int
    working: int


def describe_cost(config, resolution, train_images, replicas=1):
    """What a run would take, as lines of text: images, operations, hours, memory, disk.

    Args:
        config: training.config.Config.
        resolution: of the images. train_images: how many there are to train on.
        replicas: over which the batch is divided.
    """
    cost, images = cost_of(config, resolution, replicas), config.total_kimg * 1000
    steps, published = images // config.batch_size, PAPER_EPOCHS * train_images // 1000
    hours = {name: cost.flops * steps / (UTILISATION * peak * HOUR) for name, peak in PEAKS.items()}
    parts = config.batch_per_replica or config.batch_size // replicas
    rows = {
        'images': f'{images:,} in {steps:,} steps, {images / train_images:.0f} epochs of {train_images:,} at '
                  f'{resolution}x{resolution}; the paper\'s {PAPER_EPOCHS} epochs are --total-kimg={published}',
        'parameters': ', '.join(f'{name} {count:,}' for name, count in cost.parameters.items()),
        'operations': f'{cost.flops / 1e12:.3g} TFLOP a step in convolutions and matrix products, lazy phases by their '
                      'share of the steps',
        'hours on one card': ', '.join(f'{name} {value:.3g}' for name, value in hours.items()),
        'assumed': f'{UTILISATION:.1%} of the float32 peak ({_peaks()}): what 6 days on two V100 were for the paper\'s '
                   'run; nothing was measured here, and TF32 is not counted',
        'memory of a card': f'{(cost.fixed + cost.working) / GIB:.2f} GiB or more: networks, averages and optimizers '
                            f'{cost.fixed / GIB:.2f}, activations and gradients of {parts} images at once '
                            f'{cost.working / GIB:.2f} (--batch-per-replica)',
        'disk': f'{config.keep_snapshots * cost.fixed / GIB:.2f} GiB: {config.keep_snapshots} snapshots of '
                f'{cost.fixed / GIB:.2f} (--keep-snapshots), and one more while it is written'}
    return '\n'.join(f'  {name:24}{text}' for name, text in rows.items())


def _peaks():
    return ', '.join(f'{name} {peak / 1e12:g}' for name, peak in PEAKS.items()) + ' TFLOP/s'


def cost_of(config, resolution, replicas=1):
    """The Cost of training on images of a resolution; memory is that of one replica."""
    method = METHODS[config.method]
    config = dataclasses.replace(config, impl='ref')  # the ops of which a graph can be counted
    nets = method.networks(config, resolution)
    length = config.batch_per_replica or config.batch_size // replicas
    flops, working, phases = 0.0, 0, method.phases(config)
    for phase in phases:
        cost = phase_cost(config, nets, phase, resolution, length)
        flops += cost.flops / phase.interval
        # A sum of gradients is kept while the next part's are computed.
        copies = 2 if length * replicas < config.batch_size else 1
        working = max(working, cost.stored + copies * cost.gradients)
    parameters = {name: _count(net.trainable_variables) for name, net in nets.items() if net.trainable_variables}
    return Cost(parameters, flops, fixed_bytes(method, nets, phases), working)


def fixed_bytes(method, nets, phases):
    """Bytes of a method's networks, their averages and Adam's two slots per parameter that a phase trains."""
    trained = {name for phase in phases for name in phase.trains}
    numbers = sum(_count(net.variables) for net in nets.values())
    numbers += 2 * sum(_count(nets[name].trainable_variables) for name in trained)
    return FLOAT * (numbers + sum(_count(nets[name].variables) for name in method.AVERAGED))


def _count(variables):
    return sum(math.prod(variable.shape) for variable in variables)


def phase_cost(config, nets, phase, resolution, length):
    """The PhaseCost of a models.phase.Phase whose batch goes through in parts of `length` images."""
    parts, marks = config.batch_size // length, []

    @tf.function(autograph=False)
    def part():
        batch, tracked = None, ()
        if phase.sample:
            count = max(phase.num_samples // parts, 1)
            batch = phase.sample(nets, tf.zeros([2], tf.int32), BatchPart(count, 0, count))
        if phase.measure:
            tracked = phase.track(nets, phase.measure(nets, batch))
        reals = tf.zeros([length, resolution, resolution, 3], tf.uint8)
        taken = [reals if name == 'reals' else tf.ones([]) for name in phase.takes]
        variables = {name: nets[name].trainable_variables for name in phase.trains}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            loss, statistics = phase.loss(nets, batch, *tracked, *taken)
        marks.append(len(tf.compat.v1.get_default_graph().get_operations()))
        return statistics, tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    graph = part.get_concrete_function().graph
    forward = set(graph.get_operations()[:marks[-1]])
    needed = _needed(graph)
    return PhaseCost(parts * sum(map(flops_of, needed)), _stored(forward, needed),
                     FLOAT * sum(_count(nets[name].trainable_variables) for name in phase.trains))


def _needed(graph):
    """The operations that a function's results depend on, and those that change a variable."""
    open_ones = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    found = set()
    while open_ones:
        op = open_ones.pop()
        if op not in found:
            found.add(op)
            open_ones += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return found


def _stored(forward, needed):
    """Bytes of what the forward operations made and the others use, each piece of memory once."""
    made = {_source(tensor).ref() for op in needed - forward for tensor in op.inputs if tensor.op in forward}
    return sum(FLOAT * math.prod(made_by.deref().shape) for made_by in made
               if made_by.deref().dtype == tf.float32 and made_by.deref().op.type != 'ReadVariableOp')


def _source(tensor):
    """The tensor whose memory this one is."""
    while tensor.op.type in ALIASES:
        tensor = tensor.op.inputs[0]
    return tensor


def flops_of(op):
    """Multiplications and additions of an operation, 0 unless it is a convolution or a matrix product."""
    if op.type not in PRODUCTS:
        return 0
    shapes = [tensor.shape for tensor in op.inputs]
    out = op.outputs[0].shape
    if op.type == 'Conv2D':                       # (images, filters): a filter's size for each value that comes out
        terms = math.prod(out) * math.prod(shapes[1][:3])
    elif op.type == 'Conv2DBackpropInput':        # (sizes, filters, gradient of the output)
        terms = math.prod(shapes[2]) * math.prod(shapes[1][:3])
    elif op.type == 'Conv2DBackpropFilter':       # (images, sizes, gradient of the output)
        terms = math.prod(shapes[2]) * math.prod(out[:3])
    elif op.type == 'MatMul':
        terms = math.prod(out) * shapes[0][0 if op.get_attr('transpose_a') else 1]
    else:                                         # Einsum: 'ij,jk->ik' takes a product for each value of i, j and k
        letters, _ = op.get_attr('equation').decode().split('->')
        terms = math.prod(dict(zip(letters.replace(',', ''), [size for shape in shapes for size in shape])).values())
    return 2 * terms
