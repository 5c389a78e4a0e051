"""What is read off landmarks over time: how far a face is turned, how fast it moves, how wide its mouth is open."""

from __future__ import annotations

import numpy as np

from portraitanim.face.face_measures import head_angles
from portraitanim.face.landmark_groups import LIP_PAIRS, RIGID_POINTS


def yaws_degrees(points_px: np.ndarray) -> np.ndarray:
    """How far the head is turned to the side in each frame, ``(frames,)`` degrees, 0 for a frontal face."""
    return np.array([head_angles(points).yaw for points in points_px])


def face_sides_px(points_px: np.ndarray) -> np.ndarray:
    """Longer side of the face's box in each frame, ``(frames,)``."""
    sides: np.ndarray = np.ptp(points_px[..., :2], axis=1).max(axis=1)
    return sides


def head_speeds(points_px: np.ndarray, fps: float) -> np.ndarray:
    """Speed of the bony points' middle between frames, ``(frames - 1,)``, in sides of the face per second."""
    middles = points_px[:, list(RIGID_POINTS), :2].mean(axis=1)
    speeds: np.ndarray = np.hypot(*np.diff(middles, axis=0).T) * fps / np.median(face_sides_px(points_px))
    return speeds


def head_travel(points_px: np.ndarray) -> float:
    """How much the box around all frames is larger than the face itself, in sides of the face; 0 for a still one."""
    whole = np.ptp(points_px[..., :2].reshape(-1, 2), axis=0).max()
    return float(whole / np.median(face_sides_px(points_px)) - 1.0)


def mouth_openings(points_px: np.ndarray) -> np.ndarray:
    """Mean distance of the inner lips in each frame, ``(frames,)``, in sides of the face."""
    upper, lower = (list(side) for side in zip(*LIP_PAIRS, strict=True))
    gaps = np.linalg.norm(points_px[:, upper, :2] - points_px[:, lower, :2], axis=-1).mean(axis=1)
    openings: np.ndarray = gaps / np.median(face_sides_px(points_px))
    return openings
