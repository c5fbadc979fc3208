"""What pip builds this project with: setuptools, for editable installs only.

The packages have plain names, `datasets` among them: a wheel would overwrite Hugging Face's package of that name.
"""
from setuptools.build_meta import (  # noqa: F401
    build_editable,
    get_requires_for_build_editable,
    prepare_metadata_for_build_editable,
)


def get_requires_for_build_wheel(config_settings=None):
    """What pip calls first for anything but an editable install. Raises SystemExit, before anything is downloaded."""
    raise SystemExit('error: this project runs from its own folder; install it there by: pip install -e .')


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Required of a backend. Raises SystemExit."""
    get_requires_for_build_wheel()


def build_sdist(sdist_directory, config_settings=None):
    """Required of a backend. Raises SystemExit."""
    get_requires_for_build_wheel()
