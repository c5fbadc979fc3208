import pytest
import tensorflow as tf

from dnnlib.ops import native


@pytest.fixture(params=['ref', 'native'])
def impl(request):
    if request.param == 'native' and native.load().ops is None:
        pytest.skip(f'no native ops: {native.load().problem}')
    return request.param


@pytest.fixture(params=['CPU', 'GPU'])
def device(request):
    """Where native ops can run: a context for each kind of device that there is."""
    if native.load().ops is None:
        pytest.skip(f'no native ops: {native.load().problem}')
    if not tf.config.list_physical_devices(request.param):
        pytest.skip(f'there is no {request.param}')
    with tf.device(f'/{request.param}:0'):
        yield request.param
