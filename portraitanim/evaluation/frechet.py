"""Fréchet distance between two clouds of features: what FID, FVD and E-FID share.

The features are summed up as they come, in the exact triangular factor of their covariance: memory does not grow with
their number, and the distance is exact for fewer samples than dimensions too, where the usual matrix square root is not
(reference/metrics.md, section 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from portraitanim.errors import InputError, ShapeError

_BOOTSTRAP_PERCENT, _DEVIATIONS = 95, 1.96


@dataclass(frozen=True, kw_only=True)
class BootstrapInterval:
    """How far a distance may be off because other clips could have been drawn.

    Attributes:
        low: lower end of the interval.
        high: upper end.
        percent: how often such intervals hold the value that the same number of other clips would give on average.
        num_resamples: how many draws it stands on.
    """

    low: float
    high: float
    percent: int
    num_resamples: int


class FeatureStatistics:
    """Mean and covariance of features, accumulated.

    Kept are the mean and a factor R with ``RᵀR = Σ (x − mean)(x − mean)ᵀ``, at most as many rows as dimensions.

    Args:
        num_dimensions: length of a feature.
    """

    def __init__(self, num_dimensions: int) -> None:
        self.num_dimensions = num_dimensions
        self.num_samples = 0
        self.mean = np.zeros(num_dimensions)
        self._rows: list[np.ndarray] = []
        self._num_rows = 0

    def add(self, features: np.ndarray) -> None:
        """Take more features, ``(samples, dimensions)``.

        Raises:
            ShapeError: another number of dimensions.
            InputError: a feature is not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.num_dimensions:
            raise ShapeError(f"Features must be (samples, {self.num_dimensions}), got {features.shape}.")
        if not len(features):
            return
        if not np.isfinite(features).all():
            raise InputError("A feature is not finite: a picture or the weights are damaged.")
        values = features.astype(np.float64)
        mean = values.mean(axis=0)
        self._merge(len(values), mean, [values - mean])

    def merge(self, other: FeatureStatistics) -> None:
        """Take what another has seen; the result does not depend on how the samples were split, but for rounding.

        Raises:
            ShapeError: another number of dimensions.
        """
        if other.num_dimensions != self.num_dimensions:
            raise ShapeError(f"Features have {other.num_dimensions} and {self.num_dimensions} dimensions.")
        if other.num_samples:
            self._merge(other.num_samples, other.mean, other._rows)

    def factor(self) -> np.ndarray:
        """F with ``FᵀF`` the covariance (N − 1 in the denominator): ``(rows, dimensions)``.

        Raises:
            InputError: fewer than two samples have no covariance.
        """
        if self.num_samples < 2:
            raise InputError(f"A covariance needs at least 2 samples, got {self.num_samples}. Give more clips.")
        self._compress()
        return self._rows[0] / np.sqrt(self.num_samples - 1)

    def _merge(self, count: int, mean: np.ndarray, rows: Sequence[np.ndarray]) -> None:
        total = self.num_samples + count
        step = mean - self.mean
        if self.num_samples:
            # The spread between the two means is one row more (Chan, Golub, LeVeque 1979).
            rows = [*rows, np.sqrt(self.num_samples * count / total) * step[None]]
        self.mean = self.mean + step * (count / total)
        self.num_samples = total
        self._rows += list(rows)
        self._num_rows += sum(len(block) for block in rows)
        if self._num_rows > 2 * self.num_dimensions:
            self._compress()

    def _compress(self) -> None:
        stacked = np.concatenate(self._rows)
        if len(stacked) > self.num_dimensions:
            stacked = np.linalg.qr(stacked, mode="r")
        self._rows, self._num_rows = [stacked], len(stacked)


def statistics_of(features: np.ndarray) -> FeatureStatistics:
    """Statistics of features that are at hand, ``(samples, dimensions)``."""
    statistics = FeatureStatistics(features.shape[1] if features.ndim == 2 else 0)
    statistics.add(features)
    return statistics


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """``|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁ Σ₂)^½`` (Heusel et al. 2017, equation 6), never below 0.

    The last trace is the nuclear norm of ``F₁ F₂ᵀ``, for factors with ``FᵀF = Σ``.

    Raises:
        ShapeError: the numbers of dimensions differ.
        InputError: one has fewer than two samples.
    """
    if first.num_dimensions != second.num_dimensions:
        raise ShapeError(f"Features have {first.num_dimensions} and {second.num_dimensions} dimensions.")
    one, other = first.factor(), second.factor()
    shared = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    spread = (one**2).sum() + (other**2).sum() - 2 * shared
    return max(0.0, float(((first.mean - second.mean) ** 2).sum() + spread))


def bootstrap_interval(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], distance: float, num_resamples: int, seed: int
) -> BootstrapInterval:
    """Interval for a Fréchet distance by drawing clips again with replacement.

    Frames of one clip are alike, so whole clips are drawn. A redrawn set has fewer different samples, which raises the
    distance itself: only the spread of the redrawn distances is used, and put around the measured one as that of a
    normal distribution, for which a few dozen draws suffice.

    Args:
        first: features of each clip, ``(samples, dimensions)`` each.
        second: likewise; clip ``i`` of both belongs together where there are equally many, and is drawn together.
        distance: what was measured with all clips.
        num_resamples: how many draws.
        seed: of the draws.

    Raises:
        InputError: fewer than two clips on one side, or fewer than two draws.
    """
    if min(len(first), len(second)) < 2 or num_resamples < 2:
        raise InputError(
            f"A bootstrap needs at least 2 clips on each side and 2 draws, got {len(first)} and {len(second)} clips, "
            f"{num_resamples} draws."
        )
    random = np.random.default_rng(seed)
    distances = []
    for _ in range(num_resamples):
        ours = random.integers(len(first), size=len(first))
        theirs = ours if len(first) == len(second) else random.integers(len(second), size=len(second))
        drawn = (np.concatenate([clips[i] for i in which]) for clips, which in ((first, ours), (second, theirs)))
        distances.append(frechet_distance(*map(statistics_of, drawn)))
    half_width = _DEVIATIONS * float(np.std(distances, ddof=1))
    return BootstrapInterval(
        low=max(0.0, distance - half_width),
        high=distance + half_width,
        percent=_BOOTSTRAP_PERCENT,
        num_resamples=num_resamples,
    )


def small_sample_warning(num_samples: int, num_dimensions: int) -> str | None:
    """What to say beside a distance of few samples, or ``None``.

    Below the number of dimensions the covariance is not even of full rank; up to twice that, two samples of one
    distribution still lie far apart.
    """
    if num_samples >= 2 * num_dimensions:
        return None
    much = "fewer than the dimensions" if num_samples < num_dimensions else "fewer than twice the dimensions"
    return (
        f"{num_samples} samples for {num_dimensions} dimensions ({much}): the distance is much too large in absolute "
        "terms; compare only with values of the same number of samples"
    )
