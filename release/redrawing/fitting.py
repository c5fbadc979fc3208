"""Fitting pictures that are drawn from numbers to one that is given: Adam, and Levenberg-Marquardt (Marquardt 1963).

What is fitted are the numbers and the place of the picture, and a map of its colours; derivatives are finite
differences, because a generator draws a hundred pictures in less time than it takes to differentiate one by each.
"""
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from release.evidence.resynthesis import Adam
from release.redrawing.colours import brightened, residual
from release.redrawing.placing import averaged, shown

STEPS, RATE, SECOND_DECAY = 40, 0.2, 0.95  # of Adam
PLACED_AFTER, PLACE_RATE = 10, 0.1         # steps for which it leaves places alone; then a step's share of PLACE_UNIT
PLACE_UNIT = np.array([0.1, 0.05, 0.05, 0.1], np.float32)
ROUNDS, LEAST_GAIN = 40, 5e-4    # of Levenberg-Marquardt, at most; it ends when the error falls by less
DAMPINGS = np.array([0.01, 0.1, 1, 10, 100])  # tried in each round, times that of the last
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-6, 10.0
EPSILON = 0.02                   # finite difference of a number
PLACE_EPSILON = np.array([0.02, 0.01, 0.01, 0.02], np.float32)
PLACE_PRIOR = 20.0               # so that place does not run away where a picture hardly tells it


class Fit(NamedTuple):
    """numbers: float32 [dim]. placing: float32 [4] (release.redrawing.placing). colours: float64 [4, 3], by which red,
    green, blue and 1 are multiplied. error: the mean square of what is left where the picture is shown, on [-1, 1]."""
    numbers: np.ndarray
    placing: np.ndarray
    colours: np.ndarray
    error: float


