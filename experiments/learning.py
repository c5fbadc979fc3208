"""What makes fingerprints learned fast: an ablation, one factor at a time, as a table and a plot.

    python -m experiments.learning --config=quickstart --dataset=digits --seeds=0,1,2 --inception=GRAPH
    python -m experiments.learning --config=adopted --init-from=PLAIN --dataset=DATASET --variants=winner --total-kimg=8

Each variant is the preset with other options, a run folder of its own in OUT; the paper's settings are tried on
networks of the preset's sizes, or of those of the generator that --init-from names. The same command again resumes,
another adds its rows. OUT gets learning.jsonl (a line per run), learning.md and learning.png.
"""
import dataclasses
import json
import os

import numpy as np
from PIL import Image, ImageDraw

from datasets.sources import find_dataset
from dnnlib import cli
from dnnlib.util import UsageError, UserError, append_json_line, atomic_file, make_folder, read_json_lines
from metrics.base import Options, run_metric
from models.presets import ADOPTS, PRESETS
from training.config import FIELDS, Plan, check_initial, inherited, make_config
from training.distribution import resolve_gpus
from training.loop import METRICS, train
from training.snapshot import Snapshot
from training.ticks import STATS

GOAL = 0.9         # the bit accuracy whose kimg the table gives
FID_IMAGES = 2000
FORGED_IMAGES = 400

# The same for all variants.
CADENCE = dict(snapshot_ticks=1, image_snapshot_ticks=4, keep_snapshots=1, metrics='bit_accuracy')

SIZES = ('latent_dim', 'fingerprint_bits', 'embedding_dim', 'fmap_base', 'fmap_max', 'read_side', 'readout_units')
# The settings of Yu et al. 2022 (arXiv 2012.08726), which are the defaults, on networks that are smaller.
PAPER = {field.name: field.default for field in FIELDS
         if not field.metadata['may_change'] and field.name not in (*SIZES, 'seed', 'impl')}

# {variant: options in place of the preset's}: from the paper's settings up.
PAPER_VARIANTS = {
    'paper': PAPER,
    'paper, one mapping layer': {**PAPER, 'mapping_layers': 1, 'mapping_lrmul': 1.0},
    'paper, learning rate 0.005': {**PAPER, 'learning_rate': '0.005'},
    'paper, fingerprint weight 30': {**PAPER, 'lambda_fingerprint': '30'},
    'paper, R1 weight 2': {**PAPER, 'r1_gamma': 2.0},
    'paper, batch 8': {**PAPER, 'batch_size': 8},
    'paper, codes of -1 and 1': {**PAPER, 'signed_codes': True},
    'paper, embedding gain 0.3': {**PAPER, 'embedding_gain': 0.3},
}
# From the winner down, by its method.
WINNER_VARIANTS = {
    'bound': {
        'winner': {},
        'winner, no sign maps': {'method': 'fingerprinted'},
        'winner, no sign loss': {'lambda_sign': 0.0},
        'winner, no sign teaching': {'sign_teaching': '0'},
        'winner, weak carriers': {'carrier': 0.1},
        'winner, no warm start': {'warm_start_images': 0},
        'winner, embedding gain 1': {'embedding_gain': 1.0},
        'winner, codes of 0 and 1': {'signed_codes': False},
        'winner, batch 16': {'batch_size': 16},
        'winner, learning rate 0.002': {'learning_rate': '0.002'},
        'winner, no consistency': {'lambda_consistency': '0'},
    },
    'adopted': {
        'winner': {},
        'winner, no warm start': {'warm_start_images': 0},
        'winner, no sign loss': {'lambda_sign': 0.0},
        'winner, no sign teaching': {'sign_teaching': '0'},
        'winner, one key': {'key_bits': 0},
        'winner, one sign for the picture': {'sign_map': 1},
        'winner, signs of all components': {'sign_components': 100},
        'winner, slow signs': {'sign_frequency': 1.0},
        'winner, content filter 4 wide': {'content_filters': 4},
        'winner, luma alone': {'chroma_psnr': 60.0},
        'winner, 6 dB weaker': {'mark_psnr': 41.0, 'chroma_psnr': 38.0},
        'winner, batch 32': {'batch_size': 32},
        'winner, learning rate 0.002': {'learning_rate': '0.002'},
        'winner, Adam beta1 0': {'adam_beta1': 0.0},
    },
}

