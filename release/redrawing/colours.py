"""What became of a picture's colours: a map by least squares, of what is not cut off at black or white."""
import numpy as np
import tensorflow as tf

COLOUR_PRIOR = 10.0              # in pixels that say that colours are as they were
SATURATED = 0.99                 # a channel beyond this may have been cut off


def brightened(seen: tf.Tensor, targets: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """What is seen, [N, S, S, 3], as bright and of such contrast as targets of that shape are, and cut off as they are.

    One factor and one summand by least squares; pixels that are saturated or not `inside` [N, S, S, 1] do not count.
    They are taken as given by gradients. (More freedom than that, and Adam finds latents of other pictures.)
    """
    counted = tf.cast(tf.reduce_max(tf.abs(targets), axis=3, keepdims=True) < SATURATED, seen.dtype) * inside
    total = 3 * tf.reduce_sum(counted, axis=[1, 2, 3], keepdims=True) + 1e-6

    def mean(values):
        return tf.reduce_sum(values * counted, axis=[1, 2, 3], keepdims=True) / total
    middle, wanted = mean(seen), mean(targets)
    prior = COLOUR_PRIOR / total
    factor = (mean((seen - middle) * (targets - wanted)) + prior) / (mean(tf.square(seen - middle)) + prior)
    factor, summand = tf.stop_gradient(factor), tf.stop_gradient(wanted - factor * middle)
    return tf.clip_by_value(factor * seen + summand, -1.0, 1.0)


def colour_map(seen: np.ndarray, target: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The map of colours [4, 3] by least squares of what is seen, [S, S, 3], to a target; float64.

    Pixels that are saturated or not `inside` [S, S, 1] do not count.
    """
    pixels = np.concatenate([seen.reshape(-1, 3), np.ones([seen.size // 3, 1])], axis=1)
    wanted = target.reshape(-1, 3)
    counted = (np.abs(wanted).max(1, keepdims=True) < SATURATED) * inside.reshape(-1, 1)
    gram = (pixels * counted).T @ pixels + COLOUR_PRIOR * np.eye(4)
    return np.eye(4, 3) + np.linalg.solve(gram, (pixels * counted).T @ (wanted - pixels[:, :3]))


def residual(seen: np.ndarray, target: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What of a target [S, S, 3] is not explained by what is seen; where its colours are not cut off; the colours."""
    colours = colour_map(seen, target, inside)
    mapped = seen @ colours[:3] + colours[3]
    return (target - np.clip(mapped, -1, 1)) * inside, (np.abs(mapped) < 1) * inside, colours
