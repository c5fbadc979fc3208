"""Perturbations in training: batches of float images, each image at its own strength, differentiable.

    perturbed = perturb(images, seed, check_names('crop,jpeg'), strength)

Images are float32 [N, H, W, 3] in [−1, 1], H = W and known when the graph is built, N of any size. All randomness is a
function of a seed [2], so that a resumed run repeats the run it resumes. Whatever an operation clips or rounds, the
result lies in [−1, 1]; unlike a file's, it is not rounded to 8 bits but where the operation is a rounding.

An operation is a function (images, values [N] in its row's unit, seed [2]) -> images.
"""
import functools

import tensorflow as tf

from dnnlib.perturbations import jpeg, resampling
from dnnlib.perturbations.table import (
    CODEC,
    COMBINED,
    NONE,
    REGISTERED_TURN,
    SIGNATURE_CHAIN,
    TABLE,
    WAVES_GROUPS,
    blur_sigma,
    row_of,
    value_at,
)

BLACK = -1.0
GREY = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as Pillow has it


def perturb(images, seed, names, strength, first=0):
    """Perturbs each image by one of `names`, or by nothing, drawn at random with equal chances.

    Each image is drawn and computed by itself, in a loop within the graph: of all operations only the one that was
    drawn runs, and what an image gets depends on `seed` and its place alone, not on how a batch is split.

    Args:
        images: float32 [N, H, W, 3] in [−1, 1], H = W.
        seed: int32 [2].
        names: perturbations that have a differentiable version, as `check_names` gives them.
        strength: scalar in [0, 1], which a schedule may ramp: a value lies between the mild end of its row's range
            and this share of the way to the severe end, uniformly.
        first: the place of the first image in the whole batch, for a replica that works on a part of it.

    Returns: float32 [N, H, W, 3]; what is perturbed lies in [−1, 1], what is not stays as it is.
    """
    choices = [functools.partial(_draw_and_apply, name) for name in (NONE, *names)]

    def one(values):
        image, place = values
        kind, drawn = tf.unstack(tf.random.split(tf.random.fold_in(seed, place), 2))
        choice = tf.random.stateless_uniform([], kind, 0, len(choices), tf.int32)
        branches = [functools.partial(choose, image[None], drawn, strength) for choose in choices]
        return tf.switch_case(choice, branches)[0]

    places = tf.range(tf.shape(images)[0]) + tf.cast(first, tf.int32)
    return tf.map_fn(one, (images, places), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32))


def _draw_and_apply(name, images, seed, strength):
    """An operation on all images, at values drawn up to a strength."""
    if name == NONE:
        return images
    row = row_of(name)
    applied, drawn, own = tf.unstack(tf.random.split(seed, 3))
    if row.mild is None:
        happens = tf.random.stateless_uniform(_count(images), applied) < strength
        index = tf.random.stateless_uniform(_count(images), drawn, 0, len(row.strengths), tf.int32)
        values = tf.gather(tf.constant(row.strengths, tf.float32), index)
        return _only_where(happens, apply(name, images, values, own), images)
    shares = 1.0 if row.draws_below else tf.random.stateless_uniform(_count(images), drawn)
    return apply(name, images, value_at(name, shares * strength * tf.ones(_count(images))), own)


def apply(name, images, values, seed):
    """One operation at given values.

    Args:
        name: a perturbation of the table that is trained, 'jpeg_codec', or 'none'.
        images: float32 [N, H, W, 3] in [−1, 1], H = W.
        values: [N], in the unit that the table says.
        seed: int32 [2], of what else is random: places, directions, noise, what a combination draws.

    Returns: float32 [N, H, W, 3] in [−1, 1].
    """
    if name == NONE:
        return images
    perturbed = OPERATIONS[name](images, tf.convert_to_tensor(values, tf.float32), seed)
    return tf.ensure_shape(tf.clip_by_value(perturbed, -1.0, 1.0), images.shape)


def uniforms(images, seed, count):
    """`count` random numbers from [0, 1) for each image: [N, count]."""
    return tf.random.stateless_uniform([tf.shape(images)[0], count], seed)


def _count(images):
    return [tf.shape(images)[0]]


def _each(values):
    """[N] → [N, 1, 1, 1]."""
    return values[:, None, None, None]


