"""Command lines: absl-py's argparse, one line for an error, exit code 2 for usage and 1 for the rest."""
import argparse
import contextlib
import difflib
import errno
import logging
import os
import re
import signal
import sys
import threading
import warnings

import absl.logging
from absl import app, flags
from absl.flags import argparse_flags

from dnnlib.util import FULL, UsageError, UserError, printable
from dnnlib.version import versions

# What the machine refuses rather than the program gets wrong, and how to go on.
ROOM = 'make room or choose another folder'
RIGHTS = 'check its permissions or choose another one'
REMEDIES = {
    **dict.fromkeys(FULL, ROOM),
    errno.EACCES: RIGHTS, errno.EPERM: RIGHTS, errno.EROFS: RIGHTS,
    errno.EISDIR: 'name a file', errno.ENOTDIR: 'a part of its path is a file; choose another one',
    errno.ENAMETOOLONG: 'choose a shorter name', errno.EIO: 'check the disk',
    errno.EMFILE: 'raise the limit of open files (ulimit -n)'}


class Terminated(BaseException):
    """Raised by SIGTERM, so that what Ctrl-C cleans up is cleaned up as well. Like KeyboardInterrupt no Exception."""


RAISES = {signal.SIGTERM: Terminated, signal.SIGINT: KeyboardInterrupt}


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds a default to a flag's help if there is one and the help does not tell it itself."""

    def _get_help_string(self, action):
        nothing = action.default is None or action.default is False or action.default == ''
        if nothing or 'default' in action.help:
            return action.help
        return super()._get_help_string(action)


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
        kwargs.setdefault('formatter_class', HelpFormatter)
        kwargs.setdefault('inherited_absl_flags', None)
        super().__init__(allow_abbrev=False, **kwargs)
        for action in self._actions:
            if '--helpfull' in action.option_strings:  # absl's own: there are no further flags to show
                action.help = argparse.SUPPRESS
        self.add_argument('--version', action=_Version, help='show the versions of project, Python and TensorFlow')

    def _options(self):
        nested = [parser for action in self._actions if isinstance(action, argparse._SubParsersAction)
                  for parser in action.choices.values()]
        return sorted({*self._option_string_actions, *(name for parser in nested for name in parser._options())})

    def error(self, message):
        known = self._options()
        words = [word.split('=')[0].rstrip(':') for word in message.split() if word.startswith('--')]
        near = [match for word in words if word not in known for match in difflib.get_close_matches(word, known, n=1)]
        hint = f'; did you mean {near[0]}?' if near else f'; {self.prog} --help lists what there is'
        self.exit(2, f'{self.prog}: error: {message}{hint}\n')


def boolean(text):
    """An argparse type: true/false, yes/no, on/off, 1/0."""
    values = {'true': True, 'yes': True, 'on': True, '1': True, 'false': False, 'no': False, 'off': False, '0': False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f'{text!r} is neither true nor false')
    return values[text.lower()]


def numbers(flag, text):
    """The whole numbers of a flag's text, which commas separate. Raises UsageError."""
    try:
        return [int(word) for word in text.split(',')]
    except ValueError:
        raise UsageError(f'{flag}={text}: numbers separated by commas, please') from None


def dashed(argv):
    """Rewrites `--num_gpus=2` as `--num-gpus=2`: both spellings are accepted, the dashed one is documented.

    What follows a `--` is no flag and stays as it is.
    """
    end = argv.index('--') if '--' in argv else len(argv)

    def rewrite(word):
        if not word.startswith('--'):
            return word
        name, equals, value = word.partition('=')
        return name.replace('_', '-') + equals + value
    return [argv[0], *map(rewrite, argv[1:end]), *argv[end:]]


def run(parser, main):
    """Parses the command line with `parser` and exits with `main(args)`'s exit code.

    A UserError becomes one line on stderr and its exit code; so does what the machine refuses (a full disk, missing
    permissions, no memory), with 1. Ctrl-C gives one line and 130, SIGTERM one line and 143.
    """
    def guarded(args):
        signals = _Signals()
        _prepare()
        try:
            code = main(args) or 0
            sys.stdout.flush()
            return code
        except BaseException as error:
            return _failed(parser, error, signals)

    def parse(argv):
        flags.FLAGS.mark_as_parsed()
        return parser.parse_args(dashed(argv)[1:])

    app.run(guarded, flags_parser=parse)


def _prepare():
    """Sets up what the whole process shares: quiet libraries, and text that can always be printed."""
    # TensorFlow tells of every file it writes and every variable of a checkpoint it could not read.
    absl.logging.set_verbosity(absl.logging.WARNING)
    logging.getLogger('tensorflow').setLevel(logging.ERROR)
    # Pillow tells of odd metadata and of large images, which hinder nobody; what hinders, it raises.
    logging.getLogger('PIL').setLevel(logging.CRITICAL)
    warnings.filterwarnings('ignore', module=r'PIL\.')
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')


