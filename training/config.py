"""Every option of a training run, declared once: default, help, bounds, and whether a resumed run may change it.

One flag of run_training.py per field. Imports no TensorFlow.
"""
import argparse
import dataclasses
import math
import operator
import os
from typing import Optional

from dnnlib import cli
from dnnlib.perturbations.table import check_names
from dnnlib.util import UsageError, read_json
from models.limits import check_division, check_parts
from models.presets import ADOPTS, METHOD_NAMES, PRESETS, UNUSED
from training.schedule import Range, Schedule

BOUNDS = {'least': ('at least', operator.ge), 'most': ('at most', operator.le), 'above': ('above', operator.gt),
          'below': ('below', operator.lt)}


def option(default, help_text, choices=None, least=None, most=None, above=None, below=None, may_change=False):
    """A dataclass field with its flag's help, the bounds of its value, and whether a continued run may change it."""
    metadata = {'help': help_text, 'choices': choices, 'may_change': may_change,
                'bounds': {'least': least, 'most': most, 'above': above, 'below': below}}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """The resolved options of a run; the defaults are the paper's (StyleGAN2 config E, fingerprinted)."""
    # Networks
    method: str = option(METHOD_NAMES[0], 'what is trained: fingerprinted; bound (marks bound to the picture); '
                         'adopted (marks for a finished generator); stylegan2 (the plain baseline, no fingerprint)',
                         METHOD_NAMES)
    latent_dim: int = option(512, 'size of the latent code z', least=1)
    fingerprint_bits: int = option(128, 'bits in a fingerprint, 8 to 512', least=8, most=512)
    embedding_dim: int = option(512, 'size of w, the fingerprint embedding or the mapped latent', least=1)
    mapping_layers: int = option(8, 'dense layers in the encoder or mapping network', least=1)
    mapping_lrmul: float = option(0.01, 'learning rate multiplier of these layers', above=0)
    fmap_base: int = option(8192, 'feature maps at a resolution: clip(2 fmap_base / resolution, 1, fmap_max)', least=1)
    fmap_max: int = option(512, 'most feature maps in any layer', least=1)
    res_modulated_range: Range = option(Range(4, 1024), 'resolutions whose convolutions are modulated, LOW-HIGH')
    input_bias: str = option('output', "bias of z's dense layer: one per output (16 a channel, as published), or one "
                             'per channel', ('output', 'channel'))
    clip_decoder: str = option('none', 'what the decoder sees of values outside [-1, 1]: all (none, as published), the '
                               'edge (clip), or the edge with a gradient that points inwards (straight_through)',
                               ('none', 'clip', 'straight_through'))
    embedding_gain: float = option(1.0, 'factor on the fingerprint embedding: a weaker modulation is read more easily',
                                   above=0)
    signed_codes: bool = option(False, 'fingerprints enter the encoder as -1 and 1 instead of 0 and 1')
    carrier: float = option(0.3, 'method bound: initial strength of the carriers that marks ride on', above=0)
    sign_map: int = option(6, 'methods bound and adopted: side of the map of signs that a picture gives its marks',
                           least=1, most=16)
    read_side: int = option(32, 'methods bound and adopted: pixels a side that the fingerprint is read at; larger '
                            'pictures are averaged down to it, a power of two', least=4)
    readout_units: int = option(256, "methods bound and adopted: width of the decoder's hidden layers", least=1)
    sign_frequency: float = option(3.0, 'method adopted: how fast the signs of a mark change with the content of its '
                                   'picture: more, and marks are harder to move to pictures that look alike; less, and '
                                   'they survive more', above=0)
    sign_components: int = option(24, 'method adopted: principal components of content that signs are made of: more, '
                                  'and more tells pictures apart; fewer, and signs survive more', least=1, most=100)
    key_bits: int = option(0, 'method adopted: how many first bits of a fingerprint choose the signs of its marks; who '
                           'opens an instance can forge the marks of those alone that have the same: of one user in '
                           '2 to the power of this', least=0, most=12)
    mark_psnr: float = option(33.0, "method adopted: strength of a user's marks in luma, as the PSNR in dB that they "
                              'alone would leave a picture at the size that is read', least=10, most=60)
    chroma_psnr: float = option(33.0, 'method adopted: likewise in chroma, which eyes and FID see least, and JPEG and '
                                'greyscale take', least=10, most=60)
    texture_masking: bool = option(False, 'method adopted: marks are stronger where a picture is busy and weaker where '
                                   'it is flat, which costs less FID at the same strength')
    content_filters: int = option(24, "method adopted: width of the convolutions that take a picture's content off "
                                  'what the decoder reads', least=1)
    # Losses
    lambda_latent: float = option(1.0, 'weight of the latent reconstruction loss', least=0)
    lambda_fingerprint: Schedule = option(Schedule.parse('2'), 'weight of the fingerprint reconstruction loss: a '
                                          'number, or 30:0-20:10, from 30 to 10 between 0 and 20 kimg', least=0)
    lambda_consistency: Schedule = option(Schedule.parse('2'), 'weight of the consistency loss between two '
                                          'fingerprints, written likewise', least=0)
    consistency_noise: str = option('independent', 'noise of the two images of a consistency pair: drawn for each '
                                    '(independent, as published), or the same (shared)', ('independent', 'shared'))
    decode_pair: bool = option(False, 'the decoder reads both images of a consistency pair, not the first '
                               'alone; method bound always does')
    style_mixing: float = option(0.9, 'method stylegan2: probability that a batch mixes the styles of two latents',
                                 least=0, most=1)
    mean_w_decay: float = option(0.995, 'method stylegan2: what a step keeps of the tracked mean w', least=0, below=1)
    lambda_sign: float = option(3.0, 'methods bound and adopted: weight of the sign map\'s reconstruction loss',
                               least=0)
    sign_teaching: Schedule = option(Schedule.parse('1:2-4:0'), 'methods bound and adopted: share of the true sign map '
                                     'in what the decoder reads with while it trains', least=0)
    warm_start_images: int = option(4000, 'methods bound and adopted: images that the decoder\'s first weights are '
                                    'fitted to, 0 for none', least=0)
    immunize: str = option('', 'perturbations of what the decoder reads while it trains, comma-separated: names of '
                           'dnnlib/perturbations/table.py, paper for the five of the paper, or all; empty for none')
    immunize_strength: Schedule = option(Schedule.parse('1'), 'their strength, up to 1; 0:0-8:1 ramps it in', least=0,
                                         most=1)
    r1_gamma: float = option(100.0, 'R1 regularization weight', least=0)
    r1_interval: int = option(16, 'steps between R1 regularizations, 0 for none', least=0)
    path_length_weight: float = option(2.0, 'path length regularization weight', least=0)
    path_length_decay: float = option(0.01, 'decay of the running mean path length', least=0, most=1)
    path_length_interval: int = option(4, 'steps between path length regularizations, 0 for none', least=0)
    # Optimization
    learning_rate: Schedule = option(Schedule.parse('0.002'), 'Adam learning rate of all networks: a number, or '
                                     '0.005:16-24:0.0005, which falls between 16 and 24 kimg', above=0)
    adam_beta1: float = option(0.0, 'Adam beta1', least=0, below=1)
    adam_beta2: float = option(0.99, 'Adam beta2', least=0, below=1)
    adam_epsilon: float = option(1e-8, 'Adam epsilon', least=0)
    batch_size: int = option(32, 'images per step over all replicas', least=1)
    batch_per_replica: int = option(0, 'images that a replica (a GPU) computes at once, a multiple of 4: its share of '
                                    'the batch goes through in parts, for less memory, and makes the same update; 0 '
                                    'for all at once', least=0, may_change=True)
    ema_kimg: float = option(10.0, 'half-life of the moving average of the networks, in kimg', above=0)
    seed: int = option(0, 'seed of initial weights, latents, fingerprints, noise and shuffling', least=0,
                       below=2 ** 31)
    init_from: str = option('', 'a run folder whose networks this run begins with, at its latest snapshot: a finished '
                            'run of --method=stylegan2 for --method=adopted, else a run of the same method',
                            may_change=True)
    # Schedule
    total_kimg: int = option(12000, 'length of the run in thousands of real images shown', least=1, may_change=True)
    tick_kimg: int = option(4, 'kimg between progress lines', least=1, may_change=True)
    image_snapshot_ticks: int = option(10, 'ticks between image grids', least=1, may_change=True)
    snapshot_ticks: int = option(50, 'ticks between snapshots', least=1, may_change=True)
    keep_snapshots: int = option(10, 'most recent snapshots to keep', least=1, may_change=True)
    metrics: str = option('bit_accuracy', 'metrics at each snapshot, comma-separated, or none', may_change=True)
    metric_images: int = option(1000, 'images each metric takes', least=1, may_change=True)
    inception: str = option('', 'frozen Inception graph for fid; empty: downloaded once and checked', may_change=True)
    impl: str = option('auto', 'implementation of upfirdn_2d and fused_bias_act', ('auto', 'ref', 'native'))
    tf32: bool = option(False, 'on GPUs from Ampere on, round the factors of convolutions to 10 bits: faster than '
                        'float32, which the paper\'s V100 computed with')
    deterministic: bool = option(True, 'bit-exact repeatability of a run (costs speed on GPUs)')


