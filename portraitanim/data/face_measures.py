"""What is read off landmarks: how far a face is turned, how fast it moves, how wide its mouth is open."""

from __future__ import annotations

import cv2
import numpy as np

from portraitanim.face.landmark_groups import LIP_PAIRS, RIGID_POINTS
from portraitanim.face.warping import square_transform, warp

_ACROSS = ((234, 454), (127, 356), (33, 263))
"""Points of the subject's right and left at one height: temples, cheekbones, outer eye corners."""

_SHARPNESS_PX = 192


def yaw_degrees(points_px: np.ndarray) -> np.ndarray:
    """How far the head is turned to the side, ``(frames,)`` degrees, 0 for a frontal face.

    The angle between the picture plane and the lines through the two sides of the face, whose depth the mesh gives.
    """
    across = np.mean([points_px[:, left] - points_px[:, right] for right, left in _ACROSS], axis=0)
    return np.degrees(np.arctan2(across[:, 2], np.hypot(across[:, 0], across[:, 1])))


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


def sharpness(image: np.ndarray, face_box: tuple[float, float, float, float]) -> float:
    """How much fine detail a face shows, whatever its light and size.

    The variance of the Laplacian of the face at 192 pixels, per mille of the variance of its brightness. A face that
    has fewer pixels is enlarged, and so counts as blurred.
    """
    x0, y0, x1, y1 = face_box
    transform = square_transform(((x0 + x1) / 2, (y0 + y1) / 2), max(x1 - x0, y1 - y0), _SHARPNESS_PX)
    face = warp(np.ascontiguousarray(image.transpose(1, 2, 0)), transform, (_SHARPNESS_PX, _SHARPNESS_PX))
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float64)
    variance = grey.var()
    return float(1000 * cv2.Laplacian(grey, cv2.CV_64F).var() / variance) if variance > 1 else 0.0
