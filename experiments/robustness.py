"""What a fingerprint survives: a table by perturbation and strength, its curves, and a picture under each.

    python -m experiments.robustness --run=results/photographs-config-e
    python -m experiments.robustness --run=RUN --perturbations=jpeg,noise --num-images=20 --redraw
    python -m experiments.robustness --run=RUN --beside=IMMUNIZED --perturbations=all --inception=GRAPH

The robustness experiment of Yu et al. 2022 (arXiv 2012.08726, Figure 5) on saved files, with the same latents and
fingerprints under each perturbation.
"""
import dataclasses
import os

import numpy as np

from dnnlib import cli
from dnnlib.images import to_uint8
from dnnlib.perturbations import files
from dnnlib.perturbations.table import NONE
from dnnlib.pictures import labelled_rows, tile_zoom
from dnnlib.util import UsageError, append_json_line, atomic_file, make_folder
from experiments.curves import plot
from metrics.base import Options, generate_images, run_metric
from metrics.robustness import fid_network, rng_of
from release.redrawing.placing import where_to_begin
from release.redrawing.reading import Redrawer
from release.search import find_placement, sureness
from training.snapshot import Snapshot

ACCEPTED = 0.75  # the bit accuracy that Yu et al. 2022 accept: 96 of 128 bits
# What is looked for besides: {(search, redraw): (the metric, in words)}.
HOW = {(False, False): ('robustness', ''), (True, False): ('robustness_search', ', placement searched'),
       (False, True): ('robustness_redraw', ', drawn again'),
       (True, True): ('robustness_search_redraw', ', placement searched, drawn again')}
HEAD = ['perturbation', 'value', 'bit accuracy', '95%', 'TPR at 0.1% FPR', 'named at 1e-6', 'among 10^6 users',
        'PSNR, dB', 'SSIM']


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='experiments/robustness.py', description=__doc__.split('\n')[0])
    parser.add_argument('--run', default='results/digits-quickstart', help="the training run's folder")
    parser.add_argument('--beside', action='append', default=[], help='another run, measured too (may be repeated)')
    parser.add_argument('--kimg', type=int, help='which snapshot (default: the latest)')
    parser.add_argument('--perturbations', default='paper', help='comma-separated: names, or all, paper, waves, '
                        'signature')
    parser.add_argument('--redraw', action='store_true', help='method adopted: read each picture as attribute '
                        "--redraw does, less the generator's own picture of it: one to three minutes of CPU for each "
                        'at every value')
    parser.add_argument('--search', action='store_true', help='read each picture as attribute --search does, where its '
                        'place as a crop or its turn is looked for: seconds of CPU for each at every value. With both, '
                        'what is read drawn again counts if its marks cohere, else the surest')
    parser.add_argument('--inception', help='frozen Inception graph for the FID of perturbed to unperturbed pictures '
                        '(default: no FID)')
    parser.add_argument('--out', help='folder for the table and pictures (default: RUN/pictures)')
    parser.add_argument('--num-images', type=int, default=500, help='images to generate')
    parser.add_argument('--seed', type=int, default=0, help='seed of latents, fingerprints and perturbations')
    return parser


def table(record):
    """A record of the metric as Markdown, a row for each perturbation and value; a dash for what there is not."""
    head = [*HEAD, *([record['fid']] if record['fid'] else [])]
    lines = [head, ['---'] * len(head)]
    for name, curve in record['curves'].items():
        for point in curve:
            lines.append([name, named(point['value']), *_numbers(point)][:len(head)])
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def named(value):
    """A perturbation's value as text."""
    return '–' if value is None else f'{value:g}'


def _numbers(point):
    """The cells of a point, FID's last."""
    def share(found):
        return '–' if found is None else f'{found["share"]:.1%}'

    def number(value, form):
        return '–' if value is None else form.format(value)

    return [f'{point["bit_accuracy"]:.3f}', '{:.3f} to {:.3f}'.format(*point['interval']),
            *(share(point['attributable'][rate]) for rate in ('1e-03', '1e-06')), share(point['attributable_many']),
            number(point['psnr'], '{:.1f}'), number(point['ssim'], '{:.3f}'), number(point['fid'], '{:.2f}')]