FIELDS = dataclasses.fields(Config)
NAMES = [field.name for field in FIELDS]
NETWORK_OPTIONS = NAMES[1:NAMES.index('lambda_latent')]  # of Config's first section, but for the method
OPTIONS = 'training_options.json'  # in a run folder
# What the options of some types are in JSON; a learning rate was a number before it could be a schedule.
STORED = {float: (float, int), Schedule: (Schedule, str, float, int), Range: (Range, str)}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run before it begins. preset: its name; run_dir: where it is written; num_gpus: None for all there are."""
    preset: str
    config: Config
    run_dir: str
    num_gpus: Optional[int]


def flag(name):
    """The flag of a field: 'batch_size' is set by '--batch-size'."""
    return '--' + name.replace('_', '-')


def _parser(field):
    """What turns the text of a field's flag into its value."""
    kind = type(field.default)
    if kind is bool:
        return cli.boolean
    if kind in (Schedule, Range):
        def parse(text):
            try:
                return kind.parse(text)
            except UsageError as error:
                raise argparse.ArgumentTypeError(str(error)) from None
        return parse
    return kind


def add_flags(parser):
    """Adds one flag per field of Config to an argparse parser or group of it; None if not given."""
    for field in FIELDS:
        parser.add_argument(flag(field.name), type=_parser(field), choices=field.metadata['choices'],
                            default=None, help=f'{field.metadata["help"]} (config-e: {field.default})')


