"""What an inversion leaves of a picture: marks and noise, and the least squares that tell bits of these."""
import numpy as np
from scipy.stats import norm

from release.redrawing.colours import residual
from release.redrawing.inversion import LEAST_DEVIATION, Inversion, Inverter


class Left:
    """What an inversion leaves of a picture, in units of its deviation, less what errors of the inversion may be.

    slopes: [pixels], by how much a change before cutting off shows, in the same units. whitened: [pixels], what is
    left. deviations: [pixels], the units, on [-1, 1].

    Args:
        target: a picture's averages, [side, side, 3].
        found: what the inverter found of it.
    """

    def __init__(self, inverter: Inverter, target: np.ndarray, found: Inversion):
        inside = inverter.weights(found.placing)                                             # [side, side, 1]
        seen, by = inverter.derivatives(found.latents, found.placing)
        left, passed, _ = residual(seen, target, inside)
        deviation = max(np.sqrt(np.mean(left[passed > 0] ** 2)), LEAST_DEVIATION) if passed.any() else 1.0
        mapped = seen @ found.colours[:3] + found.colours[3]
        mean, slope, variance = clipped(mapped, deviation)
        weights = inside / np.sqrt(variance)
        self._share, self._left = inside.mean(), ((target - mean) * inside).ravel()
        self.slopes, self.deviations = (slope * weights).ravel(), np.sqrt(variance).ravel()
        changes = ((by @ found.colours[:3]) * slope * weights).reshape(len(by), -1)
        self._nuisance = np.linalg.qr(changes.T)[0]                                          # [pixels, D]
        self.whitened = self.without_nuisance(((target - mean) * weights).reshape(1, -1))[0]

    def unexplained(self, marks: np.ndarray) -> float:
        """The mean square, where the picture is shown, that marks [pixels] in these units do not explain either."""
        return float(np.mean((self._left - marks * self.deviations) ** 2) / max(self._share, 1e-6))

    def explained(self, marks: np.ndarray, bits: int) -> float:
        """What marks [pixels] of so many bits explain, per bit, in units of what is left per pixel."""
        without, left = self.unexplained(np.zeros_like(marks)), self.unexplained(marks)
        free = max(self._share * self._left.size - bits - self._nuisance.shape[1], 1)
        return (without - left) / bits / max(left, LEAST_DEVIATION ** 2) * free

    def without_nuisance(self, rows: np.ndarray) -> np.ndarray:
        """Rows [N, pixels] less what derivatives by latent and place explain of them."""
        return rows - (rows @ self._nuisance) @ self._nuisance.T

    def bits(self, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Bits [B] around ±1 by least squares of marks [B, pixels] in these units; their variances; that of the noise
        beside them."""
        marks = self.without_nuisance(marks)
        noise = noise_beside(marks, self.whitened)
        return (*least_squares(marks, self.whitened, noise), noise)


def clipped(values: np.ndarray, deviation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of Gaussians of these means and this deviation, clipped to [-1, 1]: the mean, its slope and the variance."""
    upper, lower = (1 - values) / deviation, (-1 - values) / deviation
    slope = norm.cdf(upper) - norm.cdf(lower)
    above, below = norm.sf(upper), norm.cdf(lower)
    mean = values * slope + deviation * (norm.pdf(lower) - norm.pdf(upper)) + above - below
    square = (values ** 2 + deviation ** 2) * slope + above + below + deviation * (
        (values - 1) * norm.pdf(lower) - (values + 1) * norm.pdf(upper))
    return mean, slope, np.maximum(square - mean ** 2, LEAST_DEVIATION ** 2)


def least_squares(marks: np.ndarray, target: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Bits [B] around ±1 that explain a target [pixels] by marks [B, pixels] and noise of a variance; their variances.

    Bits are taken for Gaussian of variance 1 beforehand.
    """
    covariance = np.linalg.inv(marks @ marks.T / noise + np.eye(len(marks)))
    return covariance @ (marks @ target) / noise, np.diag(covariance)


def noise_beside(marks: np.ndarray, target: np.ndarray) -> float:
    """The variance of what bits of marks [B, pixels] don't explain of a target [pixels], where all counts as noise at
    first."""
    bits, _ = least_squares(marks, target, 1.0)
    return np.mean(np.square(target - bits @ marks))