class Fitter:
    """Fits pictures that are drawn from `dim` numbers.

    Args:
        draw: numbers [N, dim] → tensors [N, H, W, 3], H = W = resolution, a multiple of `side`.
        side: of the averages of pixels that are compared.
        settled: numbers [N, dim] → those that draw the same and are compared.
        prior: weight of the numbers being Gaussian of variance 1, the pixels' errors being Gaussian of theirs.
    """

    def __init__(self, draw: Callable[[tf.Tensor], tf.Tensor], dim: int, resolution: int, side: int,
                 settled: Callable[[np.ndarray], np.ndarray] = np.asarray, prior: float = 0.0):
        self._dim, self._side, self._settled, self._prior = dim, side, settled, prior
        numbers, placing = tf.TensorSpec([None, dim]), tf.TensorSpec([None, 4])
        pictures, targets = tf.TensorSpec([None, resolution, resolution, 3]), tf.TensorSpec([None, side, side, 3])
        self.draw = tf.function(draw, [numbers], autograph=False)
        self._averaged = tf.function(lambda images, place: averaged(images, place, side), [pictures, placing],
                                     autograph=False)
        self._seen = tf.function(lambda z, place: averaged(draw(z), place, side), [numbers, placing], autograph=False)
        self._gradient = tf.function(self._find_gradient, [numbers, targets, placing], autograph=False)

    def adam(self, target: np.ndarray, numbers: np.ndarray, placing: np.ndarray,
             moved: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers [N, dim] and placements [N, 4] after STEPS of Adam to a target [side, side, 3] from those given, of
        these shapes, and the errors [N] of the last. Placements stay unless they are `moved`."""
        targets = tf.constant(np.tile(target, [len(numbers), 1, 1, 1]))
        adam = Adam(numbers, RATE, STEPS, SECOND_DECAY)
        places = Adam(placing / PLACE_UNIT, PLACE_RATE, STEPS, SECOND_DECAY)
        for step in range(STEPS):
            rows = tf.constant((places.values * PLACE_UNIT).astype(np.float32))
            gradient, slopes, errors = (value.numpy() for value in
                                        self._gradient(tf.constant(adam.values), targets, rows))
            adam.step(gradient)
            adam.values = self._settled(adam.values)
            if moved and step >= PLACED_AFTER:  # before, they would follow pictures that are not it
                places.step(slopes * PLACE_UNIT)
        return adam.values, (places.values * PLACE_UNIT).astype(np.float32), errors

    def levenberg_marquardt(self, target: np.ndarray, numbers: np.ndarray, placing: np.ndarray, rounds: int = ROUNDS,
                            whitened: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Fit:
        """The Fit to a target [side, side, 3], begun at numbers [dim] and a placement [4]; `rounds` are the most.

        `whitened` takes rows [N, pixels · 3] of what is left to such whose squares are to be least.
        """
        def measured(seen):
            left, passed, colours = residual(seen, target, inside)
            return left, passed, colours, whitened(left.reshape(1, -1))[0]

        damping, inside = FIRST_DAMPING, self.weights(placing)
        seen, by = self.derivatives(numbers, placing)
        left, passed, colours, white = measured(seen)
        error = np.mean(white ** 2)
        for _ in range(rounds):
            slopes = whitened(((by @ colours[:3]) * passed).reshape(len(by), -1))            # [D, pixels]
            steps = self._steps(slopes, white, numbers, damping)
            tried = self._settled((numbers + steps[:, :self._dim]).astype(np.float32))
            places = (placing + steps[:, self._dim:]).astype(np.float32)
            pictures = self._seen(tf.constant(tried), tf.constant(places)).numpy()
            errors = np.array([np.mean(measured(one)[3] ** 2) for one in pictures])
            costs = errors + error * self._prior / white.size * np.sum(tried ** 2, axis=1)
            best = int(np.argmin(costs))
            now = error * (1 + self._prior / white.size * np.sum(numbers ** 2))
            if costs[best] > now * (1 - LEAST_GAIN):
                break
            numbers, placing, error = tried[best], places[best], errors[best]
            damping = float(np.clip(damping * DAMPINGS[best], LEAST_DAMPING, MOST_DAMPING))
            inside = self.weights(placing)
            seen, by = self.derivatives(numbers, placing)
            left, passed, colours, white = measured(seen)
        return Fit(numbers, placing, colours, float(np.mean(left ** 2) / max(inside.mean(), 1e-6)))

    def weights(self, placing: np.ndarray) -> np.ndarray:
        """Which averages show the picture: 0 or 1, [side, side, 1], of a placement [4]."""
        return shown(tf.constant(placing[np.newaxis]), self._side).numpy()[0]

    def derivatives(self, numbers: np.ndarray, placing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The averages [side, side, 3] that numbers [dim] give, and by what they change: [D, side, side, 3].

        D is dim, and 4 of the placement.
        """
        near = np.concatenate([numbers[np.newaxis], numbers + EPSILON * np.eye(self._dim)]).astype(np.float32)
        pictures = self.draw(tf.constant(self._settled(near)))
        seen = self._averaged(pictures, tf.constant(np.tile(placing, [len(near), 1]))).numpy()
        moved = (placing + np.diag(PLACE_EPSILON)).astype(np.float32)
        shifted = self._averaged(tf.repeat(pictures[:1], 4, axis=0), tf.constant(moved)).numpy()
        by_place = (shifted - seen[0]) / PLACE_EPSILON[:, np.newaxis, np.newaxis, np.newaxis]
        return seen[0], np.concatenate([(seen[1:] - seen[0]) / EPSILON, by_place])

    def _steps(self, slopes, left, numbers, damping):
        """[len(DAMPINGS), D]: one step for each damping, of slopes [D, pixels] and what is left [pixels]."""
        weight = self._prior * np.mean(left ** 2)
        gradient = slopes @ left - np.concatenate([weight * numbers, np.zeros(4)])
        hessian = slopes @ slopes.T + np.diag([weight] * self._dim + [PLACE_PRIOR] * 4)
        unit = np.trace(hessian[:self._dim, :self._dim]) / self._dim * np.eye(len(hessian))
        return np.stack([np.linalg.solve(hessian + damping * factor * unit, gradient) for factor in DAMPINGS])

    def _find_gradient(self, numbers, targets, placing):
        """By numbers [N, dim], by placements [N, 4], and errors [N]."""
        with tf.GradientTape() as tape:
            tape.watch(numbers)
            pictures = self.draw.python_function(numbers)
            errors = self._errors(pictures, targets, placing)
            loss = tf.reduce_sum(errors)
        moves = tf.constant(np.diag(PLACE_EPSILON))
        moved = [self._errors(pictures, targets, placing + move) for move in tf.unstack(moves)]
        slopes = (tf.stack(moved, axis=1) - errors[:, tf.newaxis]) / PLACE_EPSILON
        return tape.gradient(loss, numbers), slopes, errors

    def _errors(self, pictures, targets, placing):
        """[N]: mean squares of what is left of targets [N, side, side, 3], where they show the picture."""
        seen, inside = averaged(pictures, placing, self._side), shown(placing, self._side)
        errors = tf.square(brightened(seen, targets, inside) - targets) * inside
        return tf.reduce_mean(errors, axis=[1, 2, 3]) / tf.reduce_mean(inside, axis=[1, 2, 3])