def flags_config(args):
    """The checked Config of parsed flags: `args.config` names the preset, every other flag given overrides it.
    Raises UsageError, also for a flag that the method makes no use of."""
    given = {field.name: getattr(args, field.name) for field in FIELDS if getattr(args, field.name) is not None}
    config = make_config(args.config, {**inherited(given.get('init_from', '')), **given})
    for name in given:
        if name in UNUSED[config.method]:
            others = [f'--method={method}' for method in METHOD_NAMES if name not in UNUSED[method]]
            raise UsageError(f'{flag(name)}: --method={config.method} makes no use of it; leave the flag out, '
                             f'or take {" or ".join(others)}')
    return config


def check_initial(config):
    """Raises UsageError if the method is given to a finished generator and none is named."""
    if config.method in ADOPTS and not config.init_from:
        raise UsageError(f'--method={config.method} is given to a finished generator: name a run folder of '
                         f'--method={" or ".join(ADOPTS[config.method])} by --init-from')


def dataset_of(run_dir):
    """The dataset's folder of the run that another begins with; None if there is no run folder."""
    return read_json(os.path.join(run_dir, OPTIONS)).get('dataset', {}).get('path') if run_dir else None


def inherited(run_dir):
    """{option: value} of the networks that a run begins with: those of --init-from that its method makes use of."""
    if not run_dir:
        return {}
    path = os.path.join(run_dir, OPTIONS)
    if not os.path.exists(path):
        raise UsageError(f'--init-from={run_dir}: no training run is there ({path} is missing)')
    config = from_record(read_json(path).get('config', {}), path)
    return {name: getattr(config, name) for name in NETWORK_OPTIONS if name not in UNUSED[config.method]}


