"""Every option of a training run, its presets, and how the two meet. One flag of run_training.py per field."""
import dataclasses
import math

from dnnlib import cli
from dnnlib.util import UsageError


def option(default, help_text, choices=None):
    """A dataclass field that carries its flag's help."""
    return dataclasses.field(default=default, metadata={'help': help_text, 'choices': choices})


@dataclasses.dataclass(frozen=True)
class Config:
    """The resolved options of a run; the defaults are the paper's (StyleGAN2 config E, fingerprinted)."""
    # Networks
    generator: str = option('fingerprinted', 'fingerprinted (the method) or stylegan2 (the plain baseline: mapped '
                            'latents, learned constant, no fingerprint)', ('fingerprinted', 'stylegan2'))
    latent_dim: int = option(512, 'size of the latent code z')
    fingerprint_bits: int = option(128, 'bits in a fingerprint, 8 to 512')
    embedding_dim: int = option(512, 'size of the fingerprint embedding w = E(c)')
    mapping_layers: int = option(8, 'dense layers in the encoder E')
    mapping_lrmul: float = option(0.01, 'learning rate multiplier of the encoder E')
    fmap_base: int = option(8192, 'feature maps at stage s: clip(fmap_base / 2^s, 1, fmap_max)')
    fmap_max: int = option(512, 'most feature maps in any layer')
    res_modulated_range: str = option('4-1024', 'resolutions whose convolutions the fingerprint modulates, LOW-HIGH')
    # Losses
    lambda_latent: float = option(1.0, 'weight of the latent reconstruction loss')
    lambda_fingerprint: float = option(2.0, 'weight of the fingerprint reconstruction loss')
    lambda_fingerprint_start: float = option(2.0, 'its weight before the ramp below')
    fingerprint_ramp: str = option('0-0', 'kimg over which that weight moves to --lambda-fingerprint, START-END')
    lambda_consistency: float = option(2.0, 'weight of the consistency loss between two fingerprints')
    consistency_ramp: str = option('0-0', 'kimg over which the consistency weight rises from 0, START-END')
    r1_gamma: float = option(100.0, 'R1 regularization weight')
    r1_interval: int = option(16, 'steps between R1 regularizations')
    path_length_weight: float = option(2.0, 'path length regularization weight, 0 for none')
    path_length_decay: float = option(0.01, 'decay of the running mean path length')
    path_length_interval: int = option(4, 'steps between path length regularizations')
    # Optimization
    learning_rate: float = option(0.002, 'Adam learning rate of all networks')
    adam_beta1: float = option(0.0, 'Adam beta1')
    adam_beta2: float = option(0.99, 'Adam beta2')
    adam_epsilon: float = option(1e-8, 'Adam epsilon')
    batch_size: int = option(32, 'images per step over all replicas')
    ema_kimg: float = option(10.0, 'half-life of the moving average of E and G, in kimg')
    seed: int = option(0, 'seed of initial weights, latents, fingerprints, noise and shuffling')
    # Schedule
    total_kimg: int = option(12000, 'length of the run in thousands of real images shown')
    tick_kimg: int = option(4, 'kimg between progress lines')
    image_snapshot_ticks: int = option(10, 'ticks between image grids')
    snapshot_ticks: int = option(50, 'ticks between snapshots')
    keep_snapshots: int = option(10, 'most recent snapshots to keep')
    metrics: str = option('bit_accuracy', 'metrics at each snapshot, comma-separated, or none')
    metric_images: int = option(1000, 'images each metric takes')
    inception: str = option('', 'frozen Inception graph for fid; empty: downloaded once and checked')
    ops: str = option('auto', 'implementation of upfirdn_2d and fused_bias_act', ('auto', 'ref', 'native'))
    deterministic: bool = option(True, 'bit-exact repeatability of a run (costs speed on GPUs)')


# What may differ between a run and its continuation: nothing that changes what a step computes.
RESUMABLE = ('total_kimg', 'tick_kimg', 'image_snapshot_ticks', 'snapshot_ticks', 'keep_snapshots', 'metrics',
             'metric_images', 'inception')

PRESETS = {
    'config-e': {},
    'stylegan2': dict(generator='stylegan2', metrics='none'),
    'quickstart': dict(
        latent_dim=64, fingerprint_bits=32, embedding_dim=128, mapping_layers=1, mapping_lrmul=1.0,
        fmap_base=512, fmap_max=64,
        lambda_latent=5.0, lambda_fingerprint=30.0, lambda_fingerprint_start=30.0, lambda_consistency=10.0,
        consistency_ramp='0-20', r1_gamma=10.0, path_length_weight=0.0,
        learning_rate=0.005, batch_size=16, ema_kimg=2.0,
        total_kimg=48, tick_kimg=2, image_snapshot_ticks=6, snapshot_ticks=6, metric_images=500),
}

PRESET_HELP = {
    'config-e': "the paper's: StyleGAN2 config E, 128 bits, days on two GPUs",
    'stylegan2': 'config E without fingerprints, the baseline of the paper\'s Table 1',
    'quickstart': 'small networks, 32 bits, minutes on a laptop; trains on the bundled digits',
}

