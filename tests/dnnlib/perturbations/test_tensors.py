import io

import cv2
import numpy as np
import pytest
import tensorflow as tf
from photographs import photographs
from PIL import Image
from scipy import fft, ndimage

from dnnlib.images import to_float
from dnnlib.perturbations import jpeg, resampling, tensors
from dnnlib.perturbations.table import CODEC, TABLE, blur_sigma, check_names

SEED = [3, 5]  # not a tensor: devices are set up after tests are collected
LINEAR = ('crop', 'blur', 'noise', 'rotation', 'resized_crop', 'erasing', 'brightness', 'contrast', 'waves_blur',
          'waves_noise', 'waves_photometric', 'waves_geometric', 'centre_crop', 'resize', 'saturation', 'sharpness',
          'quarter_turn', 'greyscale', 'flip', 'salt_and_pepper', 'screenshot')  # within the range from -1 to 1


def images(count=2, size=16):
    """Faint noise [count, size, size, 3], which stays clear of what is clipped."""
    return tf.random.stateless_normal([count, size, size, 3], [1, 2]) * 0.05


def gentle(name, count=2):
    """Values [count] about a fifth of the way to the severe end; of a row without a range, the first."""
    row = TABLE[name]
    return tf.fill([count], float(row.strengths[0] if row.mild is None else row.mild + 0.2 * (row.severe - row.mild)))


def gradient(operation, inputs, weights):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(operation(inputs) * weights)
    return tape.gradient(loss, inputs)


@pytest.mark.parametrize('name', LINEAR)
def test_gradients_are_those_of_finite_differences(name):
    weights = tf.random.stateless_normal([2, 16, 16, 3], [3, 4])
    direction = tf.random.stateless_normal([2, 16, 16, 3], [5, 6])

    def operation(inputs):
        return tensors.apply(name, inputs, gentle(name), SEED)

    step = 0.02
    change = operation(images() + step * direction) - operation(images() - step * direction)
    expected = float(tf.reduce_sum(change * weights)) / (2 * step)
    found = float(tf.reduce_sum(gradient(operation, images(), weights) * direction))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3) and abs(found) > 0.01


@pytest.mark.parametrize('window', [3, 5])
def test_the_gradient_of_a_median_goes_to_the_pixel_that_it_is(window):
    ones = tf.ones([2, 16, 16, 3])
    found = gradient(lambda x: tensors.apply('median', x, [window] * 2, SEED), images(), ones).numpy()
    assert set(np.unique(found)) <= set(range(window ** 2 + 1)) and found.sum() == ones.numpy().sum()


def test_equal_pixels_have_a_median():
    flat = tf.fill([1, 8, 8, 3], 0.25)
    np.testing.assert_array_equal(tensors.apply('median', flat, [3], SEED), flat)


@pytest.mark.parametrize('name', [name for name, row in TABLE.items() if row.trained])
def test_each_operation_passes_a_finite_gradient_to_every_image_and_takes_any_number(name):
    for count in (1, 3):
        inputs = tf.constant(to_float(photographs(count, 32)))
        found = gradient(lambda x: tensors.apply(name, x, gentle(name, len(x)), SEED), inputs, inputs)  # noqa: B023
        assert np.isfinite(found).all() and np.abs(found).max(axis=(1, 2, 3)).all()


def test_quantization_and_the_codec_pass_gradients_as_they_are():
    weights = tf.random.stateless_normal([2, 16, 16, 3], [3, 4])
    for name, value in (('quantization', 8), (CODEC, 50)):
        found = gradient(lambda x: tensors.apply(name, x, [value] * 2, SEED), images(), weights)  # noqa: B023
        np.testing.assert_allclose(found, weights, atol=1e-6)


@pytest.mark.parametrize('kind, kernel', [(Image.Resampling.BILINEAR, resampling.triangle),
                                          (Image.Resampling.BICUBIC, resampling.cubic)])
@pytest.mark.parametrize('start, length, count', [(0, 32, 12), (0, 32, 45), (5, 20, 32), (9, 23, 23)])
def test_resizing_is_pillows_in_floating_point(kind, kernel, start, length, count):
    picture = np.random.default_rng(0).normal(size=[32, 32]).astype(np.float32)
    cut = Image.fromarray(picture[start:start + length, start:start + length])
    expected = np.asarray(cut.resize((count, count), kind))
    numbers = (tf.constant([float(number)]) for number in (start, length, count))
    matrix = resampling.resize_matrices(32, *numbers, 48, kernel)[0].numpy()
    np.testing.assert_allclose((matrix @ picture @ matrix.T)[:count, :count], expected, atol=1e-5)
    assert not matrix[count:].any()


@pytest.mark.parametrize('kernel', [1, 3, 5, 7, 9])
def test_blur_is_opencvs(kernel):
    picture = photographs(1, 128)[0].astype(np.float32)
    sigma = max(blur_sigma(kernel), 1e-3)  # OpenCV takes 0 for "by the size"
    expected = cv2.GaussianBlur(picture, (kernel, kernel), sigma, borderType=cv2.BORDER_REFLECT_101)
    found = tensors.apply('blur', to_float(picture)[None], [kernel], SEED)[0]
    np.testing.assert_allclose((found + 1) * 127.5, expected, atol=2e-3)


