"""The project's version. setup.py runs this file, so it imports nothing but the standard library."""
import platform

VERSION = '0.2.0'


def versions():
    """The versions of project, Python and TensorFlow, one line. Imports no TensorFlow."""
    import importlib.metadata  # slow to import, and needed for --version only
    try:
        tensorflow = f'TensorFlow {importlib.metadata.version("tensorflow")}'
    except importlib.metadata.PackageNotFoundError:
        tensorflow = 'no package tensorflow'
    return f'scalable-fingerprinting {VERSION}, Python {platform.python_version()}, {tensorflow}'