def _only_where(happens, perturbed, images):
    return tf.where(_each(happens), perturbed, images)


def _blend(base, images, factors):
    """Between two pictures at factor 0 to 1, and beyond the second at more."""
    return base + _each(factors) * (images - base)


def crop(images, values, seed):
    return resampling.crop(images, values / 128, uniforms(images, seed, 2))


def resized_crop(images, values, seed):
    return resampling.crop(images, tf.sqrt(values), uniforms(images, seed, 2))


def centre_crop(images, values, seed):
    return resampling.crop(images, tf.sqrt(values), tf.fill([tf.shape(images)[0], 2], 0.5))


def registered_crop(images, values, seed):
    """A crop put back at the whole pixels that are nearest to where it was: what a search for its place finds."""
    return resampling.registered_crop(images, values / 128, uniforms(images, seed, 2))


def resize(images, values, seed):
    return resampling.there_and_back(images, tf.sqrt(values), 1, resampling.triangle)


def screenshot(images, values, seed):
    return resampling.there_and_back(images, values, TABLE['screenshot'].severe, resampling.cubic)


def blur(images, values, seed):
    scale = images.shape[1] / 128
    radii = tf.math.ceil((values - 1) / 2 * scale)
    return resampling.gaussian_blur(images, blur_sigma(values) * scale, radii, 'reflect')


def waves_blur(images, values, seed):
    sigmas = values * (images.shape[1] / 512)
    return resampling.gaussian_blur(images, sigmas, tf.math.ceil(4 * sigmas), 'nearest')


def rotation(images, values, seed):
    left = uniforms(images, seed, 1)[:, 0] < 0.5
    return resampling.rotate(images, tf.where(left, values, -values), BLACK)


def registered_rotation(images, values, seed):
    """A rotation turned back, by at most half a degree too much or too little: what a search for its angle finds."""
    of_side, of_error = tf.unstack(tf.random.split(seed, 2))
    degrees = tf.where(uniforms(images, of_side, 1)[:, 0] < 0.5, values, -values)
    too_much = REGISTERED_TURN * (2 * uniforms(images, of_error, 1)[:, 0] - 1)
    turned = resampling.rotate(images, degrees, BLACK)
    return resampling.rotate(turned, too_much - degrees, BLACK)


def quarter_turn(images, values, seed):
    return resampling.quarter_turns(images, tf.round(values / 90))


def flip(images, values, seed):
    return images[:, :, ::-1]


def erasing(images, values, seed):
    """A black square of a share of the area, somewhere within."""
    size = images.shape[1]
    places = uniforms(images, seed, 2)
    side = tf.round(tf.sqrt(values) * size)                                         # [N]
    start = tf.minimum(tf.floor(places * (size - side + 1)[:, None]), size - side[:, None])
    index = tf.range(size, dtype=tf.float32)
    rows, columns = [(index >= start[:, axis, None]) & (index < (start[:, axis] + side)[:, None]) for axis in (0, 1)]
    return tf.where((rows[:, :, None] & columns[:, None, :])[..., None], BLACK, images)


def noise(images, values, seed):
    return images + _each(values) * tf.random.stateless_normal(tf.shape(images), seed)


def waves_noise(images, values, seed):
    return noise(images, 2 * values, seed)


def salt_and_pepper(images, values, seed):
    """A share of the pixels, half of them black and half of them white."""
    drawn = tf.random.stateless_uniform(tf.shape(images)[:3], seed)[..., None]
    share = _each(values)
    return tf.where(drawn < share / 2, BLACK, tf.where(drawn < share, 1.0, images))


def grey_of(images):
    """The brightness of each pixel, [N, H, W, 1]."""
    return tf.reduce_sum(images * GREY, axis=3, keepdims=True)


def greyscale(images, values, seed):
    return tf.tile(grey_of(images), [1, 1, 1, 3])


def brightness(images, values, seed):
    return _blend(BLACK, images, values)


def contrast(images, values, seed):
    return _blend(tf.reduce_mean(grey_of(images), axis=[1, 2], keepdims=True), images, values)


def saturation(images, values, seed):
    return _blend(grey_of(images), images, values)


