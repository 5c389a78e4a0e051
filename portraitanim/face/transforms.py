"""Fits between two sets of corresponding 3-D points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from portraitanim.errors import ShapeError


class Similarity(NamedTuple):
    """``y = scale · rotation @ x + translation``."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def matrix(self) -> np.ndarray:
        """As a 4×4 matrix."""
        return _homogeneous(self.scale * self.rotation, self.translation)


def fit_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> Similarity:
    """Least-squares rotation, uniform scale and translation without reflection (Umeyama 1991).

    Args:
        source: ``(points, 3)``.
        target: ``(points, 3)``.
        weights: how much each point counts, ``(points,)``, not negative; all the same if ``None``.
    """
    _check(source, target)
    share = np.full(len(source), 1 / len(source)) if weights is None else weights / weights.sum()
    source_mean, target_mean = share @ source, share @ target
    source_centred, target_centred = source - source_mean, target - target_mean
    left, singular, right = np.linalg.svd((share[:, None] * target_centred).T @ source_centred)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    rotation = (left * signs) @ right
    variance = float(share @ (source_centred**2).sum(1))
    scale = float((singular * signs).sum() / max(variance, np.finfo(float).tiny))
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def fit_affine(
    source: np.ndarray, target: np.ndarray, prior: np.ndarray | None = None, ridge: float = 0.01
) -> np.ndarray:
    """Least-squares affine whose linear part is drawn to a prior where the points say little.

    On the nearly flat parts of a face a plain fit leaves the direction out of the plane to noise; here that
    direction follows the prior, so the transform stays well-conditioned.

    Args:
        source: ``(points, 3)``.
        target: ``(points, 3)``.
        prior: ``(3, 3)`` linear part to fall back to; identity if ``None``.
        ridge: weight of the prior relative to the mean variance of the source.

    Returns:
        ``(4, 4)``; maps the mean of the source exactly to the mean of the target.
    """
    _check(source, target)
    prior = np.eye(3) if prior is None else prior
    source_mean, target_mean = source.mean(0), target.mean(0)
    centred = source - source_mean
    covariance = centred.T @ centred / len(source)
    weight = max(ridge * np.trace(covariance) / 3, np.finfo(float).tiny)
    cross = (target - target_mean).T @ centred / len(source)
    linear = np.linalg.solve(covariance + weight * np.eye(3), (cross + weight * prior).T).T
    return _homogeneous(linear, target_mean - linear @ source_mean)


def _homogeneous(linear: np.ndarray, translation: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, translation
    return matrix


def _check(source: np.ndarray, target: np.ndarray) -> None:
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or len(source) < 3:
        raise ShapeError(f"Both point sets must be (3 or more, 3) and equal, got {source.shape}, {target.shape}.")
