import os
import signal
import subprocess
import sys
import threading

import pytest

from dnnlib import cli
from dnnlib.util import UsageError, UserError
from helpers import PATIENCE

PROGRAM = '''
import os, sys
import dnnlib.cli as cli, dnnlib.util as util
parser = cli.ArgumentParser(prog='x.py')
parser.add_argument('--num-gpus', type=int, default=0, help='GPUs')
parser.add_argument('--fail', help='how')
def main(args):
    print(args.num_gpus)
    if args.fail:
        failure = getattr(util, args.fail, None) or getattr(__builtins__, args.fail)
        raise failure(args.num_gpus, os.strerror(args.num_gpus), 'x/y') if args.num_gpus else failure('what and how')
cli.run(parser, main)
'''


@pytest.mark.parametrize('flags, code, error', [
    ([], 0, ''), (['--num_gpus=3'], 0, ''), (['--num-gpus', '3'], 0, ''),
    (['--num-gpu=3'], 2, 'did you mean --num-gpus?'),
    (['--num-gpus=x'], 2, "invalid int value: 'x'; x.py --help lists"),
    (['--fail=OSError', '--num-gpus=28'], 1,
     'x.py: error: cannot read or write x/y: No space left on device; make room or choose another folder'),
    (['--fail=OSError', '--num-gpus=30'], 1, 'x/y: Read-only file system; check its permissions'),
    (['--fail=MemoryError'], 1, 'x.py: error: not enough memory (what and how); ask for less at once'),
    (['--fail=UserError'], 1, 'x.py: error: what and how'), (['--fail=UsageError'], 2, 'x.py: error: what and how')])
def test_exit_codes(flags, code, error):
    result = subprocess.run([sys.executable, '-c', PROGRAM, *flags], capture_output=True, text=True)
    assert result.returncode == code and error in result.stderr
    assert len(result.stderr.splitlines()) == bool(error)


def test_dashed():
    assert cli.dashed(['a_b', '--c_d=e_f', '-g_h', 'i_j', '--', '--k_l']) == [
        'a_b', '--c-d=e_f', '-g_h', 'i_j', '--', '--k_l']


def test_boolean():
    assert cli.boolean('Yes') is True and cli.boolean('0') is False
    with pytest.raises(Exception, match="'maybe'"):
        cli.boolean('maybe')


def test_usage_errors_are_user_errors():
    assert issubclass(UsageError, UserError)


def test_what_the_program_gets_wrong_is_still_a_traceback():
    result = subprocess.run([sys.executable, '-c', PROGRAM, '--fail=KeyError'], capture_output=True, text=True)
    assert result.returncode == 1 and 'Traceback' in result.stderr and 'KeyError' in result.stderr


def test_a_full_disk_behind_the_standard_output():
    with open('/dev/full', 'w') as full:
        result = subprocess.run([sys.executable, '-c', PROGRAM], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr == 'x.py: error: cannot read or write: No space left on device; ' \
                            'make room or choose another folder\n'


def test_an_error_stays_one_line_whatever_it_quotes():
    program = PROGRAM.replace("'what and how'", "'a\\nb \\udce4'")
    result = subprocess.run([sys.executable, '-c', program, '--fail=UserError'], capture_output=True, text=True)
    assert result.stderr == 'x.py: error: a\\nb \\xe4\n'


def test_text_that_the_terminal_cannot_show_is_escaped():
    program = PROGRAM.replace('print(args.num_gpus)', "print('\\xe4')")
    environment = {**os.environ, 'PYTHONIOENCODING': 'ascii'}
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stdout) == (0, '\\xe4\n'), result.stderr


DESTROYED = '''
import os, signal, sys, time
from dnnlib import cli
class Careless:
    def __del__(self):
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
        len(str(self))  # Python handles the signal here, and drops what the handler raises
def main(args):
    del [Careless()][0]
    time.sleep(20)
if sys.argv[1] == 'SIGINT':
    signal.signal(signal.SIGINT, signal.default_int_handler)
parser = cli.ArgumentParser(prog='x.py')
parser.add_argument('signal', help='its name')
cli.run(parser, main)
'''


@pytest.mark.parametrize('name, code, line', [('SIGTERM', 143, 'terminated'), ('SIGINT', 130, 'interrupted')])
def test_a_signal_is_heard_even_while_an_object_is_destroyed(name, code, line):
    result = subprocess.run([sys.executable, '-c', DESTROYED, name], capture_output=True, text=True, timeout=PATIENCE)
    assert (result.returncode, result.stderr) == (code, f'x.py: {line}\n')


@pytest.mark.parametrize('kind', ['RuntimeError', 'util.UserError', 'SystemError'])
def test_a_signal_is_told_whatever_a_library_makes_of_it(kind):
    """Within TensorFlow, Terminated comes out as an error of pybind11's, or trips an assertion."""
    program = PROGRAM.replace('    print(args.num_gpus)\n', f'''    try:
        os.kill(os.getpid(), 15)
        len(str(args))
    except BaseException:
        raise {kind}("replaced")
''')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=PATIENCE)
    assert (result.returncode, result.stderr) == (143, 'x.py: terminated\n')


def test_deferred_signals_wait_and_the_second_does_not():
    before = signal.getsignal(signal.SIGTERM)
    with cli.Deferred() as deferred:
        assert not deferred.asked
        deferred.stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert deferred.asked
        with pytest.raises(cli.Terminated):
            deferred.stop()
        with pytest.raises(cli.Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
            len(str(deferred))
    assert signal.getsignal(signal.SIGTERM) is before


def test_within_lifted_a_signal_does_not_wait():
    # A background job of a shell begins with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with cli.Deferred() as deferred, pytest.raises(KeyboardInterrupt):
        with deferred.lifted():
            os.kill(os.getpid(), signal.SIGINT)
            len(str(deferred))
    assert not deferred.asked
    signal.signal(signal.SIGINT, before)


def test_deferred_does_nothing_in_another_thread():
    done = []

    def work():
        with cli.Deferred() as deferred, deferred.lifted():
            done.append(deferred.asked)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]


def test_help_has_no_empty_defaults():
    parser = cli.ArgumentParser(prog='x.py')
    parser.add_argument('--a', help='first')
    parser.add_argument('--b', default='', help='second')
    parser.add_argument('--c', action='store_true', help='third')
    parser.add_argument('--d', type=int, default=0, help='fourth')
    parser.add_argument('--e', default='x', help='fifth (default: the latest)')
    shown = ' '.join(parser.format_help().split())
    assert 'first --b B second --c third --d D fourth (default: 0) --e E fifth (default: the latest)' in shown
    assert 'helpfull' not in shown


def test_tensorflows_errors_of_the_disk():
    import tensorflow as tf
    message = '{{function_node __wrapped__SaveV2_device_/job:localhost}} out/state; No space left on device [Op:SaveV2]'
    assert cli.refused(tf.errors.ResourceExhaustedError(None, None, message)) == (
        'cannot read or write out/state; No space left on device; make room or choose another folder')
    message = 'Failed to write:\n\tevents/1.v2; No space left on device\n\tFailed to flush 1 events to events/1.v2'
    assert cli.refused(tf.errors.ResourceExhaustedError(None, None, message)) == (
        'cannot read or write events/1.v2; No space left on device; make room or choose another folder')
    error = tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor with shape[64,8000] of float')
    assert cli.refused(error) == 'not enough memory (shape[64,8000]); ask for less at once'
    assert cli.refused(tf.errors.InvalidArgumentError(None, None, 'incompatible shapes')) is None
    assert cli.refused(KeyError('x')) is None