def curves_plot(records):
    """Bit accuracy by strength, the unperturbed pictures' first; records {label: record} of the same perturbations."""
    first = next(iter(records.values()))
    panels = {}
    for name, parameter in first['parameters'].items():
        strengths = [NONE, *(named(point['value']) for point in first['curves'][name])]
        panels[name] = (parameter, strengths, {
            label: [point['bit_accuracy'] for point in record['curves'][NONE] + record['curves'][name]]
            for label, record in records.items()})
    return plot(panels, list(records), ACCEPTED)


def picture(image, curves, seed):
    """A uint8 image [H, W, 3] under every perturbation, a row each, with the value and mean bit accuracy below."""
    rows, captions = [], []
    for name, curve in curves.items():
        rows.append([files.perturb(name, point['value'], image[None], rng_of(name, seed))[0] for point in curve])
        values = ['' if point['value'] is None else f'{point["value"]:g}: ' for point in curve]
        captions.append([f'{value}{point["bit_accuracy"]:.3f}' for value, point in zip(values, curve)])
    return labelled_rows(rows, [name.replace('_', '\n') for name in curves], captions, tile_zoom(image.shape[0], 128))


def looking(model, redrawer, search):
    """A metrics.base.Model that reads pictures as attribution does with --search, --redraw or both: the surest counts.

    As it is; where a search finds that it lay; and less the generator's own picture, if there is a Redrawer. No code is
    looked at, so that p-values need no correction.
    """
    def read(image, as_it_is):
        found, given = [as_it_is], None
        if search:
            placement, logits = find_placement(to_uint8(image), model.decode)
            found.append(logits)
            given = where_to_begin(placement, logits, as_it_is, len(image))
        if redrawer:
            redrawn = redrawer(image, given)
            return redrawn.logits if redrawn.coheres else max(found, key=sureness)
        return max(found, key=sureness)

    return dataclasses.replace(model, decode=lambda images: np.stack(
        [read(image, logits) for image, logits in zip(images, np.asarray(model.decode(images)))]))


def measure(run_dir, snapshot, options, search, redraw):
    """Measures a run's Snapshot, adds the record to the run's metrics.jsonl, and returns it with its kimg."""
    model = snapshot.model()
    if search or redraw:
        model = looking(model, Redrawer(snapshot) if redraw else None, search)
    record = {'kimg': snapshot.kimg, **run_metric('robustness', model, None, options),
              'metric': HOW[search, redraw][0]}
    append_json_line(os.path.join(run_dir, 'metrics.jsonl'), record)
    return record


def check_images(inception, count):
    """Raises UsageError if an Inception graph is named and `count` images are too few for it."""
    if inception:
        network, missing = fid_network(inception, count)
        if network is None:
            raise UsageError(f'--inception={inception}: {missing}')


def save(path, text, pictures):
    """Writes PATH.md, and PATH with each of `pictures` {ending: Pillow image}, whole or not at all."""
    with atomic_file(f'{path}.md') as file:
        file.write(text + '\n')
    for ending, image in pictures.items():
        with atomic_file(path + ending, 'wb') as file:
            image.save(file, format='PNG')


def main(args):
    names = files.check_names(args.perturbations)
    check_images(args.inception, args.num_images)
    snapshots = {run: Snapshot(run, args.kimg if run == args.run else None) for run in (args.run, *args.beside)}
    out = make_folder(args.out or os.path.join(args.run, 'pictures'))
    options = Options(num_images=args.num_images, seed=args.seed, inception=args.inception, perturbations=names)
    metric, how = HOW[args.search, args.redraw]
    records = {run: measure(run, snapshot, options, args.search, args.redraw) for run, snapshot in snapshots.items()}
    text = '\n\n'.join(f'{run}, {record["kimg"]} kimg, {record["images"]} images, {record["bits"]} bits'
                       f'{how}\n\n'
                       f'{table(record)}' for run, record in records.items())
    print(text)
    images, _ = next(generate_images(snapshots[args.run].model(), 1, args.seed, 'picture'))
    path = os.path.join(out, f'{metric}_{snapshots[args.run].kimg:06d}')
    save(path, text, {'.png': picture(to_uint8(images[0]), records[args.run]['curves'], args.seed),
                      '_curves.png': curves_plot(records)})
    print(f'{path}.png shows one image under each, {path}_curves.png the curves')


if __name__ == '__main__':
    cli.run(make_parser(), main)
