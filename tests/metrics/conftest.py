import pytest

from metrics.inception import CACHE_VARIABLE


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Each test's own cache of downloads and statistics."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / 'cache'))
