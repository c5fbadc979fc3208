"""The owner's decoder as a SavedModel, for a server of the owner's own. Who has it can learn to fool it."""
import tensorflow as tf

from dnnlib.images import to_float_tensor
from dnnlib.util import atomic_folder
from release.issue import VERSION
from training.snapshot import Snapshot


def export_decoder(snapshot: Snapshot, folder: str) -> None:
    """Writes FOLDER/1, readable by its owner only: images to `logits` [N, bits] float32; a bit is 1 where positive.

    Signatures, N free: 'serving_default' takes `images` [N, H, W, 3] uint8; 'encoded' takes `files` [N], the bytes of
    PNG, JPEG, BMP or GIF files of 8 bits of the model's size. Of the latter a transparent one, one turned by EXIF, or
    one of another colour space is not brought into shape as by `attribute`; a server's client sends pixels then.

    Args:
        snapshot: of the run whose instances are to be read, loaded with impl='ref'.

    Raises:
        UserError: the folder exists.
    """
    side = snapshot.resolution

    def from_pixels(images):
        logits = snapshot.method.decode(snapshot.nets, to_float_tensor(images))
        return {'logits': tf.ensure_shape(logits, [None, snapshot.config.fingerprint_bits])}

    def from_files(files):
        images = tf.map_fn(lambda file: decoded(file, side), files, fn_output_signature=tf.uint8)
        return from_pixels(tf.ensure_shape(images, [None, side, side, 3]))

    module = tf.Module()
    module.pixels = tf.function(from_pixels, input_signature=[tf.TensorSpec([None, side, side, 3], tf.uint8, 'images')])
    module.read = module.pixels.get_concrete_function().graph.variables  # of the networks, what reading takes
    module.files = tf.function(from_files, input_signature=[tf.TensorSpec([None], tf.string, 'files')])
    with atomic_folder(folder, private=True) as temporary:
        tf.saved_model.save(module, f'{temporary}/{VERSION}',
                            signatures={'serving_default': module.pixels, 'encoded': module.files})


def decoded(file: tf.Tensor, side: int) -> tf.Tensor:
    """A file's picture, uint8 [side, side, 3]; anything else fails the request. JPEG as Pillow has it, to the bit."""
    image = tf.cond(tf.io.is_jpeg(file),
                    lambda: tf.io.decode_jpeg(file, channels=3, dct_method='INTEGER_ACCURATE'),
                    lambda: tf.io.decode_image(file, channels=3, expand_animations=False))
    with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(image), [side, side, 3],
                                                            f'the picture is not {side}x{side}')]):
        return tf.reshape(image, [side, side, 3])
