"""Command lines: absl-py's argparse, one line for an error, exit code 2 for usage and 1 for the rest."""
import argparse
import difflib
import logging
import os
import sys

import absl.logging
from absl import app, flags
from absl.flags import argparse_flags

from dnnlib.util import UserError
from dnnlib.version import versions


class _Version(argparse.Action):
    """Prints the versions, looked up only when asked for, and exits."""

    def __init__(self, option_strings, dest, help):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser, namespace, values, option_string=None):
        print(versions())
        parser.exit()


class ArgumentParser(argparse_flags.ArgumentParser):
    """absl's argparse parser whose errors are one line with the nearest flag, and which accepts no abbreviations."""

    def __init__(self, **kwargs):
        kwargs.setdefault('formatter_class', argparse.ArgumentDefaultsHelpFormatter)
        kwargs.setdefault('inherited_absl_flags', None)
        super().__init__(allow_abbrev=False, **kwargs)
        self.add_argument('--version', action=_Version, help='show the versions of project, Python and TensorFlow')

    def _options(self):
        nested = [parser for action in self._actions if isinstance(action, argparse._SubParsersAction)
                  for parser in action.choices.values()]
        return sorted({*self._option_string_actions, *(name for parser in nested for name in parser._options())})

    def error(self, message):
        known = self._options()
        words = [word.split('=')[0] for word in message.split() if word.startswith('--')]
        near = [match for word in words if word not in known for match in difflib.get_close_matches(word, known, n=1)]
        hint = f'; did you mean {near[0]}?' if near else f'; {self.prog} --help lists what there is'
        self.exit(2, f'{self.prog}: error: {message}{hint}\n')


def boolean(text):
    """An argparse type: true/false, yes/no, on/off, 1/0."""
    values = {'true': True, 'yes': True, 'on': True, '1': True, 'false': False, 'no': False, 'off': False, '0': False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f'{text!r} is neither true nor false')
    return values[text.lower()]


def dashed(argv):
    """Rewrites `--num_gpus=2` as `--num-gpus=2`: both spellings are accepted, the dashed one is documented."""
    def rewrite(word):
        if not word.startswith('--') or word == '--':
            return word
        name, equals, value = word.partition('=')
        return name.replace('_', '-') + equals + value
    return [argv[0]] + [rewrite(word) for word in argv[1:]]


def run(parser, main):
    """Parses the command line with `parser` and exits with `main(args)`'s exit code.

    A UserError becomes one line on stderr and its exit code; Ctrl-C one line and 130.
    """
    def guarded(args):
        # TensorFlow tells of every file it writes and every variable of a checkpoint it could not read.
        absl.logging.set_verbosity(absl.logging.WARNING)
        logging.getLogger('tensorflow').setLevel(logging.ERROR)
        try:
            code = main(args) or 0
            sys.stdout.flush()
            return code
        except UserError as error:
            print(f'{parser.prog}: error: {error}', file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print(f'{parser.prog}: interrupted', file=sys.stderr)
            return 130
        except BrokenPipeError:  # the reader of a pipe (head, say) has gone: no one is left to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1

    def parse(argv):
        flags.FLAGS.mark_as_parsed()
        return parser.parse_args(dashed(argv)[1:])

    app.run(guarded, flags_parser=parse)
