"""The shapes and parameters that the benchmarks of the native ops share. Imports no framework."""

TAPS = (1, 3, 3, 1)
# name: (batch, [(resolution, channels)]): DESIGN's nf for fmap_base 8192 (config-e) and 512 (quickstart)
CONFIGS = {
    'config-e-256': (4, [(256, 64)]),
    'config-e-128': (4, [(128, 128), (64, 256), (32, 512), (16, 512), (8, 512)]),
    'quickstart': (16, [(32, 64), (16, 64), (8, 64)]),
}
# The arguments of upfirdn_2d as the networks call it with the filter TAPS.
RESAMPLING = {
    'filter after up conv': dict(up=1, down=1, pad=(1, 1), gain=4.0),
    'filter before down conv': dict(up=1, down=1, pad=(2, 2), gain=1.0),
    'up-sample RGB': dict(up=2, down=1, pad=(2, 1), gain=4.0),
    'up-sample': dict(up=2, down=1, pad=(2, 1), gain=4.0),
    'down-sample': dict(up=1, down=2, pad=(1, 1), gain=1.0),
}
BIAS, MODULATED = 'bias, lrelu', 'demodulate, noise, bias, lrelu'


def cases(batch, resolution, channels):
    """[(op, shape of x, shapes of the other inputs)]; those of MODULATED are bias, scale, noise, noise strength."""
    half = resolution // 2
    x = (batch, resolution, resolution, channels)
    shapes = {'filter after up conv': (batch, resolution + 1, resolution + 1, channels), 'filter before down conv': x,
              'up-sample RGB': (batch, half, half, 3), 'up-sample': (batch, half, half, channels), 'down-sample': x}
    return [*((what, shape, []) for what, shape in shapes.items()), (BIAS, x, [(channels,)]),
            (MODULATED, x, [(channels,), (batch, channels), (batch, resolution, resolution, 1), ()])]


def out_size(size, up, down, pad):
    """Pixels along an axis that upfirdn_2d makes of `size`."""
    return (size * up + sum(pad) - len(TAPS)) // down + 1


def traffic(what, shape, item=4):
    """Bytes that must move: forward (read x, write y), and with the gradient (read dy and what is kept, write dx)."""
    n, height, width, channels = shape
    x = y = item * n * height * width * channels
    if what in RESAMPLING:
        how = {key: RESAMPLING[what][key] for key in ('up', 'down', 'pad')}
        y = item * n * out_size(height, **how) * out_size(width, **how) * channels
    return x + y, (x + y) * 2 + (x if what not in RESAMPLING else 0)