# Datasets that a preset trains on where --dataset is not given.
PRESET_DATASETS = {'quickstart': 'digits'}


def parse_range(text, name):
    """Parses 'LOW-HIGH' into two ints. Raises UsageError."""
    low, dash, high = text.partition('-')
    if not (dash and low.isdigit() and high.isdigit() and int(low) <= int(high)):
        raise UsageError(f'--{name}={text}: expected LOW-HIGH, two whole numbers such as 4-128')
    return int(low), int(high)


def add_flags(parser):
    """Adds one flag per field of Config to an argparse parser or group of it; None where not given."""
    for field in dataclasses.fields(Config):
        kind = cli.boolean if isinstance(field.default, bool) else type(field.default)
        parser.add_argument(f'--{field.name.replace("_", "-")}', type=kind, choices=field.metadata['choices'],
                            default=None, help=f'{field.metadata["help"]} (config-e: {field.default})')


def flags_config(args):
    """The checked Config of parsed flags: `args.config` names the preset, every other flag given overrides it.
    Raises UsageError."""
    return make_config(args.config, {field.name: getattr(args, field.name) for field in dataclasses.fields(Config)
                                     if getattr(args, field.name) is not None})


def _is_power_of_two(value):
    return value > 0 and value & (value - 1) == 0


def make_config(preset, overrides):
    """A checked Config: the preset's values, then `overrides` (a dict). Raises UsageError."""
    config = Config(**{**PRESETS[preset], **overrides})
    check_config(config)
    return config


def check_config(config):
    """Raises UsageError for a value or combination that can't be trained."""
    def require(condition, name, remedy):
        if not condition:
            flag, value = name.replace('_', '-'), getattr(config, name)
            raise UsageError(f'--{flag}={value}: {remedy}')

    require(8 <= config.fingerprint_bits <= 512, 'fingerprint_bits', 'a fingerprint has 8 to 512 bits')
    for field in dataclasses.fields(config):
        if field.type is float or field.type == 'float':
            require(math.isfinite(getattr(config, field.name)), field.name, 'must be a finite number')
            require(getattr(config, field.name) >= 0, field.name, 'must not be negative')
    for name in ('latent_dim', 'embedding_dim', 'mapping_layers', 'fmap_base', 'fmap_max', 'r1_interval',
                 'path_length_interval', 'batch_size', 'total_kimg', 'tick_kimg', 'image_snapshot_ticks',
                 'snapshot_ticks', 'keep_snapshots', 'metric_images'):
        require(getattr(config, name) >= 1, name, 'must be at least 1')
    require(config.learning_rate > 0, 'learning_rate', 'must be positive')
    require(config.ema_kimg > 0, 'ema_kimg', 'must be positive')
    require(config.adam_beta1 < 1 and config.adam_beta2 < 1, 'adam_beta2', 'Adam betas must be below 1')
    require(0 <= config.seed < 2 ** 31, 'seed', 'must be from 0 to 2147483647')
    low, high = parse_range(config.res_modulated_range, 'res-modulated-range')
    require(_is_power_of_two(low) and _is_power_of_two(high), 'res_modulated_range', 'expected powers of two')
    parse_range(config.consistency_ramp, 'consistency-ramp')
    parse_range(config.fingerprint_ramp, 'fingerprint-ramp')
    require(config.tick_kimg * 1000 % config.batch_size == 0, 'tick_kimg',
            f'{config.tick_kimg * 1000} images are no whole number of batches of {config.batch_size}; '
            f'take a multiple of {config.batch_size // math.gcd(1000, config.batch_size)}')
    require(config.total_kimg % config.tick_kimg == 0, 'total_kimg',
            f'must be a multiple of --tick-kimg={config.tick_kimg}')


def check_resolution(resolution):
    """Raises UsageError unless a network can be built for the images' resolution."""
    if not (_is_power_of_two(resolution) and 16 <= resolution <= 1024):
        raise UsageError(f'images of resolution {resolution}: expected a power of two from 16 to 1024; '
                         'make the dataset anew with dataset_tool.py --resolution')


def feature_maps(config, stage):
    """nf(s) = clip(fmap_base / 2^s, 1, fmap_max): channels of the convolutions at resolution 2^(s+1)."""
    return min(max(config.fmap_base // 2 ** stage, 1), config.fmap_max)


def ramp(text, images):
    """How far along a ramp 'START-END' (kimg) a run is after `images` real images: 0 before, 1 after, linear within."""
    start, end = parse_range(text, 'ramp')
    return 1.0 if images >= end * 1000 else max(0.0, images - start * 1000) / ((end - start) * 1000)


def consistency_weight(config, images):
    """The consistency loss's weight after `images` real images: from 0 to lambda_consistency over its ramp."""
    return config.lambda_consistency * ramp(config.consistency_ramp, images)


def fingerprint_weight(config, images):
    """The fingerprint loss's weight after `images` real images: moves to lambda_fingerprint over its ramp."""
    moved = ramp(config.fingerprint_ramp, images)
    return config.lambda_fingerprint_start * (1 - moved) + config.lambda_fingerprint * moved