def test_sigma_is_what_opencv_takes_for_a_kernel():
    for kernel in (11, 15, 31):  # up to 9, OpenCV has tables of its own, near the same
        weights = cv2.getGaussianKernel(kernel, -1)[:, 0]
        index = np.arange(kernel) - kernel // 2
        expected = np.exp(-0.5 * np.square(index / blur_sigma(kernel)))
        np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize('radius', [4, 12, 20])
def test_waves_blur_is_scipys_gaussian(radius):
    picture = photographs(1, 64)[0].astype(np.float64)
    sigma = radius / 8
    reach = int(np.ceil(4 * sigma))
    expected = ndimage.gaussian_filter(picture, [sigma, sigma, 0], mode='nearest', radius=[reach, reach, 0])
    found = tensors.apply('waves_blur', to_float(picture)[None], [radius], SEED)[0]
    np.testing.assert_allclose((found + 1) * 127.5, expected, atol=2e-3)


@pytest.mark.parametrize('degrees', [-37.0, 8.0, 45.0])
def test_rotation_is_scipys_within_the_picture(degrees):
    picture = photographs(1)[0].astype(np.float64)
    expected = ndimage.rotate(picture, degrees, reshape=False, order=1)
    found = (resampling.rotate(to_float(picture)[None], tf.constant([degrees]), -1.0)[0].numpy() + 1) * 127.5
    np.testing.assert_allclose(found[20:44, 20:44], expected[20:44, 20:44], atol=0.01)
    assert (found[0, 0] == 0).all()


def test_half_of_the_rotations_go_left():
    halves = tf.concat([tf.ones([400, 4, 8, 3]), -tf.ones([400, 4, 8, 3])], axis=1)
    turned = tensors.apply('rotation', halves, tf.fill([400], 25.0), SEED)
    right = int(tf.reduce_sum(tf.cast(turned[:, 3, 6, 0] > 0, tf.int32)))  # to the left, the right half rises
    assert right == pytest.approx(200, abs=30)


def test_median_is_scipys():
    picture = photographs(1, 32)[0]
    for window in (3, 5):
        expected = ndimage.median_filter(picture, size=[window, window, 1], mode='nearest')
        found = tensors.apply('median', to_float(picture)[None], [window], SEED)[0]
        np.testing.assert_allclose((found + 1) * 127.5, expected, atol=1e-3)


def test_the_tables_of_jpeg_are_those_in_pillows_files():
    for quality in (1, 10, 49, 50, 75, 99, 100):
        file = io.BytesIO()
        Image.new('RGB', (16, 16)).save(file, format='JPEG', quality=quality)
        expected = Image.open(file).quantization
        found = jpeg.tables(tf.constant([float(quality)]))
        for number in (0, 1):
            np.testing.assert_array_equal(found[number].numpy().reshape(-1), expected[number])


def test_the_cosine_transform_is_scipys():
    block = np.random.default_rng(0).normal(size=[8, 8])
    np.testing.assert_allclose(jpeg.DCT @ block @ jpeg.DCT.T, fft.dctn(block, norm='ortho'), atol=1e-12)


def test_the_rounding_of_jpeg_and_its_gradients():
    values = tf.constant([-0.4, 0.0, 0.3, 1.2, 2.5])
    for rounding, expected in ((jpeg.rounded, 3 * (values - tf.round(values)) ** 2), (jpeg.straight, tf.ones(5))):
        np.testing.assert_array_equal(rounding(values), tf.round(values))
        np.testing.assert_allclose(gradient(rounding, values, tf.ones(5)), expected, atol=1e-6)


def test_what_jpeg_loses_has_hardly_a_gradient():
    """A fine, weak pattern is lost at quality 50. Smooth rounding tells so by its gradient, and straight does not."""
    pattern = tf.constant(np.indices([16, 16]).sum(axis=0) % 2 * 2.0 - 1, tf.float32)[None, :, :, None]
    grey = tf.tile(pattern, [1, 1, 1, 3]) * 0.02
    assert np.abs(jpeg.in_graph(grey, tf.constant([50.0]))).max() < 0.01

    def along_pattern(rounding):
        found = gradient(lambda x: jpeg.in_graph(x, tf.constant([50.0]), rounding), grey, pattern)
        return float(tf.reduce_sum(found * pattern))

    assert abs(along_pattern(jpeg.rounded)) < 0.1 * along_pattern(jpeg.straight)


@pytest.mark.parametrize('size', [8, 24])
def test_jpeg_of_sides_that_are_no_multiple_of_16(size):
    inputs = tf.constant(to_float(photographs(2, size)))
    quality = tf.constant([50.0, 90.0])
    assert np.abs(jpeg.in_graph(inputs, quality) - jpeg.codec(inputs, quality)).mean() * 127.5 < 1


