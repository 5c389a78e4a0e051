"""Fréchet distance: known Gaussians, accumulated statistics, few samples, intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitanim.errors import InputError, ShapeError
from portraitanim.evaluation.frechet import (
    FeatureStatistics,
    bootstrap_interval,
    frechet_distance,
    small_sample_warning,
    statistics_of,
)

_RANDOM = np.random.default_rng(11)


def _whitened(num_samples: int, num_dimensions: int) -> np.ndarray:
    """Samples whose mean is exactly 0 and whose covariance is exactly 1."""
    values = _RANDOM.normal(size=(num_samples, num_dimensions))
    values -= values.mean(axis=0)
    q, _ = np.linalg.qr(values)
    return q * np.sqrt(num_samples - 1)


def test_two_known_gaussians() -> None:
    base = _whitened(60, 3)
    ours = base * (1, 2, 3) + (4, 0, 0)
    theirs = base * (1, 1, 7)
    # |mean|² = 16; (1-1)² + (2-1)² + (3-7)² for covariances that commute.
    assert frechet_distance(statistics_of(ours), statistics_of(theirs)) == pytest.approx(16 + 1 + 16, rel=1e-12)


def test_the_same_features_twice_are_0_apart() -> None:
    features = statistics_of(_RANDOM.normal(size=(50, 8)))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


@settings(max_examples=25)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 2**31))
def test_how_samples_are_split_does_not_matter(num_samples: int, num_dimensions: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(size=(num_samples, num_dimensions)) * 5 + 100
    split = FeatureStatistics(num_dimensions)
    for block in np.split(values, sorted(random.integers(0, num_samples, 3))):
        part = FeatureStatistics(num_dimensions)
        part.add(block)
        split.merge(part)
    covariance = split.factor().T @ split.factor()
    assert split.num_samples == num_samples
    np.testing.assert_allclose(split.mean, values.mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(values.T).reshape(num_dimensions, -1), atol=1e-10)


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    statistics = FeatureStatistics(6)
    for _ in range(100):
        statistics.add(_RANDOM.normal(size=(10, 6)))
    assert sum(len(rows) for rows in statistics._rows) <= 2 * 6


def test_one_sample_has_no_distance() -> None:
    with pytest.raises(InputError, match="at least 2 samples, got 1"):
        frechet_distance(statistics_of(np.ones((1, 4))), statistics_of(np.ones((3, 4))))


def test_other_dimensions_and_broken_features_are_refused() -> None:
    with pytest.raises(ShapeError, match="4 and 5"):
        frechet_distance(statistics_of(np.ones((3, 4))), statistics_of(np.ones((3, 5))))
    with pytest.raises(InputError, match="not finite"):
        statistics_of(np.array([[1.0, np.nan]]))


def test_interval_holds_the_distance_and_narrows_with_more_clips() -> None:
    def interval(num_clips: int) -> tuple[float, float, float]:
        ours, theirs = ([_RANDOM.normal(shift, size=(4, 3)) for _ in range(num_clips)] for shift in (0.0, 1.0))
        distance = frechet_distance(*(statistics_of(np.concatenate(clips)) for clips in (ours, theirs)))
        found = bootstrap_interval(ours, theirs, distance, num_resamples=60, seed=1)
        return found.low, distance, found.high

    few, many = interval(5), interval(200)
    assert few[0] < few[1] < few[2]
    assert many[0] < many[1] < many[2]
    assert many[2] - many[0] < (few[2] - few[0]) / 2


def test_interval_is_the_same_for_the_same_seed() -> None:
    clips = [[_RANDOM.normal(size=(4, 3)) for _ in range(6)] for _ in range(2)]
    assert bootstrap_interval(*clips, 1.0, 20, seed=3) == bootstrap_interval(*clips, 1.0, 20, seed=3)
    assert bootstrap_interval(*clips, 1.0, 20, seed=3) != bootstrap_interval(*clips, 1.0, 20, seed=4)


def test_one_clip_has_no_interval() -> None:
    with pytest.raises(InputError, match="1 and 2 clips"):
        bootstrap_interval([np.ones((4, 2))], [np.ones((4, 2))] * 2, 0.0, 10, seed=0)


def test_few_samples_are_said() -> None:
    assert "fewer than the dimensions" in (small_sample_warning(100, 2048) or "")
    assert "fewer than twice" in (small_sample_warning(3000, 2048) or "")
    assert small_sample_warning(4096, 2048) is None
