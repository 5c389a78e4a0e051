"""Landmarks with known openings, turns and shifts."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, LIP_PAIRS, RIGHT_EYELID_PAIRS

EYE_DISTANCE_PX = 80.0


def face(opening: float = 0.1, lids: float = 0.3) -> np.ndarray:
    """One face ``(478, 3)``: a fixed random shape with a given mouth opening and eye openness."""
    points = np.random.default_rng(7).normal(0, 30, (478, 3)) + np.array([128, 128, 0])
    points[[33, 133, 362, 263]] = [(88, 100, 0), (114, 100, 0), (142, 100, 0), (168, 100, 0)]
    _set_gaps(points, LIP_PAIRS, opening * EYE_DISTANCE_PX)
    for pairs in (RIGHT_EYELID_PAIRS, LEFT_EYELID_PAIRS):
        _set_gaps(points, pairs, lids * 26)
    return points


def faces(openings: np.ndarray | None = None, lids: np.ndarray | None = None) -> np.ndarray:
    """A video of `face`: float32 ``(frames, 478, 3)``."""
    length = len(openings) if openings is not None else len(lids)
    openings = np.full(length, 0.1) if openings is None else openings
    lids = np.full(length, 0.3) if lids is None else lids
    return np.stack([face(*both) for both in zip(openings, lids, strict=True)]).astype(np.float32)


def turned(points: np.ndarray, degrees: tuple[float, float, float]) -> np.ndarray:
    """Points ``(478, 3)`` turned around their middle by a rotation vector in degrees (pitch, yaw, roll)."""
    middle = points.mean(axis=0)
    return (points - middle) @ Rotation.from_rotvec(degrees, degrees=True).as_matrix().T + middle


def _set_gaps(points: np.ndarray, pairs: tuple[tuple[int, int], ...], gap_px: float) -> None:
    for upper, lower in pairs:
        points[lower] = points[upper] + (0, gap_px, 0)
