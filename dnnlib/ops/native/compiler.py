"""Builds the native ops into the user's cache folder: C++ where there is a compiler, CUDA too where there is nvcc."""
import collections
import concurrent.futures
import contextlib
import fcntl
import glob
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile

import tensorflow as tf

from dnnlib.lanes import CUDA_ARCHITECTURES
from dnnlib.util import UserError, atomic_file, make_folder, read_json, sha256_file, write_json

COMMAND = 'python -m dnnlib.ops.native.build'
SOURCES = os.path.dirname(os.path.abspath(__file__))
TIMEOUT = 900  # seconds for one compiler call

Toolchain = collections.namedtuple('Toolchain', ['cxx', 'cxx_version', 'nvcc', 'nvcc_version', 'architectures'])


class BuildError(UserError):
    """The ops can't be built. One line: the reason and the remedy."""


def build():
    """(path of the built library, what is known of it), built now unless that was done or has failed before.

    Raises:
        BuildError: no compiler, or the build failed, now or earlier; one line with the reason and the remedy.
    """
    tools = toolchain()
    if not tools.cxx:
        return _built_before()
    name = os.path.join(cache_folder(), source_key() + '-' + _hash(repr(tools)))
    if not os.path.exists(name + '.json'):
        with _locked(name + '.lock'):
            if not os.path.exists(name + '.json'):
                print('dnnlib: building the native ops, once for this machine (up to a minute)', file=sys.stderr,
                      flush=True)
                _build(name, tools)
    info = read_json(name + '.json')
    if info['problem']:
        raise BuildError(info['problem'])
    return name + '.so', info


def cache_folder():
    """Where the built ops live: $XDG_CACHE_HOME/dnnlib, or ~/.cache/dnnlib."""
    return os.path.join(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'dnnlib')


def toolchain():
    """What there is to build with: names are None, versions empty and architectures () where there is nothing."""
    cxx = next(filter(None, map(shutil.which, [os.environ.get('CXX', 'g++'), 'g++', 'clang++', 'c++'])), None)
    nvcc = shutil.which('nvcc') if cxx and tf.test.is_built_with_cuda() else None
    return Toolchain(cxx, _version(cxx), nvcc, _version(nvcc), _architectures(nvcc))


def _version(compiler):
    return _output([compiler, '--version']).strip() if compiler else ''


def _output(command):
    """A command's stdout, empty where it can't be run or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ''


def _architectures(nvcc):
    """The compute capabilities ('90') of this machine's GPUs, or a list without one; only those that nvcc knows."""
    if not nvcc:
        return ()
    found = _output(['nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader']).replace('.', '').split()
    known = _output([nvcc, '--list-gpu-arch'])
    return tuple(arch for arch in sorted(set(found) or CUDA_ARCHITECTURES, key=int) if f'compute_{arch}\n' in known)


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def source_key():
    """Of everything but the tools: the sources, TensorFlow, and this processor, since the kernels are built for it."""
    sources = [(os.path.basename(path), sha256_file(path)) for path in _sources('*.h', '*.cuh', '*.cc', 'compiler.py')]
    return _hash(repr((sources, tf.__version__, tf.sysconfig.get_compile_flags(), platform.machine(), _processor())))


def _sources(*patterns):
    return sorted(path for pattern in patterns for path in glob.glob(os.path.join(SOURCES, pattern)))


def _processor():
    """The instruction sets of this machine, as far as the system tells."""
    try:
        with open('/proc/cpuinfo') as file:
            return sorted({line for line in file if line.split(':')[0].strip() in ('flags', 'Features', 'model name')})
    except OSError:
        return platform.processor()


def _built_before():
    """Without a compiler: what a compiler that was here before has built from the same sources."""
    paths = glob.glob(os.path.join(cache_folder(), source_key() + '-*.so'))
    if paths:
        path = max(paths, key=os.path.getmtime)
        return path, read_json(path[:-3] + '.json')
    raise BuildError(f'there is no C++ compiler on PATH; install g++ and run {COMMAND}')


