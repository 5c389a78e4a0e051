"""The eyeball behind the lids: it keeps its shape when they close, and turns to where the irises look."""

from __future__ import annotations

import numpy as np

from portraitanim.face.regions import polygon_coverage

_MAX_GAZE = 0.18
"""Irises move at most this share of the eye's width: further, the picture has no white to show."""

_WIDEST_STRETCH = 1.6
"""The eyeball is stretched up to this factor where lids open wider than in the portrait."""


class EyeLayer:
    """Redirects a warp map inside one eye.

    Args:
        landmarks: ``(478, 2 or 3)`` of the portrait.
        ring: border of the eye, upper line first, from corner to corner.
        iris: points of the iris, its centre first.
    """

    def __init__(self, landmarks: np.ndarray, ring: tuple[int, ...], iris: tuple[int, ...]) -> None:
        self._ring, self._iris = list(ring), list(iris)
        self._corners = [ring[0], ring[len(ring) // 2]]
        half = len(ring) // 2
        self._upper, self._lower = list(ring[1:half]), list(ring[:half:-1])
        self._points = landmarks[:, :2].astype(np.float64)
        self._width = float(np.linalg.norm(self._points[self._corners[0]] - self._points[self._corners[1]]))
        self._opening = self._openness(self._points)

    def _openness(self, points: np.ndarray) -> float:
        return float(np.linalg.norm(points[self._upper, :2] - points[self._lower, :2], axis=1).max())

    def open(self, source_map: np.ndarray, target: np.ndarray, head: np.ndarray) -> None:
        """Let the pixels between the lids show the eyeball, in place.

        Args:
            source_map: ``(size, size, 2)`` from `triangle_map`.
            target: landmarks ``(478, 3)`` of the frame.
            head: affine ``(2, 4)`` of the skull, portrait to frame.
        """
        size = source_map.shape[0]
        ring = target[self._ring, :2]
        low = np.clip(np.floor(ring.min(0)) - 2, 0, size - 1).astype(int)
        high = np.clip(np.ceil(ring.max(0)) + 3, 1, size).astype(int)
        if (high - low < 2).any():
            return
        eyeball = self._eyeball_map(low, high, target, head)
        open_share = np.clip((self._openness(target) - 0.5) / 1.2, 0, 1)
        cover = (open_share * polygon_coverage(ring - low, high - low))[..., None]
        part = source_map[low[1] : high[1], low[0] : high[0]]
        part += cover * (eyeball - part)

    def _eyeball_map(self, low: np.ndarray, high: np.ndarray, target: np.ndarray, head: np.ndarray) -> np.ndarray:
        stretch = np.clip(self._openness(target) / max(self._opening, 1e-3), 1.0, _WIDEST_STRETCH)
        linear = head[:, :2] @ np.diag([1.0, stretch])
        middle = self._points[self._corners].mean(0)
        centre = target[self._corners, :2].mean(0)
        columns, rows = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        offsets = np.stack([columns, rows], axis=-1) - centre
        place = offsets @ np.linalg.inv(linear).T + middle
        iris = self._points[self._iris[0]]
        iris_now = np.linalg.inv(linear) @ (target[self._iris[0], :2] - centre) + middle
        gaze = np.clip((iris_now - iris) / self._width, -_MAX_GAZE, _MAX_GAZE) * self._width
        # The shift is full on the iris and fades towards the corners, where the white is stretched.
        radius = 0.42 * self._width
        fade = np.clip(1 - (np.linalg.norm(place - iris - gaze, axis=-1) / radius) ** 2, 0, 1)
        return (place - gaze * np.sqrt(fade)[..., None]).astype(np.float32)