def make_config(preset, overrides):
    """A checked Config: the preset's values, then `overrides` (a dict, of values or their texts). Raises UsageError."""
    config = Config(**_typed({**PRESETS[preset].options, **overrides}))
    check_config(config)
    return config


def _typed(values):
    """{name: value}, Schedules and Ranges parsed if they are texts or numbers."""
    parsed = {field.name: type(field.default) for field in FIELDS if type(field.default) in (Schedule, Range)}
    return {name: parsed[name].parse(str(value)) if name in parsed and not isinstance(value, parsed[name]) else value
            for name, value in values.items()}


def to_record(config):
    """The options as JSON holds them: {name: value}."""
    values = {field.name: getattr(config, field.name) for field in FIELDS}
    return {name: str(value) if isinstance(value, (Schedule, Range)) else value for name, value in values.items()}


def from_record(record, path):
    """The Config of what `to_record` made, read from `path`. Raises UsageError if another version wrote it.

    An option that is newer than the record, and that the run's method makes no use of, has its default.
    """
    if not isinstance(record, dict):
        raise UsageError(f'{path} is damaged: its options are no JSON object')
    names = {field.name for field in FIELDS}
    unused = set(UNUSED.get(record.get('method'), ())) - set(record)
    strange = sorted(set(record) ^ (names - unused))
    if strange:
        raise UsageError(f'{path} was written by another version of this project (option {strange[0]}); '
                         'use that version for this run, or train it anew')
    for field in FIELDS:
        value, kind = record.get(field.name, field.default), type(field.default)
        if not isinstance(value, STORED.get(kind, (kind,))) or (isinstance(value, bool) and kind is not bool):
            raise UsageError(f'{path} is damaged: option {field.name} is {value!r}')
    return Config(**_typed(record))


def check_config(config):
    """Raises UsageError for a value or combination that can't be trained."""
    for field in FIELDS:
        value = getattr(config, field.name)
        for number in _numbers(value):
            _check_bounds(field, number, value)
    check_names(config.immunize)
    check_division(config.batch_size)
    check_parts(config.batch_per_replica, config.batch_size)
    if config.key_bits > config.fingerprint_bits:
        raise UsageError(f'--key-bits={config.key_bits}: they are the first of {config.fingerprint_bits} bits; take '
                         'fewer, or more --fingerprint-bits')
    if config.tick_kimg * 1000 % config.batch_size:
        whole = config.batch_size // math.gcd(1000, config.batch_size)
        raise UsageError(f'--tick-kimg={config.tick_kimg}: {config.tick_kimg * 1000} images are no whole number of '
                         f'batches of {config.batch_size}; take a multiple of {whole}')
    if config.total_kimg % config.tick_kimg:
        raise UsageError(f'--total-kimg={config.total_kimg}: must be a multiple of --tick-kimg={config.tick_kimg}')


def _numbers(value):
    """The numbers that a field's bounds are about."""
    if isinstance(value, Schedule):
        return [value.start, value.end]
    return [value] if isinstance(value, (int, float)) else []


def _check_bounds(field, number, value):
    bounds = field.metadata['bounds']
    if not math.isfinite(number):
        raise UsageError(f'{flag(field.name)}={value}: must be a finite number')
    for name, (words, holds) in BOUNDS.items():
        bound = bounds[name]
        if bound is not None and not holds(number, bound):
            raise UsageError(f'{flag(field.name)}={value}: must be {words} {bound}')
