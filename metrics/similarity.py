"""How alike two pictures look, in two numbers: PSNR and SSIM, on uint8 pictures [N, H, W, 3]."""
import numpy as np
from scipy import ndimage

PEAK = 255.0
SIGMA = 1.5                # of the Gaussian window, in pixels
RADIUS = 5                 # the window is 11×11
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


def squared_error(first, second):
    """The mean squared difference of two arrays of pictures [N, H, W, 3], uint8 or float, in grey levels²."""
    return float(np.mean(np.square(np.asarray(first, np.float32) - np.asarray(second, np.float32)), dtype=np.float64))


def psnr(mean_squared_error):
    """Peak signal-to-noise ratio in dB of 8-bit pictures, 10 log10(255² / MSE); None if they are identical.

    The error is to be averaged over all pictures before the logarithm: the mean of each picture's own PSNR is never
    less, and infinite as soon as one pair is identical.
    """
    return float(10 * np.log10(PEAK ** 2 / mean_squared_error)) if mean_squared_error else None


def ssim(first, second):
    """Structural similarity (Wang et al., 2004, equation 13) of each pair of uint8 pictures: float64 [N].

    The mean over colour channels and over all places where the 11×11 Gaussian window (standard deviation 1.5) lies
    within the picture, with K1 = 0.01, K2 = 0.03, L = 255. 1 is identical. None if the pictures are smaller than the
    window.
    """
    if min(first.shape[1:3]) <= 2 * RADIUS:
        return None
    return np.array([_ssim(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(first, second)])


def _ssim(a, b):
    mean_a, mean_b = _windowed(a), _windowed(b)
    variance_a, variance_b = _windowed(a * a) - mean_a ** 2, _windowed(b * b) - mean_b ** 2
    covariance = _windowed(a * b) - mean_a * mean_b
    similarity = ((2 * mean_a * mean_b + C1) * (2 * covariance + C2)
                  / ((mean_a ** 2 + mean_b ** 2 + C1) * (variance_a + variance_b + C2)))
    return similarity.mean()


def _windowed(image):
    """The weighted mean in each window that lies within an image [H, W, C]: [H − 10, W − 10, C]."""
    smooth = ndimage.gaussian_filter(image, [SIGMA, SIGMA, 0], truncate=RADIUS / SIGMA)
    return smooth[RADIUS:-RADIUS, RADIUS:-RADIUS]
