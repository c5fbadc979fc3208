"""`python -m dnnlib.ops.native.build` builds the native ops now, and says what for."""
import glob
import os
import sys

from dnnlib.ops.native import compiler
from dnnlib.util import UserError, read_json


def main():
    """Builds, trying once more what has failed before, and prints what was built. Returns the exit code."""
    for path in glob.glob(os.path.join(compiler.cache_folder(), compiler.source_key() + '-*.json')):
        if read_json(path)['problem'] or read_json(path)['cuda_problem']:
            os.unlink(path)
    try:
        path, info = compiler.build()
    except UserError as error:
        print(f'native ops: not built; {error}\nEverything works without them, more slowly.')
        return 0
    cuda = f'CUDA {info["cuda"]} for sm_' + ', sm_'.join(info['architectures']) if info['cuda'] else (
        f'without CUDA: {info["cuda_problem"]}')
    print(f'native ops for TensorFlow {info["tensorflow"]} and this processor by {info["cxx"][0]}, {cuda}\n{path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