def test_noise_salt_and_erasing_are_as_much_as_they_say():
    grey = tf.zeros([4, 64, 64, 3])
    noise = tensors.apply('noise', grey, [0.2] * 4, SEED).numpy()
    assert noise.std() == pytest.approx(0.2, rel=0.02) and abs(noise.mean()) < 0.005
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1] == pytest.approx(0, abs=0.03)
    speckled = tensors.apply('salt_and_pepper', grey, [0.1] * 4, SEED).numpy()
    assert (speckled == 1).mean() == pytest.approx(0.05, abs=0.01) == (speckled == -1).mean()
    assert ((speckled == 0).all(axis=3) | (np.abs(speckled) == 1).all(axis=3)).all()
    erased = tensors.apply('erasing', grey, [0.25] * 4, SEED).numpy() == -1
    assert (erased.mean(axis=(1, 2, 3)) == 0.25).all() and len({one.tobytes() for one in erased}) == 4


NAMES = ('flip', 'greyscale')


@pytest.fixture(scope='module')
def compiled():
    """perturb as it runs in a training step, for a number of images that is not known beforehand."""
    spec = [tf.TensorSpec([None, 8, 8, 3]), tf.TensorSpec([2], tf.int32), tf.TensorSpec([]),
            tf.TensorSpec([], tf.int32)]
    return tf.function(lambda inputs, seed, strength, first: tensors.perturb(inputs, seed, NAMES, strength, first),
                       input_signature=spec)


def test_each_image_gets_one_at_random_or_none(compiled):
    inputs = tf.random.stateless_uniform([300, 8, 8, 3], [1, 2], -1, 1)
    found = compiled(inputs, SEED, 1.0, 0).numpy()
    kinds = {'none': inputs, 'flip': inputs[:, :, ::-1], 'greyscale': tensors.greyscale(inputs, None, None)}
    counts = {name: int(np.isclose(found, kind, atol=1e-6).all(axis=(1, 2, 3)).sum()) for name, kind in kinds.items()}
    assert sum(counts.values()) == 300 and min(counts.values()) > 70
    halfway = compiled(inputs, SEED, 0.5, 0).numpy()
    unchanged = int(np.isclose(halfway, inputs, atol=1e-6).all(axis=(1, 2, 3)).sum())
    assert unchanged == pytest.approx(200, abs=30)  # on and off: the strength is the chance
    np.testing.assert_array_equal(compiled(inputs, SEED, 0.0, 0), inputs)


def test_what_an_image_gets_depends_on_the_seed_and_its_place_alone(compiled):
    inputs = tf.random.stateless_uniform([7, 8, 8, 3], [1, 2], -1, 1)
    whole = compiled(inputs, SEED, 1.0, 0).numpy()
    parts = [compiled(inputs[start:end], SEED, 1.0, start) for start, end in ((0, 3), (3, 4), (4, 7))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(whole, tensors.perturb(inputs, SEED, NAMES, 1.0))  # and eagerly
    assert not np.array_equal(whole, compiled(inputs, [3, 6], 1.0, 0))


def test_without_names_nothing_changes():
    np.testing.assert_array_equal(tensors.perturb(images(), SEED, (), 1.0), images())


def test_values_lie_between_the_mild_end_and_the_strength():
    inputs = tf.fill([200, 8, 8, 3], -0.5)  # brightness by a factor f makes -1 + f/2
    apply = tf.function(lambda strength: tensors.perturb(inputs, SEED, ('brightness',), strength))
    for strength in (0.2, 0.8):
        factors = (apply(tf.constant(strength))[:, 0, 0, 0].numpy() + 1) * 2
        changed = factors[factors != 1]
        assert 60 < len(changed) < 140 and changed.min() >= 1 and changed.max() <= 1 + strength + 1e-6
        assert changed.mean() == pytest.approx(1 + strength / 2, abs=strength / 10)
        assert changed.max() > 1 + 0.9 * strength


def test_a_combination_is_given_the_strength_itself():
    """Its parts draw their own values below it; drawn twice, the severe end would hardly be met."""
    inputs = tf.zeros([200, 16, 16, 3])
    found = tf.function(lambda: tensors.perturb(inputs, SEED, ('combination',), 1.0))().numpy()
    noise = found.std(axis=(1, 2, 3))
    noise = noise[noise > 0.02]                      # half of the images get nothing, half of the others no noise
    assert 30 < len(noise) < 70 and noise.max() > 0.36 and noise.mean() == pytest.approx(0.2, abs=0.05)


def test_gradients_pass_through_perturb_within_a_function():
    inputs = tf.constant(to_float(photographs(6, 16)))
    found = tf.function(lambda x: gradient(lambda x: tensors.perturb(x, SEED, ('crop', 'jpeg'), 1.0), x, x))(inputs)
    assert np.isfinite(found).all() and np.abs(found).max(axis=(1, 2, 3)).all()


def test_every_trained_name_has_an_operation_and_none_other():
    assert set(tensors.OPERATIONS) == set(check_names(','.join([name for name, row in TABLE.items() if row.trained]
                                                               + [CODEC])))
