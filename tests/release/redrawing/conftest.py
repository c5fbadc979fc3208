"""What tests of pictures that are drawn again share."""
import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(0)
