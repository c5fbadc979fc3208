"""Where a picture may lie in the model's: how likely each place is, whatever picture it is.

The model's pictures are taken for Gaussian: a mean, and principal components of random strengths. What a place shows
of a Gaussian picture is Gaussian too, of a mean and a covariance that the place determines, so that the likelihood of
the picture in hand compares all places at once, without a picture that is like it (probabilistic principal components,
Tipping and Bishop 1999).
"""
import numpy as np

from release.redrawing.placing import pooled, views

COMPONENTS = 100
SEEN = 16                                  # a side of the luma that is compared
NOISES = 0.001 * 4.0 ** np.arange(5)       # variances of what is not the picture's, of which the likeliest counts
LEAST_STRENGTH = 1e-6
DISTINCT = np.array([0.1, 0.06, 0.06, 0.1])  # places that differ by less than that are one


class Places:
    """How likely places are, of one model.

    Args:
        pictures: principal() of luma of random ones, [1 + C, S, S], S a multiple of SEEN.
        placements: [P, 4] (release.redrawing.placing).
    """

    def __init__(self, pictures: np.ndarray, placements: np.ndarray):
        self.placements = placements
        seen, self._inside = zip(*(views(pictures, placing, SEEN) for placing in placements))
        self._inside = np.stack(self._inside)                                                # [P, SEEN²]
        seen = np.stack(seen) * self._inside[:, np.newaxis]
        self._means = seen[:, 0]                                                             # [P, SEEN²]
        axes, strengths = zip(*(_axes(components) for components in seen[:, 1:]))
        self._axes, self._strengths = np.stack(axes), np.stack(strengths)                    # [P, C, SEEN²], [P, C]

    def likely(self, luma: np.ndarray) -> np.ndarray:
        """The log-likelihood [P] of each place, of a picture's luma [H, W] on [-1, 1], H = W a multiple of SEEN."""
        left = pooled(luma[np.newaxis], SEEN).reshape(-1) * self._inside - self._means       # [P, SEEN²]
        cells = self._inside.sum(1)
        along = np.einsum('pcd,pd->pc', self._axes, left) ** 2
        every = np.sum(left ** 2, axis=1)
        likely = []
        for noise in NOISES:
            explained = np.sum(along * self._strengths / (self._strengths + noise), axis=1)
            spread = np.sum(np.log1p(self._strengths / noise), axis=1) + cells * np.log(noise)
            likely.append(-0.5 * ((every - explained) / noise + spread))
        outside = (SEEN ** 2 - cells) * -np.log(2)      # as likely as any value between -1 and 1
        return np.max(likely, axis=0) - 0.5 * cells * np.log(2 * np.pi) + outside

    def likeliest(self, luma: np.ndarray, count: int) -> np.ndarray:
        """At most `count` placements [*, 4], the likeliest first, that are DISTINCT, of a picture's luma [H, W]."""
        chosen = []
        for index in self.likely(luma).argsort()[::-1]:
            if all((np.abs(self.placements[index] - self.placements[other]) > DISTINCT).any() for other in chosen):
                chosen.append(index)
            if len(chosen) == count:
                break
        return self.placements[chosen]


def principal(pictures: np.ndarray) -> np.ndarray:
    """Of pictures [N, S, S] the mean and COMPONENTS principal components times their deviations: [1 + C, S, S]."""
    mean = pictures.mean(0, keepdims=True)
    rows = (pictures - mean).reshape(len(pictures), -1)
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    values, vectors = np.maximum(values[::-1][:COMPONENTS], 0), vectors[:, ::-1][:, :COMPONENTS]
    components = (vectors * np.sqrt(values)).T.reshape(-1, *mean.shape[1:]).astype(np.float32)
    return np.concatenate([mean, components])


def _axes(components):
    """Orthonormal rows [C, D] and variances [C] of Gaussians that are sums of components [C, D] of random strength."""
    _, strengths, axes = np.linalg.svd(components, full_matrices=False)
    return axes.astype(np.float32), np.maximum(strengths ** 2, LEAST_STRENGTH)