COLUMNS = {'bit_accuracy': '{:.3f}', 'fid': '{:.2f}', 'forged': '{:.1%}', 'psnr': '{:.1f}', 'kimg_to_goal': '{}',
           'seconds': '{:.0f}'}
HEAD = ['variant', 'seed', 'kimg', 'bit accuracy (PNG)', 'FID', 'named alice, 100 pictures, 1e-3',
        'PSNR between users, dB', f'kimg to {GOAL}', 'training, s']

WIDTH, HEIGHT, LEFT, TOP, LEGEND = 640, 400, 48, 16, 240  # pixels of the plot, its margins, and its legend
COLOURS = ('#1f77b4', '#ff7f0e', '#2ca02c', '#d62728', '#9467bd', '#8c564b', '#e377c2', '#7f7f7f', '#bcbd22',
           '#17becf')


WINNERS = [name for name, preset in PRESETS.items() if preset.options.get('method') in WINNER_VARIANTS]


def variants_of(preset):
    """{variant: options in place of the preset's}."""
    return {**PAPER_VARIANTS, **WINNER_VARIANTS[PRESETS[preset].options['method']]}


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='experiments/learning.py', description=__doc__.split('\n')[0])
    parser.add_argument('--config', choices=WINNERS, default='quickstart', help='preset of the winner')
    parser.add_argument('--dataset', default='digits', help='a name under --data-dir or a folder')
    parser.add_argument('--data-dir', default='data', help='where datasets lie')
    parser.add_argument('--init-from', default='', help='with --config=adopted: the run whose generator is marked')
    parser.add_argument('--variants', help='names, separated by semicolons (default: all). '
                        + '. '.join(f'--config={preset}: {"; ".join(variants_of(preset))}' for preset in WINNERS))
    parser.add_argument('--fingerprint-bits', type=int, help="bits of all variants (default: the preset's)")
    parser.add_argument('--seeds', default='0', help='comma-separated; each variant is trained with each')
    parser.add_argument('--total-kimg', type=int, default=48, help='length of each run')
    parser.add_argument('--inception', help='frozen Inception graph for FID (default: no FID)')
    parser.add_argument('--fid-images', type=int, default=FID_IMAGES, help='images for FID')
    parser.add_argument('--num-gpus', type=int, help='GPUs to use; 0 is the CPU (default: all there are)')
    parser.add_argument('--out', help='folder of all runs (default: results/learning-DATASET-CONFIG)')
    return parser


def chosen(preset, variants, seeds):
    """[(variant, seed)] of the two flags' texts. Raises UsageError for a name or number that makes no sense."""
    there = variants_of(preset)
    names = variants.split(';') if variants else list(there)
    names = [name.strip() for name in names]
    for name in names:
        if name not in there:
            raise UsageError(f'--config={preset} has no variant {name!r}; choose from {"; ".join(there)}')
    try:
        return [(name, int(seed)) for name in names for seed in seeds.split(',')]
    except ValueError:
        raise UsageError(f'--seeds={seeds}: must be whole numbers separated by commas, 0,1,2 for example') from None


