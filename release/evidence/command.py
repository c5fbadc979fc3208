"""`run_release.py report`: its flags, and what it writes."""
import argparse
import json
import os
from typing import Any

from dnnlib.util import UsageError, UserError, make_folder, quoted, remove_unfinished, write_together

NOBODY_NAMED = 3  # exit code, as attribute's
MOST_IMAGES, MOST_REDRAWN = 100_000, 100  # of an hour or more
ENDINGS = ('.json', '.pdf', '.html')  # in the order in which they appear

ABOUT = '''\
Writes FILE.html and FILE.json (and with --pdf FILE.pdf): the picture, how it was read, what agrees with whose code,
what chance would have shown, what was measured of the model, and the proof from the ledger.

exit codes: 0 a user is named; 3 nobody is, and the report says why; 1 an error, and nothing is written.
'''


def add_command(commands: Any, registry: dict[str, Any], run: str, rate: float) -> None:
    """Adds the subcommand.

    Args:
        commands: what `add_subparsers` returned. registry: the arguments of --registry. run: the default of --run.
        rate: the default of --fpr.
    """
    report = commands.add_parser('report', help='write the evidence about one picture, as HTML and JSON',
                                 formatter_class=argparse.RawDescriptionHelpFormatter, description=ABOUT)
    report.add_argument('image', metavar='IMAGE', help='the picture, one file')
    report.add_argument('--out', metavar='FILE.html', required=True, help='the new report; readable by its owner only')
    report.add_argument('--run', default=run, help=f"the training run's folder (default: {run})")
    report.add_argument('--registry', **registry)
    report.add_argument('--fpr', type=float, default=rate, help='accepted chance, over all users together, of naming '
                        f'anyone for an image that no instance drew (default: {rate:g})')
    report.add_argument('--alignments', action='store_true', help='as of attribute')
    report.add_argument('--innocents', metavar='DATASET', help='dataset of pictures that no instance drew, of the same '
                        "kind as IMAGE; the run's own held-out ones if not given")
    report.add_argument('--images', type=int, default=400, help='how many pictures of the instance to measure the '
                        'likelihood ratio on (default: 400)')
    report.add_argument('--redraw', type=int, default=2, metavar='N', help='draw the picture again, and N pictures of '
                        'the instance and N of none to compare with, seconds for each of 64x64; the more, the surer '
                        'what it says; 0 does without (default: 2)')
    report.add_argument('--hide-code', action='store_true', help="leave out the user's code and the bits that were "
                        'read')
    report.add_argument('--checkpoint', metavar='FILE', help='the signed checkpoint to prove the events with; the '
                        'oldest in the registry that covers them if not given')
    report.add_argument('--public-key', metavar='FILE', help='check that this key signed the checkpoint')
    report.add_argument('--pdf', action='store_true', help='print it to FILE.pdf too, if Chromium is installed')


def report_command(args: argparse.Namespace, registry: Any) -> int:
    """Writes the files of a report: all of them, or none; after a kill, the page is there only if the others are."""
    from fingerprints.statistics import check_fpr
    check_fpr(args.fpr)
    paths = _paths(args)
    if not 1 <= args.images <= MOST_IMAGES or not 0 <= args.redraw <= MOST_REDRAWN:
        raise UsageError(f'--images={args.images} --redraw={args.redraw}: give 1 to {MOST_IMAGES} images, and 0 to '
                         f'{MOST_REDRAWN} to redraw')
    from release.evidence.page import find_browser, html, pdf
    browser = find_browser() if args.pdf else None
    from release.evidence.facts import Reporter  # here, since it takes seconds to import
    record, found = Reporter(args.run, registry, _request(args))()
    page = html(record)
    texts = {'.json': json.dumps(record, indent=1, ensure_ascii=False).encode(), '.html': page.encode()}
    if browser:
        texts['.pdf'] = pdf(page, browser)
    try:
        write_together({path: texts[ending] for ending, path in paths.items()}, private=True)
    except FileExistsError as error:
        raise _taken(error.filename) from None
    print(f'{record["outcome"]["headline"]}\nwritten to {", ".join(map(quoted, paths.values()))}')
    return 0 if found.attribution.user else NOBODY_NAMED


def _paths(args):
    """{ending: path} of the files to write, the page last. Raises UserError if one is there, or can't be written."""
    base, ending = os.path.splitext(args.out)
    if ending != '.html' or not os.path.basename(base):
        raise UsageError(f'--out={args.out}: give a name that ends in .html; the JSON file gets the same name')
    make_folder(os.path.dirname(os.path.abspath(args.out)))
    remove_unfinished([base + ending for ending in ENDINGS])
    paths = {ending: base + ending for ending in ENDINGS if ending != '.pdf' or args.pdf}
    for path in paths.values():
        if os.path.lexists(path):
            raise _taken(path)
    return paths


def _taken(path):
    return UserError(f'{path} exists already; choose another name')


def _request(args):
    from fingerprints.files import read_text
    from fingerprints.notes import VerifierKey
    from release.evidence.facts import Request
    return Request(args.image, args.fpr, args.alignments, args.innocents, args.images, args.redraw,
                   read_text(args.checkpoint) if args.checkpoint else None,
                   VerifierKey.parse(read_text(args.public_key)) if args.public_key else None, not args.hide_code)