class _Signals:
    """SIGTERM and Ctrl-C, raised as Terminated and KeyboardInterrupt, and remembered.

    TensorFlow may make another exception of what is raised within it; what came tells what it was. And Python drops
    what is raised while an object is destroyed: then the signal is sent once more.

    Attributes: came, the signal, or None.
    """

    def __init__(self):
        self.came = None
        for number in RAISES:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup, and a shell's &, leave Ctrl-C
                signal.signal(number, self._raise)
        self._otherwise, sys.unraisablehook = sys.unraisablehook, self._dropped

    def _raise(self, number, frame):
        self.came = number
        raise RAISES[number]

    def _dropped(self, unraisable):
        if not isinstance(unraisable.exc_value, tuple(RAISES.values())):
            return self._otherwise(unraisable)
        again = threading.Timer(0.02, os.kill, (os.getpid(), self.came))
        again.daemon = True
        again.start()


def _failed(parser, error, signals):
    """The exit code for an exception that ended the program, after its one line. Raises what is the program's fault."""
    if signals.came or isinstance(error, tuple(RAISES.values())):
        stopped = signals.came == signal.SIGINT or isinstance(error, KeyboardInterrupt)
        return _fail(parser, None, *((130, 'interrupted') if stopped else (143, 'terminated')))
    if isinstance(error, UserError):
        return _fail(parser, error, error.exit_code)
    if isinstance(error, BrokenPipeError):  # the reader of a pipe (head, say) has gone: no one is left to tell
        _drop_stdout()
        return 1
    explained = refused(error)
    if not explained:
        raise error
    return _fail(parser, explained, 1)


class Deferred:
    """Makes SIGTERM and Ctrl-C wait until the program has come to a good place to stop; the second one need not wait.

        with Deferred() as deferred:
            while work_is_left:
                do_some()           # may look at `deferred.asked` and return early
                if deferred.asked:
                    save()
                    deferred.stop()

    Outside the main thread, the only one that gets signals, it does nothing.
    """

    def __init__(self):
        self._came, self._before = None, {}

    @property
    def asked(self):
        """Whether a signal came."""
        return self._came is not None

    def ask(self):
        """Does as if SIGTERM came, unless a signal has."""
        self._came = self._came or signal.SIGTERM

    def stop(self):
        """Raises what the signal stands for, Terminated or KeyboardInterrupt, if one came."""
        if self.asked:
            raise RAISES[self._came]

    @contextlib.contextmanager
    def lifted(self):
        """Within this block signals stop the program at once, as without Deferred."""
        self.stop()
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in RAISES}
            # What is ignored, as Ctrl-C is under nohup and behind a shell's &, stays so.
            self._before = {number: handler for number, handler in found.items()
                            if handler not in (None, signal.SIG_IGN)}
            for number in self._before:
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.asked:
            raise RAISES[number]
        self._came = number


def _fail(parser, error, code, message=None):
    text = message or f'error: {printable(str(error))}'
    print(f'{parser.prog}: {text}', file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # what is left to print can't be: Python would try once more on its way out, and complain
        _drop_stdout()
    return code


def _drop_stdout():
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refused(error):
    """One line, with a remedy, for an exception by which the machine refuses something; None for any other."""
    if isinstance(error, MemoryError):
        return f'not enough memory ({str(error) or "no more to be had"}); ask for less at once'
    if isinstance(error, OSError) and error.errno in REMEDIES:
        # A copy's error names what was copied first, and second where to, which is what may be full.
        path = error.filename2 if error.errno in FULL and error.filename2 else error.filename
        name = f' {path}' if path else ''
        return f'cannot read or write{name}: {error.strerror}; {REMEDIES[error.errno]}'
    tensorflow = sys.modules.get('tensorflow')  # if it was not imported, the error is not its
    if tensorflow and isinstance(error, tensorflow.errors.ResourceExhaustedError) and 'OOM' in error.message:
        shape = re.search(r'shape\[[\d,]*\]', error.message)
        return f'not enough memory ({shape[0] if shape else "no more to be had"}); ask for less at once'
    if tensorflow and isinstance(error, tensorflow.errors.OpError):
        found = [number for number in REMEDIES if os.strerror(number) in str(error.message)]
        if found:
            # Without where in TensorFlow it came up, and without the lines on what it could not do because of that.
            line = next(line for line in error.message.split('\n') if os.strerror(found[0]) in line)
            message = re.sub(r'\{\{.*?\}\} *| *\[Op:\w+\]', '', line).strip()
            return f'cannot read or write {message}; {REMEDIES[found[0]]}'
    return None
