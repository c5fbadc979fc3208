import subprocess
import sys

import pytest

from dnnlib import cli
from dnnlib.util import UsageError, UserError

PROGRAM = '''
import dnnlib.cli as cli, dnnlib.util as util
parser = cli.ArgumentParser(prog='x.py')
parser.add_argument('--num-gpus', type=int, default=0, help='GPUs')
parser.add_argument('--fail', help='how')
def main(args):
    print(args.num_gpus)
    if args.fail:
        raise getattr(util, args.fail)('what and how')
cli.run(parser, main)
'''


@pytest.mark.parametrize('flags, code, error', [
    ([], 0, ''), (['--num_gpus=3'], 0, ''), (['--num-gpus', '3'], 0, ''),
    (['--num-gpu=3'], 2, 'did you mean --num-gpus?'), (['--num-gpus=x'], 2, "invalid int value: 'x'"),
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
