"""Issues fingerprinted instances, lists and revokes them, attributes images, keeps the books; or shows a demo."""
import argparse
import contextlib
import json
import os
import sys

from dnnlib import cli
from dnnlib.util import UsageError, UserError, atomic_file, format_time, make_folder, printable
from release import beam_flags, books, books_flags, instance_commands, instance_flags
from release.credentials import command as credentials
from release.evidence import command as evidence

RUN = 'results/digits-quickstart'
REGISTRY = 'registry.sqlite'
DEMO = 'results/demo'
DEFAULT_RATE = 1e-6

IMAGES = '''\
Each IMAGE is a file; a folder, searched recursively for image files and archives; a zip or tar of images, read in
place; a quoted pattern such as 'evidence/**/*.png'; - for a list of names on standard input, one a line; or @FILE for
such a list in a file. An image of another size than the model's is scaled to it, also its centre square and what is
left without a border of one colour: p-values are corrected for each; below half the model's side it is refused.

exit codes: 0 a user is named in at least one image; 3 in none; 1 a file could not be attributed (the others are); 2 a
wrong flag. Two or more users over the threshold are all listed and none is named: that points to collusion or forgery.

A user named is not a user proven to have made the image: the p-value rules out chance, never forgery, holds for one
image, and may not be multiplied over several (--together combines them). Nobody named is no proof either: mirroring,
turning, inverting (but with --alignments) and greyscale hide a fingerprint. README, "What an attribution does not
prove", has the numbers.
'''

IMAGES_DETECTED = '''\
Each IMAGE is what attribute takes: a file, a folder, a zip or tar, a quoted pattern, - or @FILE for a list.

exit codes: 0 at least one image was made by this model; 3 none is known to be; 1 a file could not be read (the others
are); 2 a wrong flag. An image that is not known to be may still be: edits remove a fingerprint.
'''


