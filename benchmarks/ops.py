"""How fast the native ops are: against `ref`, against copying as many bytes, and against PyTorch.

    python -m benchmarks.ops                             # every shape of config-e at 128 and 256 and of quickstart
    python -m benchmarks.ops --config=quickstart
    python -m benchmarks.ops --torch=/path/to/python     # an interpreter that can import torch: five minutes more
"""
import json
import os
import statistics
import subprocess
import sys
import time

import tensorflow as tf

from benchmarks.ops_cases import BIAS, CONFIGS, RESAMPLING, TAPS, cases, traffic
from dnnlib import cli
from dnnlib.ops import native
from dnnlib.ops.fused_bias_act import fused_bias_act
from dnnlib.ops.upfirdn_2d import filter_kernel, upfirdn_2d
from dnnlib.util import UserError, progress

CHAIN = 4  # calls in one graph, one after the other, so that the cost of calling the graph does not count


def function_of(what):
    """The op as a function of impl and its inputs."""
    if what in RESAMPLING:
        return lambda impl, x: upfirdn_2d(x, filter_kernel(TAPS), impl=impl, **RESAMPLING[what])
    if what == BIAS:
        return lambda impl, x, bias: fused_bias_act(x, bias, impl=impl)
    return lambda impl, x, bias, scale, noise, strength: fused_bias_act(x, bias, scale, noise, strength, impl=impl)


def seconds(function, inputs, budget=0.25):
    """The time of one call of `function(*inputs)` inside a graph: the least, which other programs disturb the least."""
    @tf.function(autograph=False)
    def chain():
        seen = []  # one element of every result is returned: what nobody asks for is not computed
        for _ in range(CHAIN):
            with tf.control_dependencies(seen):
                x = tf.identity(inputs[0])  # a new node each time, so that the calls are not merged into one
            seen += [tf.reshape(y, [-1])[:1] for y in tf.nest.flatten(function(x, *inputs[1:])) if y is not None]
        return seen

    chain()
    chain()
    times, end = [], time.perf_counter() + budget
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        chain()
        times.append((time.perf_counter() - start) / CHAIN)
    return min(times)


def with_gradient(function):
    """The function and the gradient of every input but noise, for an upstream gradient that is at hand: [gradients]."""
    def run(x, *rest):
        watched = [x, *(t for t in rest if t.shape.rank != 4)]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            y = function(x, *rest)
        return tape.gradient(y, watched, output_gradients=y)
    return run


def measure(case):
    name, shape, extra = case
    function = function_of(name)
    inputs = [tf.random.stateless_normal(s, [0, i]) for i, s in enumerate([shape, *extra])]
    result = {'what': name, 'shape': shape}
    for key, moved, wrap in zip(('forward', 'both'), traffic(name, shape), (lambda f: f, with_gradient)):
        times = {impl: seconds(wrap(lambda *t, impl=impl: function(impl, *t)), inputs) for impl in ('ref', 'native')}
        times['copy'] = seconds(tf.negative, [tf.ones([moved // 8])])
        result[key] = {**times, 'bytes': moved}
    return result


def torch_times(python, rows):
    """Adds the best PyTorch formulation's times to the rows, measured by the other interpreter.

    Its threads wait asleep: spinning ones, OpenMP's default, make it up to fifty times slower beside other programs.
    """
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'ops_torch.py')
    request = json.dumps([{'what': row['what'], 'shape': row['shape']} for row in rows])
    ran = subprocess.run([python, script], input=request, text=True, stdout=subprocess.PIPE,
                         env={**os.environ, 'OMP_WAIT_POLICY': 'PASSIVE'})
    if ran.returncode:
        raise UserError(f'{python} could not run the PyTorch side; give an interpreter that can import torch')
    for row, times in zip(rows, json.loads(ran.stdout.splitlines()[-1])):
        for key in ('forward', 'both'):
            row[key]['torch'] = times[key]
            row[key]['torch_by'] = times[f'{key}_by']


def cells(times):
    """ref and native in ms, times faster than ref, share of the copy's bandwidth, GB/s, times faster than PyTorch."""
    own = times['native']
    torch = f'{times["torch"] / own:5.1f}x' if 'torch' in times else '      '
    return (f'{times["ref"] * 1e3:8.2f} {own * 1e3:8.2f} {times["ref"] / own:5.1f}x {times["copy"] / own:5.0%} '
            f'{times["bytes"] / own / 1e9:6.1f} {torch}')


def table(rows):
    head = f'{"ref ms":>8} {"native":>8} {"ratio":>6} {"copy":>5} {"GB/s":>6} {"torch":>6}'
    lines = [f'{"":<31} {"":<18} | {"forward":^44} | {"forward + backward":^44}',
             f'{"op":<31} {"x":<18} | {head} | {head}']
    lines += [f'{row["what"]:<31} {"x".join(map(str, row["shape"])):<18} | '
              f'{cells(row["forward"])} | {cells(row["both"])}' for row in rows]
    return '\n'.join(lines)


def summary(name, rows):
    """The smallest and the geometric mean of the ratios."""
    parts = []
    for key, title in (('forward', 'forward'), ('both', 'forward + backward')):
        ratios = [row[key]['ref'] / row[key]['native'] for row in rows]
        shares = [row[key]['copy'] / row[key]['native'] for row in rows]
        parts.append(f'{title} {statistics.geometric_mean(ratios):.1f}x ref (least {min(ratios):.1f}x), '
                     f'{statistics.geometric_mean(shares):.0%} of the copy (least {min(shares):.0%})')
    return f'{name}: ' + '; '.join(parts)


def main(args):
    native.resolve('native')
    tf.config.optimizer.set_experimental_options({'dependency_optimization': False})  # keeps the calls in order
    print(f'{os.cpu_count()} cores, TensorFlow {tf.__version__}; copy: the time in which TensorFlow reads and writes '
          'as many bytes as the op must, over the time of the native op')
    for name in [args.config] if args.config else CONFIGS:
        batch, sizes = CONFIGS[name]
        rows = [measure(case) for resolution, channels in progress(sizes)
                for case in cases(args.batch or batch, resolution, channels)]
        if args.torch:
            torch_times(args.torch, rows[:len(rows) // len(sizes)])  # the largest size: it compiles for each
        print(f'\n{name}, batch {args.batch or batch}\n{table(rows)}\n{summary(name, rows)}', flush=True)
        if args.json:
            with open(args.json, 'a') as file:
                file.write(json.dumps({'config': name, 'rows': rows}) + '\n')


if __name__ == '__main__':
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', choices=sorted(CONFIGS), help='only this one')
    parser.add_argument('--batch', type=int, help='images, instead of the configuration\'s')
    parser.add_argument('--torch', metavar='PYTHON', help='compare with the PyTorch of this interpreter')
    parser.add_argument('--json', metavar='FILE', help='append the times to this file')
    sys.exit(cli.run(parser, main))
