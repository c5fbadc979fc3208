"""Trains a fingerprinted StyleGAN2: resolve the options, print them, run. The same command again resumes."""
import dataclasses
import os

from dnnlib import cli
from dnnlib.util import UsageError
from models.presets import PRESETS
from training.config import Plan, add_flags, check_initial, dataset_of, flags_config, to_record


def make_parser():
    """The command line: one flag per field of Config, and where to read, write and compute."""
    parser = cli.ArgumentParser(
        description=__doc__,
        epilog='presets: ' + '; '.join(f'{name}: {preset.help}' for name, preset in PRESETS.items()))
    parser.add_argument('--config', choices=list(PRESETS), default='config-e', help='preset of all options below')
    parser.add_argument('--dataset', help='a name under --data-dir (celeba, lsun_bedroom, lsun_cat, digits), or a '
                        'folder that dataset_tool.py made; quickstart takes digits by itself')
    parser.add_argument('--data-dir', default='data', help='where datasets lie')
    parser.add_argument('--run-dir', help='where the run is written (default: results/DATASET-CONFIG)')
    parser.add_argument('--num-gpus', type=int, help='GPUs to use; 0 is the CPU (default: all there are)')
    parser.add_argument('--dry-run', action='store_true', help='print the resolved options and what the run '
                        'would take, and stop')
    group = parser.add_argument_group('options of the run, whose defaults the preset gives')
    add_flags(group)
    return parser


def make_plan(args):
    """(Plan, dataset's name or folder) of parsed flags. Raises UsageError; touches neither data nor devices."""
    config = flags_config(args)
    check_initial(config)
    dataset = args.dataset or PRESETS[args.config].dataset or dataset_of(config.init_from)
    if not dataset:
        raise UsageError('--dataset is missing: name one (celeba, say), or try --config=quickstart, '
                         'which trains on bundled digits')
    if args.num_gpus is not None and args.num_gpus < 0:
        raise UsageError(f'--num-gpus={args.num_gpus}: must be 0 (the CPU) or more')
    name = os.path.basename(os.path.normpath(dataset))
    run_dir = args.run_dir or os.path.join('results', f'{name}-{args.config}')
    return Plan(args.config, config, run_dir, args.num_gpus), dataset


def describe(plan, dataset):
    """The resolved options as text, one a line."""
    options = {'config': plan.preset, 'dataset': dataset, 'run-dir': plan.run_dir,
               'num-gpus': 'all' if plan.num_gpus is None else plan.num_gpus, **to_record(plan.config)}
    return '\n'.join(f'  {name.replace("_", "-"):24}{value}' for name, value in options.items())


def estimate(plan, name, data_dir):
    """What the run would take, as text. Raises UserError, UsageError for what `train` would refuse."""
    from datasets.sources import expected_size
    from metrics.base import check_metrics
    from models.limits import check_division, check_networks, check_parts
    from training.estimate import describe_cost
    from training.loop import metric_names
    check_metrics(metric_names(plan.config))
    resolution, train_images = expected_size(name, data_dir)
    replicas = plan.num_gpus or 1
    check_division(plan.config.batch_size, replicas)
    check_parts(plan.config.batch_per_replica, plan.config.batch_size, replicas)
    check_networks(plan.config, resolution)
    return describe_cost(plan.config, resolution, train_images, replicas)


def main(args):
    plan, name = make_plan(args)
    print(describe(plan, name))
    if args.dry_run:
        print(estimate(plan, name, args.data_dir))
        return
    from datasets.sources import find_dataset
    from training.distribution import resolve_gpus
    from training.loop import train
    dataset = find_dataset(name, args.data_dir)
    train(dataclasses.replace(plan, num_gpus=resolve_gpus(plan.num_gpus)), dataset)


if __name__ == '__main__':
    cli.run(make_parser(), main)