def make_parser():
    """The command line, one subcommand per task."""
    parser = cli.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND', parser_class=cli.ArgumentParser)
    run = dict(default=RUN, help="the training run's folder")
    registry = dict(default=REGISTRY, help='SQLite file or database URL of the registry')

    issue = commands.add_parser('issue', help='draw a fingerprint for each user and export their instance',
                                description='Exports OUT/NAME/1, a SavedModel for TF Serving, for each new user.')
    issue.add_argument('name', nargs='*', metavar='NAME', help='new users')
    issue.add_argument('--names', metavar='FILE', help='issue to all in a file instead, a name a line or CSV with a '
                       'column "name", and "noise_seed" if you like; who has an instance keeps it, so that the same '
                       'command goes on after a stop')
    issue.add_argument('--run', **run)
    issue.add_argument('--registry', **registry)
    issue.add_argument('--out', default='instances', help='folder of all instances')
    issue.add_argument('--kimg', type=int, help='snapshot to issue from: the latest if not given; '
                       'once issued from, a registry stays with its snapshot')
    instance_flags.add_issue_flags(issue)

    listing = commands.add_parser('list', help='show the users of a registry', description='Shows who has an instance.')
    listing.add_argument('--registry', **registry)
    listing.add_argument('--json', action='store_true', help='one JSON object per user')
    listing.add_argument('--codes', action='store_true', help='with --json: the users\' codes too; they are secret, '
                         'whoever has them can frame a user')

    revoke = commands.add_parser('revoke', help='note that an instance is revoked', description='Marks a user as '
                                 'revoked. Their images are attributed as before: copies are out there.')
    revoke.add_argument('name', metavar='NAME', help='the user')
    revoke.add_argument('--reason', default='', help='why, for the record')
    revoke.add_argument('--registry', **registry)

    attribute = commands.add_parser(
        'attribute', help='name the users whose instances drew these images', epilog=IMAGES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Decodes image files and names their users, or says why nobody is named.')
    _add_reading(attribute)
    attribute.add_argument('--search', action='store_true', help='look for the place that each image, if it is a crop '
                           'scaled back, had in the picture, or for the angle that it was turned by: one comparison '
                           'more, and a second of CPU or more an image')
    attribute.add_argument('--redraw', action='store_true', help='method adopted: find the latent that each image was '
                           'drawn from, and read what it has more than the generator\'s own picture of it, which '
                           'survives more: one comparison more, and one to three minutes of CPU an image')
    attribute.add_argument('--alignments', action='store_true', help='try each image mirrored, turned by quarters and '
                           'inverted as well, which edits hide a fingerprint; p-values are corrected for all 16')
    attribute.add_argument('--collusion', action='store_true', help='look for two users who combined their instances '
                           'or pictures, by the bits that their codes share; at --fpr too, corrected for all pairs')
    attribute.add_argument('--soft', action='store_true', help='let bits count by how surely they were read; choose it '
                           'before looking, or double the p-values')
    attribute.add_argument('--together', action='store_true', help='these images are known to be of one source: one '
                           'result, from the evidence of all')
    form = attribute.add_mutually_exclusive_group()
    form.add_argument('--json', action='store_true', help='one JSON object per image')
    form.add_argument('--csv', action='store_true', help='a table for spreadsheets')
    attribute.add_argument('--out', metavar='FILE', help='write the results to a new file instead of printing them')
    attribute.add_argument('--resume', action='store_true', help='with --json and --out: add each result to FILE as it '
                           'is found; the same command again goes on where it was stopped, killed too')

    beam_flags.add_command(commands, _add_reading)

    detect = commands.add_parser(
        'detect', help='say whether this model made these images, and nothing of its users', epilog=IMAGES_DETECTED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='For the public: says of each image whether it was made by this model or is not known to be. Names '
        'no user, tells no number of bits, stores nothing.')
    _add_reading(detect)
    detect.add_argument('--alignments', action='store_true', help='as attribute has it')
    detect.add_argument('--json', action='store_true', help='one JSON object per image')

    evidence.add_command(commands, registry, RUN, DEFAULT_RATE)
    credentials.add_commands(commands, registry, RUN, DEFAULT_RATE)
    books_flags.add_commands(commands, registry)
    instance_flags.add_commands(commands, run, registry)

    demo = commands.add_parser('demo', help='train on digits, issue two users, attribute their images',
                               description='The whole path on bundled data, on the CPU, in some minutes.')
    demo.add_argument('--out', default=DEMO, help='folder for everything; the same command resumes')
    demo.add_argument('--total-kimg', type=int, help='shorter or longer training than the quickstart preset')
    return parser


def _add_reading(command):
    """The images, and what it takes to read their fingerprints."""
    command.add_argument('image', nargs='+', metavar='IMAGE', help='what to look at, see below')
    command.add_argument('--run', default=RUN, help=f"the training run's folder (default: {RUN})")
    command.add_argument('--registry', default=REGISTRY,
                         help=f'SQLite file or database URL of the registry (default: {REGISTRY})')
    command.add_argument('--fpr', type=float, default=DEFAULT_RATE, help='accepted chance, over all users together, of '
                         f'taking an image that no instance drew for anyone\'s (default: {DEFAULT_RATE:g})')


def check_defaults(args):
    """Raises UserError with the flags to use if nothing is at a default path but the demo's run and registry are."""
    names = {'run': (RUN, f'{DEMO}/run'), 'registry': (REGISTRY, f'{DEMO}/registry.sqlite')}
    missing = [default for name, (default, _) in names.items()
               if getattr(args, name, None) == default and not os.path.exists(default)]
    flags = [f'--{name}={made}' for name, (default, made) in names.items()
             if getattr(args, name, None) == default and os.path.exists(made)]
    if missing and flags:
        raise UserError(f'{missing[0]} does not exist; to use what the demo has made, add {" ".join(flags)}')


def issue_command(args):
    names = instance_commands.wanted(args)
    check_defaults(args)
    instance_commands.issue(args, names)


def list_command(args):
    import dataclasses

    from fingerprints.codes import code_to_text
    if args.codes and not args.json:
        raise UsageError('--codes goes with --json; add it')
    check_defaults(args)
    registry = books.open_registry(args)
    users = registry.list()
    codes = {name: code_to_text(code) for model in registry.models() if args.codes
             for name, code in zip(*registry.codes(model['model_digest']))}
    for user in users:
        if args.json:
            record = dataclasses.asdict(user)
            print(json.dumps({**record, 'code': codes[user.name]} if args.codes else record))
        else:
            state = f'revoked {user.revoked_at} {printable(user.reason or "")}'.strip() if user.revoked_at else 'active'
            digests = instance_commands.digests(user.digest, user.onnx_digests)
            print(f'{user.name:20}  issued {user.issued_at}  {digests}  {state}')
    if not users and not args.json:
        print('no users yet')


def revoke_command(args):
    check_defaults(args)
    books.open_registry(args).revoke(args.name, args.reason)
    print(f'revoked {args.name}; images of that instance are still attributed')


def attribute_command(args):
    from fingerprints.statistics import check_fpr
    from release.inputs import Inputs
    check_fpr(args.fpr)
    _check_out(args)
    check_defaults(args)
    inputs = Inputs(args.image)
    registry = books.open_registry(args)
    from release.attribute import Attributor  # here, since it takes seconds to import
    from release.results import Tally, attribution_lines, bits_needed, exit_code, pairs_findable
    from release.resume import growing_file, remaining
    attributor, tally = Attributor(args.run, registry, args.alignments, args.soft, args.search,
                                   args.collusion, args.redraw), Tally()
    form = 'json' if args.json else 'csv' if args.csv else 'text'
    context = {'fpr': args.fpr, **attributor.provenance}
    users, num_bits = len(attributor.users.names), attributor.users.codes.num_bits
    with growing_file(args.out) if args.resume else output(args.out) as file:
        rest = remaining(file, inputs, context, users, tally) if args.resume else inputs
        results = attributor.together(rest, args.fpr) if args.together else attributor(rest, args.fpr)
        results = books.recorded(registry, results, context) if args.record else results
        for line in attribution_lines(results, form, context, tally):
            print(line, file=file, flush=True)
    left_out = f', {inputs.others} other files in folders and archives left out' if inputs.others else ''
    needed = '' if args.soft else f'; {bits_needed(num_bits, users, args.fpr, attributor.tried)}'
    pairs = f'; {pairs_findable(attributor, args.fpr)}' if args.collusion else ''
    print(f'{tally.summary()}{left_out}{needed}{pairs}', file=sys.stdout if args.out or form == 'text' else sys.stderr)
    return exit_code(tally)


def _check_out(args):
    """Raises UserError for an --out that can't be, or a --resume that has nothing to go on with."""
    if args.resume and (not args.json or not args.out or args.together):
        raise UsageError('--resume adds JSON lines to a file, one per image; give it --json and --out=FILE, and not '
                         '--together')
    if args.out is not None and not args.resume and (not args.out or os.path.lexists(args.out)):
        raise UserError(f'--out={args.out}: choose the name of a file that does not exist yet')
    if args.out:
        make_folder(os.path.dirname(os.path.abspath(args.out)))


def attribute_beam_command(args):
    from fingerprints.statistics import check_fpr
    check_fpr(args.fpr)
    check_defaults(args)
    return beam_flags.command(args, books.open_registry(args))


def detect_command(args):
    import collections

    from fingerprints.statistics import check_fpr
    from release.inputs import Inputs
    check_fpr(args.fpr)
    check_defaults(args)
    registry = books.open_registry(args)
    from release.attribute import Attributor  # here, since it takes seconds to import
    from release.detection import detection_lines, exit_code, summary
    attributor, counts = Attributor(args.run, registry, args.alignments), collections.Counter()
    context = {'fpr': args.fpr, **attributor.provenance}
    for line in detection_lines(attributor(Inputs(args.image), args.fpr), args.json, context, counts):
        print(line, flush=True)
    print(summary(counts), file=sys.stderr if args.json else sys.stdout)
    return exit_code(counts)


def report_command(args):
    check_defaults(args)
    return evidence.report_command(args, books.open_registry(args))


def stamp_command(args):
    check_defaults(args)
    return credentials.stamp_command(args, books.open_registry(args))


def output(path):
    """A context whose value is the file to write to: one at `path` that appears when all is written, or stdout."""
    return atomic_file(path) if path else contextlib.nullcontext(sys.stdout)


def demo_command(args):
    from experiments.demo import demo
    seconds = demo(args.out, args.total_kimg)
    print(f'done in {format_time(seconds)}; everything is in {args.out}')


COMMANDS = {'issue': issue_command, 'list': list_command, 'revoke': revoke_command, 'attribute': attribute_command,
            'attribute-beam': attribute_beam_command, 'detect': detect_command, 'report': report_command,
            'stamp': stamp_command, 'make-certificate': credentials.make_certificate_command, 'demo': demo_command,
            **books.COMMANDS, **instance_commands.COMMANDS}


def main(args):
    """Runs the subcommand; returns the exit code."""
    if args.command in {**books.COMMANDS, **instance_commands.COMMANDS}:  # the others look at their own arguments first
        check_defaults(args)
    return COMMANDS[args.command](args)


if __name__ == '__main__':
    cli.run(make_parser(), main)
