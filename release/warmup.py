"""Warm-up requests for TensorFlow Serving: what a server runs once at loading, so that no user waits for it.

The file is assets.extra/tf_serving_warmup_requests in the SavedModel: TFRecords of PredictionLog
(https://www.tensorflow.org/tfx/serving/saved_model_warmup). The messages are few, so they are written here field by
field, by the numbers in tensorflow_serving/apis/{prediction_log,predict,model}.proto, and tests hold them to that
package's own classes.
"""
import os

import numpy as np
import tensorflow as tf

FILE = os.path.join('assets.extra', 'tf_serving_warmup_requests')
BATCH_SIZES = (1, 4, 16, 32)  # which a server is told to pad to (release/serving.py)

PREDICT_LOG = 6                                  # of PredictionLog
REQUEST = 1                                      # of PredictLog
MODEL_SPEC, INPUTS = 1, 2                        # of PredictRequest
SIGNATURE_NAME = 3                               # of ModelSpec
KEY, VALUE = 1, 2                                # of a map's entry


def write_warmup(folder: str, latent_dim: int) -> None:
    """Writes one request of zeros for each of BATCH_SIZES into a SavedModel's folder. Always the same bytes."""
    path = os.path.join(folder, FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for size in BATCH_SIZES:
            writer.write(prediction_log('latents', np.zeros([size, latent_dim], np.float32)))


def prediction_log(name: str, values: np.ndarray, signature: str = 'serving_default') -> bytes:
    """A PredictionLog of one PredictRequest with one input. It names no model: a server warms up the one it loads."""
    entry = _field(KEY, name.encode()) + _field(VALUE, tf.make_tensor_proto(values).SerializeToString())
    request = _field(MODEL_SPEC, _field(SIGNATURE_NAME, signature.encode())) + _field(INPUTS, entry)
    return _field(PREDICT_LOG, _field(REQUEST, request))


def _field(number, data):
    """A field of bytes, text or a message in protobuf's wire format."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value):
    """A whole number, seven bits a byte, the lowest first; the highest bit says that more follow."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
