"""The PyTorch side of benchmarks/ops.py, run by an interpreter that has PyTorch: JSON in, JSON out, no TensorFlow.

Every op is timed in several formulations and the fastest counts, forward and forward + backward each: depthwise
convolution in both memory formats, and sums of shifted slices or plain arithmetic fused by torch.compile.
"""
import json
import os
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.ops_cases import BIAS, RESAMPLING, TAPS, cases  # noqa: E402

FILTER = torch.tensor(TAPS, dtype=torch.float32) / sum(TAPS)


def depthwise(x, up, down, pad, gain):
    kernel = (torch.outer(FILTER, FILTER) * gain).to(x).expand(x.shape[1], 1, 4, 4)
    if up == 2:
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])
    return F.conv2d(F.pad(x, (pad[0], pad[1], pad[0], pad[1])), kernel, stride=down, groups=x.shape[1])


def slices(x, up, down, pad, gain):
    """Along one axis and then the other; by phases where it up-samples."""
    for axis in (2, 3):
        size = x.shape[axis]
        before, after = (1, 1) if up == 2 else pad
        x = F.pad(x, (0, 0, before, after) if axis == 2 else (before, after))

        def at(start, count, step=1, x=x, axis=axis):
            index = [slice(None)] * 4
            index[axis] = slice(start, start + (count - 1) * step + 1, step)
            return x[tuple(index)]

        if up == 2:
            a, b, c = at(0, size), at(1, size), at(2, size)
            x = torch.stack([a / 8 + b * 3 / 8, b * 3 / 8 + c / 8], axis + 1).flatten(axis, axis + 1) * gain ** 0.5
        else:
            count = (size + before + after - 4) // down + 1
            x = ((at(0, count, down) + at(3, count, down)) / 8
                 + (at(1, count, down) + at(2, count, down)) * 3 / 8) * gain ** 0.5
    return x


def bias_act(x, bias):
    return F.leaky_relu(x + bias[:, None, None], 0.2) * 2 ** 0.5


def modulated(x, bias, scale, noise, strength):
    return F.leaky_relu(x * scale[:, :, None, None] + noise * strength + bias[:, None, None], 0.2) * 2 ** 0.5


def formulations(what):
    """{name: function of the inputs} for one op of benchmarks/ops.py."""
    if what in RESAMPLING:
        how = RESAMPLING[what]
        return {'depthwise convolution': lambda x: depthwise(x, **how),
                'compiled slices': compiled(lambda x: slices(x, **how))}
    function = bias_act if what == BIAS else modulated
    return {'eager': function, 'compiled': compiled(function)}


def compiled(function):
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False)


def seconds(run, budget=0.25):
    for _ in range(3):
        run()
    times, end = [], time.perf_counter() + budget
    while len(times) < 10 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(what, shape):
    n, h, w, c = shape
    best = {}
    for layout in (torch.channels_last, torch.contiguous_format):
        x = torch.randn(n, c, h, w).to(memory_format=layout)
        (others,) = [others for name, _, others in cases(n, h, c) if name == what]
        extra = [torch.randn(size if len(size) < 4 else (n, 1, h, w)) for size in others]
        for name, function in formulations(what).items():
            inputs = [t.requires_grad_(t.ndim != 4 or t is x) for t in [x, *extra]]
            watched = [t for t in inputs if t.requires_grad]
            dy = torch.ones_like(function(*inputs))

            def forward(function=function, inputs=inputs):
                with torch.no_grad():
                    function(*inputs)

            def both(function=function, inputs=inputs, watched=watched, dy=dy):
                torch.autograd.grad(function(*inputs), watched, dy)

            for key, run in (('forward', forward), ('both', both)):
                took = seconds(run)
                if took < best.get(key, 1e9):
                    best[key], best[f'{key}_by'] = took, f'{name}, {str(layout).split(".")[-1]}'
    return best


if __name__ == '__main__':
    print(json.dumps([measure(row['what'], row['shape']) for row in json.load(sys.stdin)]))
