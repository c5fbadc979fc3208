"""The costs of a run against closed forms, the files of a snapshot, and the paper's own run."""
import math

import tensorflow as tf

from helpers import networks, tiny_config
from models.methods import METHODS
from training.config import Config
from training.estimate import PAPER_STEP, cost_of, describe_cost, fixed_bytes, flops_of, phase_cost
from training.snapshot import Snapshot, list_snapshots


def counted(function, *arguments):
    """The operations of a function's graph that are counted."""
    return sum(map(flops_of, tf.function(function).get_concrete_function(*arguments).graph.get_operations()))


def test_operations_of_products():
    images, filters = tf.zeros([2, 9, 9, 3]), tf.zeros([3, 3, 3, 5])

    def convolve(images, filters):
        with tf.GradientTape() as tape:
            tape.watch([images, filters])
            y = tf.nn.conv2d(images, filters, strides=2, padding='VALID')
        return tape.gradient(y, [images, filters])

    # 2 · 4 · 4 values of 5 channels, each of 3 · 3 · 3 products: forward, and for either gradient.
    assert counted(convolve, images, filters) == 3 * 2 * (2 * 4 * 4 * 5) * 27
    assert counted(tf.matmul, tf.zeros([4, 6]), tf.zeros([6, 7])) == 2 * 4 * 6 * 7
    assert counted(lambda a, b: tf.matmul(a, b, transpose_a=True), tf.zeros([6, 4]), tf.zeros([6, 7])) == 2 * 4 * 6 * 7
    assert counted(lambda a, b: tf.einsum('yi,nij->nyj', a, b), tf.zeros([8, 3]), tf.zeros([2, 3, 5])) == 2 * 240
    assert counted(tf.nn.relu, images) == 0


def products(net, resolution):
    """{layer: multiplications of one image} of D, of its variables' shapes and the size of each layer's output."""
    found = {}
    for variable in net.trainable_variables:
        _, *layer, name = variable.name.split('/')
        if not name.startswith('weight'):
            continue
        side = int(layer[0].split('x')[0]) if 'x' in layer[0] else resolution
        halved = layer[-1] in ('conv1_down', 'skip')
        pixels = (side // 2 if halved else side) ** 2 if len(variable.shape) == 4 else 1
        found['/'.join(layer)] = pixels * math.prod(variable.shape)
    return found


def test_operations_of_a_phase():
    """R1 aside, D does each product three times, forward, for filters and for inputs, but for its first layer's."""
    config = tiny_config(lambda_consistency='10')
    nets = networks(config)
    phases = {phase.name: phase for phase in METHODS[config.method].phases(config)}
    cost = phase_cost(config, nets, phases['discriminator'], 16, 8)
    layers = products(nets['D'], 16)
    trained = 3 * sum(layers.values()) - layers['from_rgb']
    generated = counted(lambda z, c: nets['G'](z, nets['E'](c)), tf.zeros([8, 6]), tf.zeros([8, 8]))
    assert cost.flops == 2 * 16 * trained + generated
    parts = phase_cost(config, nets, phases['discriminator'], 16, 4)
    assert parts.flops == cost.flops and parts.gradients == cost.gradients
    assert 0.4 < parts.stored / cost.stored < 0.6


def test_lazy_phases_count_by_their_share_of_the_steps():
    options = dict(preset='stylegan2', method='stylegan2', mapping_layers=1, path_length_weight=0.0)
    whole, half, none = (cost_of(tiny_config(**options, r1_interval=interval), 16).flops for interval in (1, 2, 0))
    assert whole - half == half - none > 0


def test_the_fixed_part_is_what_a_snapshot_holds(run_dir):
    """But for its counters and the optimizers' settings."""
    (_, path), = list_snapshots(run_dir)
    held = sum(4 * math.prod(shape) for _, shape in tf.train.list_variables(path) if shape)
    scalars = sum(4 for name, shape in tf.train.list_variables(path) if not shape)
    snapshot = Snapshot(run_dir)
    nets = networks(snapshot.config)
    phases = snapshot.method.phases(snapshot.config)
    assert 0 <= held + scalars - fixed_bytes(snapshot.method, nets, phases) < 200


def test_the_papers_run():
    """Config E at 128: 6 days on two V100 by the paper's utilisation, which is that of this run."""
    text = describe_cost(Config(), 128, 30_000)
    assert '12,000,000 in 375,000 steps, 400 epochs of 30,000' in text
    assert 'G 26,618,269' in text and 'F 24,205,568' in text
    assert f'{PAPER_STEP / 1e12:.3g} TFLOP a step' in text
    assert 'V100 288, A100 232, H100 67.6' in text
