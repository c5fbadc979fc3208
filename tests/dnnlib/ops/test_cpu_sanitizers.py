"""The CPU kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer, without TensorFlow."""
import glob
import os
import shutil
import subprocess

import pytest

from dnnlib.ops.native import compiler

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.mark.parametrize('sanitizer', ['address,undefined', 'thread'])
def test_cpu_kernels_are_clean(sanitizer, tmp_path):
    gxx = shutil.which('g++')
    if gxx is None:
        pytest.skip('there is no g++ on PATH')
    driver = str(tmp_path / 'driver')
    sources = [os.path.join(HERE, 'cpu_kernels_driver.cc'), *glob.glob(os.path.join(compiler.SOURCES, '*_cpu.cc'))]
    command = [gxx, '-std=c++17', '-O1', '-g1', '-march=native', '-pthread', f'-fsanitize={sanitizer}',
               '-fno-sanitize-recover=all', '-I', compiler.SOURCES, *sources, '-o', driver]
    built = subprocess.run(command, capture_output=True, text=True)
    if 'cannot find' in built.stderr:
        pytest.skip(f'this g++ comes without the sanitizer: {built.stderr.splitlines()[0]}')
    assert built.returncode == 0, built.stderr
    # where address space is randomised too far for it, ThreadSanitizer must start without
    start = ['setarch', '-R'] if sanitizer == 'thread' and shutil.which('setarch') else []
    ran = subprocess.run([*start, driver], capture_output=True, text=True)
    if start and 'setarch' in ran.stderr:
        ran = subprocess.run([driver], capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout == 'ok\n', ran.stdout + ran.stderr[:4000]
