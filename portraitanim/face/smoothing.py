"""Take the jitter out of landmarks that were detected frame by frame."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.signal import savgol_filter

from portraitanim.errors import InputError
from portraitanim.types import FaceLandmarks

SmoothingMethod = Literal["savgol", "one-euro"]

SAVGOL_WINDOW_SECONDS, SAVGOL_ORDER = 0.36, 2
JITTER = 0.003
"""Share of the face's width that is taken for jitter. The detector's is a third of this on a still face filmed with
noise; blinks and closing lips move several times as far within the window."""

ONE_EURO_MIN_CUTOFF_HZ, ONE_EURO_DERIVATIVE_CUTOFF_HZ = 1.0, 2.0
ONE_EURO_SPEED_WEIGHT = 150.0
"""Hz of extra cutoff per face width and second: a blink or a plosive passes, a still face is held."""


def smooth_landmarks(landmarks: FaceLandmarks, fps: float, method: SmoothingMethod = "savgol") -> FaceLandmarks:
    """Smooth each coordinate over time.

    Args:
        landmarks: the points over time; not changed.
        fps: frames per second of the landmarks.
        method: ``savgol`` fits a parabola to a third of a second around each frame, and keeps what lies further from
            it than jitter does: no delay, a still face is three times as calm, blinks keep 98 % of their depth.
            ``one-euro`` (Casiez et al. 2012) looks back only, for streams: a tenth of a frame of delay. Both measure
            in face widths, so they do not depend on the size of the picture.

    Returns:
        Landmarks of the same length.

    Raises:
        InputError: the rate is not positive or the method is unknown.
    """
    if not fps > 0:
        raise InputError(f"Frames per second must be positive, got {fps}.")
    points = landmarks.points.astype(np.float64)
    if method == "savgol":
        smoothed = _savgol(points, fps)
    elif method == "one-euro":
        smoothed = _one_euro(points, fps)
    else:
        raise InputError(f"Unknown smoothing method {method!r}. Choose savgol or one-euro.")
    return FaceLandmarks(points=smoothed.astype(np.float32))


def _savgol(points: np.ndarray, fps: float) -> np.ndarray:
    # An odd window, longer than the order (else the fit is exact and smooths nothing), within the clip.
    window = max(2 * round(SAVGOL_WINDOW_SECONDS * fps / 2) + 1, SAVGOL_ORDER + 3)
    window = min(window, len(points) - (1 - len(points) % 2))
    if window <= SAVGOL_ORDER:
        return points
    smoothed: np.ndarray = savgol_filter(points, window, SAVGOL_ORDER, axis=0, mode="interp")
    # What a parabola cannot follow is jitter where it is small and motion where it is large.
    left = points - smoothed
    size = np.linalg.norm(left[..., :2], axis=-1, keepdims=True) / (JITTER * _face_width(points))
    return smoothed + left * (size**4 / (1 + size**4))


def _face_width(points: np.ndarray) -> float:
    return max(float(np.median(np.ptp(points[..., 0], axis=1))), 1e-9)


def _one_euro(points: np.ndarray, fps: float) -> np.ndarray:
    if len(points) < 2:
        return points
    face_width = _face_width(points)
    smoothed = np.empty_like(points)
    smoothed[0] = previous = points[0]
    speed = np.zeros_like(points[0])
    speed_gain = _gain(np.asarray(ONE_EURO_DERIVATIVE_CUTOFF_HZ), fps)
    for frame in range(1, len(points)):
        speed = speed + speed_gain * ((points[frame] - previous) * fps - speed)
        cutoff_hz = ONE_EURO_MIN_CUTOFF_HZ + ONE_EURO_SPEED_WEIGHT * np.abs(speed) / face_width
        previous = previous + _gain(cutoff_hz, fps) * (points[frame] - previous)
        smoothed[frame] = previous
    return smoothed


def _gain(cutoff_hz: np.ndarray, fps: float) -> np.ndarray:
    """How much of a new value a first-order low-pass takes over."""
    rate = 2 * math.pi * cutoff_hz / fps
    gain: np.ndarray = rate / (rate + 1)
    return gain