def sharpness(images, values, seed):
    """Away from a picture smoothed by 3×3 pixels, 5/13 of them the middle's; the outermost pixels stay."""
    kernel = tf.fill([3, 3, 3, 1], 1 / 13) + tf.scatter_nd([[1, 1, c, 0] for c in range(3)], [4 / 13] * 3, [3, 3, 3, 1])
    smooth = tf.nn.depthwise_conv2d(images, kernel, [1, 1, 1, 1], 'VALID')
    inner = _blend(smooth, images[:, 1:-1, 1:-1], values)
    middle = tf.concat([images[:, 1:-1, :1], inner, images[:, 1:-1, -1:]], axis=2)
    return tf.concat([images[:, :1], middle, images[:, -1:]], axis=1)


def median(images, values, seed):
    """The median of each 3×3 or 5×5 pixels, channel by channel; beyond the edge its pixels are repeated."""
    small, large = (functools.partial(_median, images, window) for window in TABLE['median'].strengths)
    # Nine times the work of the small one, which is not done for nothing where an image is computed by itself.
    either = tf.cond(tf.reduce_any(values > 4), large, small)
    return tf.where(_each(values) > 4, either, small())


def _median(images, window):
    reach, (height, width) = window // 2, images.shape[1:3]
    rows, columns = (tf.clip_by_value(tf.range(-reach, size + reach), 0, size - 1) for size in (height, width))
    padded = tf.gather(tf.gather(images, rows, axis=1), columns, axis=2)
    near = tf.stack([padded[:, y:y + height, x:x + width] for y in range(window) for x in range(window)], axis=4)
    first, second = near[..., None], near[..., None, :]
    earlier = tf.constant([[j < i for j in range(window ** 2)] for i in range(window ** 2)])
    below = (second < first) | ((second == first) & earlier)  # of equal ones the first counts as less
    rank = tf.math.count_nonzero(below, axis=-1, dtype=tf.int32)                     # [N, H, W, 3, window²]
    return tf.reduce_sum(tf.where(rank == window ** 2 // 2, near, 0.0), axis=4)


def quantization(images, values, seed):
    """Each channel in that many evenly spaced levels, black and white among them; the gradient is taken as 1."""
    steps = _each(values - 1)
    return jpeg.straight((images + 1) / 2 * steps) / steps * 2 - 1


def compression(images, values, seed):
    return jpeg.in_graph(images, values)


def codec_compression(images, values, seed):
    return jpeg.codec(images, values)


def combination(images, values, seed):
    """The paper's: crop, blur, JPEG and noise in turn, each with chance 1/2, each value drawn up to the strength."""
    seeds = tf.unstack(tf.random.split(seed, len(COMBINED) + 1))
    drawn = tf.reshape(uniforms(images, seeds[-1], 2 * len(COMBINED)), [-1, len(COMBINED), 2])
    for number, name in enumerate(COMBINED):
        happens = drawn[:, number, 0] < 0.5
        value = value_at(name, values * drawn[:, number, 1])
        images = _only_where(happens, apply(name, images, value, seeds[number]), images)
    return images


def in_turn(names, images, values, seed):
    """WAVES' combinations: each of `names` in turn, at the strength itself."""
    for name, own in zip(names, tf.unstack(tf.random.split(seed, len(names)))):
        images = apply(name, images, value_at(name, values), own)
    return images


def signature_combination(images, values, seed):
    for name, value in SIGNATURE_CHAIN:
        images = apply(name, images, tf.fill(_count(images), float(value)), seed)
    return images


OPERATIONS = {
    'crop': crop, 'blur': blur, 'jpeg': compression, CODEC: codec_compression, 'noise': noise,
    'combination': combination,
    'rotation': rotation, 'resized_crop': resized_crop, 'erasing': erasing, 'brightness': brightness,
    'contrast': contrast, 'waves_blur': waves_blur, 'waves_noise': waves_noise, 'waves_jpeg': compression,
    **{name: functools.partial(in_turn, names) for name, names in WAVES_GROUPS.items()},
    'centre_crop': centre_crop, 'resize': resize, 'saturation': saturation, 'sharpness': sharpness,
    'signature_combination': signature_combination, 'quarter_turn': quarter_turn,
    'greyscale': greyscale, 'flip': flip, 'median': median, 'quantization': quantization,
    'salt_and_pepper': salt_and_pepper, 'registered_crop': registered_crop,
    'registered_rotation': registered_rotation, 'screenshot': screenshot,
}
