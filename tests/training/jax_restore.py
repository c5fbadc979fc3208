"""Restores a state into a package in JAX, and prints why not; a test starts it: PACKAGE STATE."""
import sys

from dnnlib.util import UserError
from training.xla_run import Package

if __name__ == '__main__':
    try:
        Package(sys.argv[1], ['average']).restore(sys.argv[2])
    except UserError as error:
        print(error)