def make_plan(args, variant, seed, out):
    """The Plan of one run of parsed flags. Raises UsageError if its options can't be trained."""
    preset, changes = PRESETS[args.config].options, variants_of(args.config)[variant]
    tick_kimg = 2 if {**preset, **changes}['batch_size'] <= 16 else 4  # whole batches
    options = {**preset, **inherited(args.init_from), **CADENCE, 'tick_kimg': tick_kimg, 'seed': seed,
               'total_kimg': args.total_kimg, **changes}
    if args.fingerprint_bits is not None:
        options['fingerprint_bits'] = args.fingerprint_bits
    if options['method'] in ADOPTS:
        options['init_from'] = args.init_from
    folder = variant.replace(', ', '-').replace(' ', '_')
    config = make_config(args.config, options)
    check_initial(config)
    return Plan(args.config, config, os.path.join(out, f'{folder}-{seed}'), args.num_gpus)


def learn(variant, plan, dataset, fid_options):
    """Trains a variant, from where it is, measures forgery, and FID unless its Options are None, and returns its row.

    A run that can't go on, because of a NaN say, is a result too: its row says why in 'stopped'.
    """
    stopped = None
    try:
        train(plan, dataset)
        measure_last(plan.run_dir, 'forgery', None, Options(num_images=FORGED_IMAGES))
        if fid_options:
            measure_last(plan.run_dir, 'fid', dataset, fid_options)
    except UserError as error:
        stopped = str(error)
    return {'variant': variant, 'seed': plan.config.seed, 'preset': plan.preset, 'run': plan.run_dir,
            'adopted_kimg': adopted_kimg(plan.config.init_from), 'stopped': stopped, **results(plan.run_dir)}


def adopted_kimg(run_dir):
    """How long the generator was trained that a run begins with; None if it begins with none."""
    return Snapshot(run_dir).kimg if run_dir else None


def measure_last(run_dir, name, dataset, options):
    """Adds a metric of the last snapshot to metrics.jsonl, if it is not there."""
    path, snapshot = os.path.join(run_dir, METRICS), Snapshot(run_dir)
    if not any(record['metric'].startswith(name) and record['kimg'] == snapshot.kimg
               for record in read_json_lines(path)):
        append_json_line(path, {'kimg': snapshot.kimg, **run_metric(name, snapshot.model(), dataset, options)})


def results(run_dir):
    """What a run's metrics.jsonl and stats.jsonl say; None for what was not measured or not reached.

    kimg, bit_accuracy (PNG), fid, forged (value of the metric forgery), psnr (dB, between users): the last measured.
    kimg_to_goal: of the first snapshot with a bit accuracy of GOAL. seconds: of training, without metrics.
    curve: [kimg, bit accuracy] of each snapshot.
    """
    records = read_json_lines(os.path.join(run_dir, METRICS))
    last = {'fid' if record['metric'].startswith('fid') else record['metric']: record for record in records}
    curve = [[record['kimg'], record['value']] for record in records if record['metric'] == 'bit_accuracy']
    values = {name: last[metric]['value'] if metric in last else None
              for name, metric in (('bit_accuracy', 'bit_accuracy'), ('fid', 'fid'), ('forged', 'forgery'))}
    return {'kimg': curve[-1][0] if curve else None, **values,
            'psnr': last['forgery']['between_users']['psnr'] if 'forgery' in last else None,
            'kimg_to_goal': next((kimg for kimg, value in curve if value >= GOAL), None),
            'seconds': training_seconds(read_json_lines(os.path.join(run_dir, STATS))), 'curve': curve}


def training_seconds(ticks):
    """The time that a run's ticks took, from the records of stats.jsonl."""
    kimg = np.array([0] + [tick['kimg'] for tick in ticks], np.float64)
    return float(sum(1000 * np.diff(kimg) / [tick['images_per_second'] for tick in ticks])) if ticks else None


