"""The CUDA kernels alone, without TensorFlow: right against float64, and timed beside PyTorch and beside a copy.

    python -m benchmarks.ops_cuda                    # on a GPU: needs nvcc and PyTorch with CUDA
    python -m benchmarks.ops_cuda --on-host          # the same on the processor, to rehearse: the times mean nothing

Every kernel is called through its plain C launcher (dnnlib/ops/native/launchers.h) on PyTorch's own tensors, in one
process with PyTorch's formulations of the same op. Exits with 1 where a result is wrong.
"""
import argparse
import ctypes
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.ops_cases import BIAS, CONFIGS, RESAMPLING, TAPS, cases, out_size, traffic

SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'dnnlib', 'ops', 'native')
POINTER = ctypes.c_void_p
TOLERANCES = {'float32': 1e-5, 'float16': 2e-3, 'bfloat16': 1e-2}  # of ‖own − float64‖ / ‖float64‖
TYPES = list(TOLERANCES)  # in the order of launchers.h
ALPHA, GAIN = 0.2, 2 ** 0.5
CHAIN = 20  # calls in a CUDA graph, so that the cost of a launch does not count


class Upfirdn2d(ctypes.Structure):
    """upfirdn_2d.h"""
    _fields_ = [*((name, ctypes.c_int64) for name in ('n', 'h', 'w', 'c', 'out_h', 'out_w')),
                *((name, ctypes.c_int) for name in ('up', 'down', 'pad_y', 'pad_x', 'kh', 'kw')),
                ('separable', ctypes.c_bool), ('kernel', POINTER)]


class FusedBiasAct(ctypes.Structure):
    """fused_bias_act.h"""
    _fields_ = [*((name, ctypes.c_int64) for name in ('n', 'pixels', 'c')),
                *((name, POINTER) for name in ('bias', 'scale', 'noise', 'strength')),
                ('noise_stride', ctypes.c_int64), ('alpha', ctypes.c_float), ('gain', ctypes.c_float)]


class Grad(ctypes.Structure):
    """fused_bias_act.h, FusedBiasActGrad"""
    _fields_ = [(name, POINTER) for name in ('dy', 'sign_source', 'dx', 'dbias', 'dscale', 'dstrength')]


class GradGrad(ctypes.Structure):
    """fused_bias_act.h, FusedBiasActGradGrad"""
    _fields_ = [(name, POINTER) for name in ('gdx', 'gdbias', 'gdscale', 'gdstrength', 'dy', 'sign_source', 'ddy',
                                             'dx', 'dscale')]


def build(folder, on_host=False, optimize='-O3'):
    """Builds the launchers into a shared library in `folder`, for this machine's GPUs or to run on the processor, and
    loads it."""
    target = ['-DDNNLIB_ON_HOST'] if on_host else ['-arch=native']
    path = os.path.join(folder, 'launchers.so')
    subprocess.run([shutil.which('nvcc') or '/usr/local/cuda/bin/nvcc', '-x', 'cu', '-std=c++17', optimize, *target,
                    '-shared', '-Xcompiler', '-fPIC', *sorted(glob.glob(f'{SOURCES}/*.cu.cc')), '-o', path],
                   check=True, capture_output=True)
    library = ctypes.CDLL(path)
    library.dnnlib_fused_bias_act_workspace.restype = ctypes.c_int64
    library.dnnlib_fused_bias_act_workspace.argtypes = [ctypes.c_int64] * 3
    library.dnnlib_cuda_message.restype = ctypes.c_char_p
    return library


