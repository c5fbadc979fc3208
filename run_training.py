"""Trains a fingerprinted StyleGAN2: resolve the options, print them, run. The same command again resumes."""
import dataclasses
import os

from dnnlib import cli
from dnnlib.util import UsageError
from training.config import PRESET_DATASETS, PRESET_HELP, PRESETS, add_flags, flags_config


def make_parser():
    """The command line: one flag per field of Config, and where to read, write and compute."""
    parser = cli.ArgumentParser(
        prog='run_training.py', description=__doc__,
        epilog='presets: ' + '; '.join(f'{name}: {text}' for name, text in PRESET_HELP.items()))
    parser.add_argument('--config', choices=list(PRESETS), default='config-e', help='preset of all options below')
    parser.add_argument('--dataset', help='a name under --data-dir (celeba, lsun_bedroom, lsun_cat, digits), or a '
                        'folder that dataset_tool.py made; quickstart takes digits by itself')
    parser.add_argument('--data-dir', default='data', help='where datasets lie')
    parser.add_argument('--run-dir', help='where the run is written (default: results/DATASET-CONFIG)')
    parser.add_argument('--num-gpus', type=int, help='GPUs to use; 0 is the CPU (default: all there are)')
    parser.add_argument('--dry-run', action='store_true', help='print the resolved options and stop')
    group = parser.add_argument_group('options of the run, whose defaults the preset gives')
    add_flags(group)
    return parser


def make_plan(args):
    """(Plan, dataset's name or folder) of parsed flags. Raises UsageError; touches neither data nor devices."""
    from training.training_loop import Plan
    config = flags_config(args)
    dataset = args.dataset or PRESET_DATASETS.get(args.config)
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
    lines = [f'config {plan.preset}', f'dataset {dataset}', f'run-dir {plan.run_dir}',
             f'num-gpus {"all" if plan.num_gpus is None else plan.num_gpus}']
    lines += [f'{name.replace("_", "-")} {value}' for name, value in dataclasses.asdict(plan.config).items()]
    return '\n'.join(f'  {line.partition(" ")[0]:24}{line.partition(" ")[2]}' for line in lines)


def main(args):
    plan, name = make_plan(args)
    print(describe(plan, name))
    if args.dry_run:
        return
    from datasets.sources import find_dataset
    from training.distribution import check_gpus
    from training.training_loop import train
    dataset = find_dataset(name, args.data_dir)
    train(dataclasses.replace(plan, num_gpus=check_gpus(plan.num_gpus)), dataset)


if __name__ == '__main__':
    cli.run(make_parser(), main)