@contextlib.contextmanager
def _locked(path):
    """One process at a time; the others wait. The lock goes with its process, however that ends."""
    try:
        make_folder(os.path.dirname(path))
    except UserError as error:
        raise BuildError(f'{error} by XDG_CACHE_HOME') from None
    with open(path, 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(name, tools):
    """Writes NAME.so and then NAME.json, or only NAME.json (and NAME.log) with the problem."""
    info = {'tensorflow': tf.__version__, 'cxx': tools.cxx_version.splitlines()[:1], 'cuda': None, 'architectures': [],
            'cuda_problem': _no_cuda(tools), 'problem': None}
    with tempfile.TemporaryDirectory(dir=os.path.dirname(name)) as folder:
        try:
            if tools.architectures:
                _try_cuda(folder, name, tools, info)
            if not info['cuda']:
                _compile(folder, name, tools, cuda=False)
            os.replace(os.path.join(folder, 'ops.so'), name + '.so')
        except BuildError as error:
            info['problem'] = str(error)
    write_json(name + '.json', info)


def _no_cuda(tools):
    """Why the build has no CUDA, if nothing is even tried."""
    if tools.nvcc:
        return f'{tools.nvcc} knows no GPU of this machine; install a CUDA toolkit that does and run {COMMAND}'
    return f'no nvcc is on PATH; install the CUDA toolkit and run {COMMAND}'


def _try_cuda(folder, name, tools, info):
    """The build with CUDA; where it fails, the CPU part can still be built alone."""
    try:
        _compile(folder, name, tools, cuda=True)
        info.update(cuda=_release(tools.nvcc_version), architectures=list(tools.architectures), cuda_problem=None)
    except BuildError as error:
        info['cuda_problem'] = str(error)


def _release(nvcc_version):
    """'13.0' out of what nvcc --version prints."""
    return next((word.rstrip(',') for before, word in zip(nvcc_version.split(), nvcc_version.split()[1:])
                 if before == 'release'), 'unknown')


def _compile(folder, name, tools, cuda):
    """Compiles every source, several at a time, and links ops.so."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        commands = [(source, os.path.join(folder, os.path.basename(source) + '.o'))
                    for source in _sources('*.cc') if cuda or not source.endswith('.cu.cc')]
        jobs = [pool.submit(_run, [*compile_command(source, tools, cuda), '-o', target], name + '.log')
                for source, target in commands]
        for job in jobs:
            job.result()
    _run([tools.cxx, '-shared', '-o', os.path.join(folder, 'ops.so'), *(target for _, target in commands),
          *tf.sysconfig.get_link_flags()], name + '.log')


def compile_command(source, tools, cuda):
    """The compiler call for one source, without its output.

    The kernels (*_cpu.cc) see no TensorFlow header and are built for this very processor; the registrations are built
    with TensorFlow's own flags, so that both agree on the layout of its classes; *.cu.cc go to nvcc.
    """
    if source.endswith('.cu.cc'):
        return [tools.nvcc, *cuda_flags(tools.architectures), '-Xcompiler', '-fPIC', '-c', source]
    if source.endswith('_cpu.cc'):
        native = ['-march=native'] if platform.machine() in ('x86_64', 'AMD64') else ['-mcpu=native']
        return [tools.cxx, '-std=c++17', '-O3', *native, '-fPIC', '-c', source]
    flags = [flag.replace('-I', '-isystem', 1) if flag.startswith('-I') else flag
             for flag in tf.sysconfig.get_compile_flags()]
    return [tools.cxx, *flags, '-O2', '-fPIC', *(['-DDNNLIB_CUDA'] if cuda else []), '-c', source]


def cuda_flags(architectures):
    """nvcc's flags: machine code for each architecture, and PTX of the last for newer GPUs."""
    codes = [f'arch=compute_{arch},code=sm_{arch}' for arch in architectures]
    last = architectures[-1]
    return ['-x', 'cu', '-std=c++17', '-O3', *(word for code in codes for word in ('-gencode', code)),
            '-gencode', f'arch=compute_{last},code=compute_{last}']


def _run(command, log):
    """Runs a compiler. Raises BuildError with its first error; all it said is in the log."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        said, failed = result.stdout + result.stderr, result.returncode != 0
    except (OSError, subprocess.TimeoutExpired) as error:
        said, failed = str(error), True
    if failed:
        with atomic_file(log) as file:
            file.write(' '.join(command) + '\n' + said)
        errors = [line for line in said.splitlines() if 'error' in line.lower()] or said.splitlines()[-1:] or ['?']
        raise BuildError(f'{os.path.basename(command[0])} failed ({errors[0].strip()}; all of it is in {log}); mend '
                         f'that and run {COMMAND}')
