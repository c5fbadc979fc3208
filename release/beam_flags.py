"""`run_release.py attribute-beam`: its flags, and what it does."""
import argparse
import shlex
from typing import Any

from dnnlib.util import UsageError, UserError

INSTALL = "BEAM missing: pip install -e '.[beam]', with Python 3.9 to 3.11"
LOCAL = 'FnApiRunner'

ABOUT = """\
attribute --json as an Apache Beam pipeline, for more pictures than one machine reads in time. Writes the lines to
NAME-00000-of-0000N.jsonl, in no order. Each IMAGE is what attribute takes, or an address that Beam's file systems know
(gs://bucket/*.png); an archive is read by one worker. docs/beam.md says what workers need.
"""


def add_command(commands: Any, add_reading: Any) -> None:
    """Adds the subcommand.

    Args:
        commands: what `add_subparsers` returned. add_reading: adds the images, and what it takes to read them.
    """
    command = commands.add_parser('attribute-beam', help='attribute on many machines, by Apache Beam',
                                  formatter_class=argparse.RawDescriptionHelpFormatter, description=ABOUT)
    add_reading(command)
    command.add_argument('--out', metavar='NAME', required=True, help="the beginning of the results' names, on a disk "
                         'or at an address')
    for name in ('search', 'redraw', 'alignments', 'collusion', 'soft'):
        command.add_argument(f'--{name}', action='store_true', help='as of attribute')
    command.add_argument('--runner', default=LOCAL, help='DataflowRunner, FlinkRunner, SparkRunner, … (default: this '
                         "machine, Beam's FnApiRunner)")
    command.add_argument('--pipeline', default='', metavar='OPTIONS', help="more options of Beam's, in quotes: "
                         "'--project=P --region=R --temp_location=gs://B/tmp'")
    command.add_argument('--working-folder', metavar='ADDRESS', help="where the users' codes and the list of images "
                         'lie meanwhile, for the workers alone to read; needed if these are elsewhere')


def command(args: argparse.Namespace, registry: Any) -> int:
    """Runs the pipeline; a line of counts, and attribute's exit code."""
    beam = _beam()
    from release.attribute import Attributor
    from release.results import exit_code
    if args.runner not in beam.LOCAL_RUNNERS and not args.working_folder:
        raise UsageError(f'--runner={args.runner}: name a --working-folder that its workers can read')
    beam.check_new(args.out)
    options = beam.PipelineOptions([f'--runner={args.runner}', *_words(args.pipeline)])
    flags = {'align': args.alignments, 'soft': args.soft, 'search': args.search, 'collusion': args.collusion,
             'redraw': args.redraw}
    job = beam.Job(args.run, args.fpr, flags, args.out, args.working_folder)
    attributor = Attributor(args.run, registry, **flags)
    tally, others = beam.run(args.image, attributor, job, options)
    left_out = f', {others} other files in folders and archives left out' if others else ''
    print(f'{tally.summary()}{left_out}')
    return exit_code(tally)


def _beam():
    """The module release.beam. Raises UserError where Apache Beam is not installed."""
    try:
        import apache_beam  # noqa: F401
    except ImportError:
        raise UserError(INSTALL) from None
    from release import beam
    return beam


def _words(options):
    try:
        return shlex.split(options)
    except ValueError as error:
        raise UsageError(f'--pipeline={options}: {error}') from None
