"""Run by test_xla.py with JAX: writes a package's modules in the form that other compilers read, which holds StableHLO
alone, and prints their names; or the precisions that their products and convolutions ask for."""
import glob
import os
import re
import sys

from jax._src.interpreters import mlir
from jax._src.lib import _jax
from jax._src.lib.mlir import ir

from training.xla_run import read_module

for path in sorted(glob.glob(os.path.join(sys.argv[1], '*.hlo'))):
    module = read_module(path)
    if sys.argv[2:] == ['precisions']:
        with mlir.make_ir_context():
            print(*set(re.findall(r'precision ([A-Z]+)', str(ir.Module.parse(module)))))
    else:
        _jax.mlir.serialize_portable_artifact(module, '1.0.0')
        print(os.path.basename(path).removesuffix('.hlo'))