def table(rows):
    """The rows as Markdown; a dash for what was not measured or not reached."""
    lines = [HEAD, ['---'] * len(HEAD)]
    for row in rows:
        cells = ['–' if row[name] is None else form.format(row[name]) for name, form in COLUMNS.items()]
        kimg = '–' if row['kimg'] is None else str(row['kimg'])
        if row['adopted_kimg'] is not None:
            kimg = f'{row["adopted_kimg"]} + {kimg}'
        lines.append([row['variant'], str(row['seed']), kimg + (' (stopped)' if row['stopped'] else ''), *cells])
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def plot(rows):
    """Bit accuracy, 0.5 to 1, over kimg: a line for each run, a colour for each variant. A Pillow image."""
    variants = list(dict.fromkeys(row['variant'] for row in rows))
    longest = max([kimg for row in rows for kimg, _ in row['curve']], default=1)
    height = max(HEIGHT, TOP + 16 * len(variants)) + 32
    canvas = Image.new('RGB', (LEFT + WIDTH + LEGEND, height), 'white')
    pen = ImageDraw.Draw(canvas)
    for tenth in range(5, 11):
        _, y = place(0, tenth / 10, longest)
        pen.line([(LEFT, y), (LEFT + WIDTH, y)], fill='#dddddd')
        pen.text((LEFT - 28, y - 6), f'{tenth / 10:.1f}', fill='black')
    for quarter in range(5):
        x, y = place(longest * quarter / 4, 0.5, longest)
        pen.text((x - 8, y + 4), f'{longest * quarter / 4:g}', fill='black')
    pen.text((LEFT + WIDTH // 2, HEIGHT + 14), 'kimg', fill='black')
    for number, variant in enumerate(variants):
        colour = COLOURS[number % len(COLOURS)]
        dots = number >= len(COLOURS)  # the second round of colours
        for row in rows:
            if row['variant'] == variant:
                _draw_curve(pen, [place(kimg, value, longest) for kimg, value in row['curve']], colour, dots)
        top = TOP + 16 * number
        _draw_curve(pen, [(LEFT + WIDTH + 12, top + 6), (LEFT + WIDTH + 32, top + 6)], colour, dots)
        pen.text((LEFT + WIDTH + 40, top), variant, fill='black')
    return canvas


def place(kimg, accuracy, longest):
    """Where in the plot a point lies, in pixels (x, y); below 0.5 it lies on the lower edge."""
    return (round(LEFT + WIDTH * kimg / longest), round(TOP + (HEIGHT - TOP) * (1 - max(accuracy, 0.5)) / 0.5))


def _draw_curve(pen, points, colour, dots):
    pen.line(points, fill=colour, width=2)
    for x, y in points if dots or len(points) == 1 else []:
        pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)


def write_report(out, rows):
    """Writes learning.jsonl, learning.md and learning.png, each whole or not at all."""
    with atomic_file(os.path.join(out, 'learning.jsonl')) as file:
        file.writelines(json.dumps(row) + '\n' for row in rows)
    with atomic_file(os.path.join(out, 'learning.md')) as file:
        file.write(table(rows) + '\n')
    with atomic_file(os.path.join(out, 'learning.png'), 'wb') as file:
        plot(rows).save(file, format='PNG')


def main(args):
    pairs = chosen(args.config, args.variants, args.seeds)
    dataset = find_dataset(args.dataset, args.data_dir)
    out = args.out or os.path.join('results', f'learning-{dataset.name}-{args.config}')
    plans = [(name, make_plan(args, name, seed, out)) for name, seed in pairs]
    gpus = resolve_gpus(args.num_gpus)
    fid_options = Options(num_images=args.fid_images, inception=args.inception) if args.inception else None
    make_folder(out)
    rows = [row for row in read_json_lines(os.path.join(out, 'learning.jsonl'))
            if (row['variant'], row['seed']) not in pairs]
    for name, plan in plans:
        rows.append(learn(name, dataclasses.replace(plan, num_gpus=gpus), dataset, fid_options))
        write_report(out, rows)
    print(table(rows))
    stopped = [f'{row["variant"]}, seed {row["seed"]}: {row["stopped"]}' for row in rows if row['stopped']]
    if stopped:
        raise UserError(f'{len(stopped)} of {len(rows)} runs stopped early; the first: {stopped[0]}')


if __name__ == '__main__':
    cli.run(make_parser(), main)