class Launchers:
    """The launchers on PyTorch's tensors [N, H, W, C], contiguous."""

    def __init__(self, library, torch, device):
        self.library, self.torch, self.device = library, torch, device
        self.taps = torch.tensor(TAPS, dtype=torch.float32) / sum(TAPS)

    def call(self, name, x, *arguments):
        torch = self.torch
        stream = POINTER(torch.cuda.current_stream().cuda_stream) if self.device.type == 'cuda' else None
        code = getattr(self.library, name)(TYPES.index(str(x.dtype).removeprefix('torch.')), *arguments, stream)
        if code:
            raise RuntimeError(f'{name}: {self.library.dnnlib_cuda_message(code).decode()}')

    def upfirdn_2d(self, x, y, up, down, pad, gain):
        numbers = self.torch.cat([self.taps * gain, self.taps])  # read while the launcher runs, not by the kernel
        p = Upfirdn2d(*x.shape, *y.shape[1:3], up, down, pad[0], pad[0], 4, 4, True, numbers.data_ptr())
        self.call('dnnlib_upfirdn_2d_cuda', x, ctypes.byref(p), pointer(x), pointer(y))

    def parameters(self, x, bias, scale=None, noise=None, strength=None):
        n, height, width, channels = x.shape
        return FusedBiasAct(n, height * width, channels, *map(address, (bias, scale, noise, strength)),
                            height * width, ALPHA, GAIN)

    def workspace(self, x):
        size = self.library.dnnlib_fused_bias_act_workspace(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
        return self.torch.empty(size, dtype=self.torch.float32, device=self.device)

    def fused_bias_act(self, x, y, *others):
        self.call('dnnlib_fused_bias_act_cuda', x, ctypes.byref(self.parameters(x, *others)), pointer(x), pointer(y))

    def fused_bias_act_grad(self, x, others, workspace, dy, sign_source, dx, dbias, dscale=None,
                            dstrength=None):
        grad = Grad(*map(address, (dy, sign_source, dx, dbias, dscale, dstrength)))
        self.call('dnnlib_fused_bias_act_grad_cuda', x, ctypes.byref(self.parameters(x, *others)), ctypes.byref(grad),
                  pointer(workspace))


def address(tensor):
    return None if tensor is None else tensor.data_ptr()


def pointer(tensor):
    return POINTER(address(tensor))


def tensor_sets(moved, device):
    """How many sets of tensors, of `moved` bytes each, to take in turn so that together they exceed any cache."""
    return max(1, min(8, -(-2 ** 28 // moved))) if device.type == 'cuda' else 1


class Case:
    """One op at one size: `run(both)` calls the launchers, `wanted()` computes the same in float64.

    Attributes: results, {name: tensor} that `run(True)` writes, full of NaN before.
    """

    def __init__(self, launchers, what, shape, extra, dtype):
        torch, device = launchers.torch, launchers.device
        generator = torch.Generator(device).manual_seed(0)

        def draw(size):
            return torch.randn(size, generator=generator, device=device).to(dtype)

        def empty(size):
            return torch.full(size, torch.nan, dtype=dtype, device=device)

        self.launchers, self.what, self.shape, self.sets = launchers, what, shape, []
        out = shape
        if what in RESAMPLING:
            how = {key: RESAMPLING[what][key] for key in ('up', 'down', 'pad')}
            out = (shape[0], *(out_size(size, **how) for size in shape[1:3]), shape[3])
        moved = traffic(what, shape, dtype.itemsize)[1]
        for _ in range(tensor_sets(moved, device)):
            x, others = draw(shape), [draw(size) for size in extra]
            written = {'y': empty(out), 'dx': empty(shape)}
            # The order of the inputs is bias, scale, noise, strength; of the noise no gradient is asked.
            names = ('dbias', 'dscale', None, 'dstrength')
            written.update({name: empty(size) for name, size in zip(names, extra) if name})
            self.sets.append((x, others, draw(out), written, launchers.workspace(x) if extra else None))
        self.results = self.sets[0][3]

    def run(self, both, index=0):
        """Forward, and with `both` the gradient, on a set of tensors."""
        x, others, dy, written, workspace = self.sets[index % len(self.sets)]
        launchers = self.launchers
        if self.what in RESAMPLING:
            how = RESAMPLING[self.what]
            launchers.upfirdn_2d(x, written['y'], **how)
            if both:  # the gradient of upfirdn is upfirdn; this filter is symmetric
                launchers.upfirdn_2d(dy, written['dx'], how['down'], how['up'], (3 - how['pad'][0],), how['gain'])
            return
        launchers.fused_bias_act(x, written['y'], *others)
        if both:
            gradients = [written[name] for name in ('dbias', 'dscale', 'dstrength') if name in written]
            sign_source = x if len(others) > 1 else written['y']
            launchers.fused_bias_act_grad(x, others, workspace, dy, sign_source, written['dx'], *gradients)

    def formula(self, x, *others):
        """The op in PyTorch, of x [N, C, H, W], as benchmarks/ops_torch.py writes it."""
        from benchmarks import ops_torch
        if self.what in RESAMPLING:
            return ops_torch.depthwise(x, **RESAMPLING[self.what])
        return (ops_torch.bias_act if self.what == BIAS else ops_torch.modulated)(x, *others)

    def torch_inputs(self, index=0, dtype=None):
        """x as [N, C, H, W] in channels-last order and the other inputs, requiring gradients but for the noise."""
        x, others, dy, _, _ = self.sets[index % len(self.sets)]
        others = [t.permute(0, 3, 1, 2) if t.ndim == 4 else t for t in others]
        inputs = [t.detach().to(dtype or t.dtype).requires_grad_(i == 0 or t.ndim < 4)
                  for i, t in enumerate([x.permute(0, 3, 1, 2), *others])]
        return inputs, dy.permute(0, 3, 1, 2).to(dtype or dy.dtype)

    def wanted(self):
        """What `results` should hold, in float64."""
        torch = self.launchers.torch
        inputs, dy = self.torch_inputs(dtype=torch.float64)
        y = self.formula(*inputs)
        watched = [t for t in inputs if t.requires_grad]
        names = ['dx', *(name for name in ('dbias', 'dscale', 'dstrength') if name in self.results)]
        gradients = dict(zip(names, torch.autograd.grad(y, watched, dy)))
        return {name: t.detach().permute(0, 2, 3, 1) if t.ndim == 4 else t.detach()
                for name, t in {'y': y, **gradients}.items()}

    def errors(self):
        """{result: ‖own − float64‖ / ‖float64‖}; NaN where an element was not written.

        The noise strength's derivative, one sum over all pixels that may come out near 0, is measured against what a
        sum of as many terms amounts to when their signs are random: the root of the sum of their squares.
        """
        self.run(True)
        wanted = self.wanted()
        sizes = {name: value.norm() for name, value in wanted.items()}
        if 'dstrength' in wanted:
            _, scale, noise, _ = (t.double() for t in self.sets[0][1])
            sizes['dstrength'] = (wanted['dx'] / scale[:, None, None] * noise).norm()
        return {name: float((self.results[name].double() - value).norm() / sizes[name])
                for name, value in wanted.items()}


def seconds(torch, device, run, rounds=7):
    """The median time of run(index), of CHAIN calls in one CUDA graph; on a CPU, of one call."""
    if device.type != 'cuda':
        times = []
        for index in range(3):
            begun = time.perf_counter()
            run(index)
            times.append(time.perf_counter() - begun)
        return statistics.median(times)
    warm = torch.cuda.Stream()
    with torch.cuda.stream(warm):
        for index in range(8):
            run(index)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(CHAIN):
            run(index)
    times = []
    for _ in range(rounds + 1):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / CHAIN)
    return statistics.median(times[1:])


def copy_seconds(torch, device, moved):
    """The time of a copy that reads moved / 2 bytes and writes as many."""
    sets = [(torch.ones(moved // 8, device=device), torch.ones(moved // 8, device=device))
            for _ in range(tensor_sets(moved, device))]

    def run(index):
        source, target = sets[index % len(sets)]
        target.copy_(source)
    return seconds(torch, device, run)


def torch_seconds(case):
    """{forward, both}: the fastest of PyTorch's formulations."""
    from benchmarks import ops_torch
    torch, device, best = case.launchers.torch, case.launchers.device, {}
    inputs = [case.torch_inputs(index) for index in range(len(case.sets))]
    for function in ops_torch.formulations(case.what).values():
        def forward(index, function=function):
            with torch.no_grad():
                function(*inputs[index % len(inputs)][0])

        def both(index, function=function):
            given, dy = inputs[index % len(inputs)]
            torch.autograd.grad(function(*given), [t for t in given if t.requires_grad], dy)

        for key, run in (('forward', forward), ('both', both)):
            best[key] = min(best.get(key, 1e9), seconds(torch, device, run))
    return best


def measure(case, item, beside_torch):
    """One line of the table: {forward, both} each {native, copy, torch (seconds), bytes}."""
    torch, device = case.launchers.torch, case.launchers.device
    others = torch_seconds(case) if beside_torch else {}
    record = {}
    for key, moved in zip(('forward', 'both'), traffic(case.what, case.shape, item)):
        native = seconds(torch, device, lambda index, both=key == 'both': case.run(both, index))
        record[key] = {'native': native, 'copy': copy_seconds(torch, device, moved), 'bytes': moved,
                       **({'torch': others[key]} if others else {})}
    return record


def line(what, shape, errors, record):
    """The record as text."""
    cells = []
    for times in (record['forward'], record['both']):
        own = times['native']
        beside = f'{times["torch"] / own:6.1f}x' if 'torch' in times else '       '
        cells.append(f'{own * 1e6:9.1f} {times["bytes"] / own / 1e9:7.0f} {times["copy"] / own:5.0%} {beside}')
    return f'{what:<31} {"x".join(map(str, shape)):<18} {max(errors.values()):8.1e} | {" | ".join(cells)}'


def make_parser():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', choices=sorted(CONFIGS), default='config-e-128', help='whose shapes')
    parser.add_argument('--batch', type=int, default=32, help='images')
    parser.add_argument('--types', default='float32,float16,bfloat16', help='comma-separated')
    parser.add_argument('--without-torch', action='store_true', help="leave out PyTorch's times, which take minutes")
    parser.add_argument('--on-host', action='store_true', help='run the kernels on the processor')
    parser.add_argument('--json', help='append the records to this file')
    return parser


def main(args):
    import torch
    device = torch.device('cpu' if args.on_host else 'cuda')
    name = 'the processor' if args.on_host else torch.cuda.get_device_name()
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        launchers = Launchers(build(folder, args.on_host), torch, device)
        for dtype in args.types.split(','):
            print(f'\n{args.config}, batch {args.batch}, {dtype}, {name}, PyTorch {torch.__version__}\n'
                  f'{"op":<31} {"x":<18} {"error":>8} | {"forward µs":>9} {"GB/s":>7} {"copy":>5} {"torch":>7} | '
                  f'{"both µs":>9} {"GB/s":>7} {"copy":>5} {"torch":>7}', flush=True)
            for index, (resolution, channels) in enumerate(CONFIGS[args.config][1]):
                for what, shape, extra in cases(args.batch, resolution, channels):
                    case = Case(launchers, what, shape, extra, getattr(torch, dtype))
                    errors = case.errors()
                    # PyTorch at the largest size alone: it compiles for each.
                    record = measure(case, getattr(torch, dtype).itemsize, not args.without_torch and index == 0)
                    print(line(what, shape, errors, record), flush=True)
                    wrong += [f'{dtype} {what} {shape}: {key} {value:.1e}' for key, value in errors.items()
                              if not value <= TOLERANCES[dtype]]
                    if args.json:
                        with open(args.json, 'a') as file:
                            file.write(json.dumps({'op': what, 'shape': shape, 'type': dtype, 'device': name,
                                                   'errors': errors, **record}) + '\n')
    print('\n'.join(['WRONG', *wrong]) if wrong else '\nevery result agrees with float64')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main(make_parser().parse_args()))
