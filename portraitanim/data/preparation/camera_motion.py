"""How much the picture behind a person moves, from points that are followed from frame to frame."""

from __future__ import annotations

import cv2
import numpy as np

_WIDTH_PX = 320
_MAX_POINTS = 80
_MIN_POINTS = 8
_MAX_RETURN_PX = 0.5
_FLOW_WINDOW = (15, 15)


class CameraMotion:
    """Median flow of corners outside the person, in picture widths per second.

    The person is taken for what lies within a face's width beside the face and below it, and half a face above it.
    Lucas-Kanade flow is computed on a picture of 320 pixels, forth and back; points that do not come back are left out.

    Args:
        fps: frames per second.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self._speeds: list[float] = []

    def add(self, image: np.ndarray, face_box: tuple[float, float, float, float] | None) -> None:
        """Look at the next frame, uint8 RGB ``(3, height, width)``, and where its face is."""
        height, width = image.shape[1:]
        scale = min(1.0, _WIDTH_PX / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        self._speeds.append(self._speed(grey) if self._before is not None else np.nan)
        self._before = grey, _background(grey.shape, face_box, scale)

    def speed(self, start_frame: int, num_frames: int) -> float | None:
        """Root mean square speed over a stretch; ``None`` where too little background could be followed."""
        speeds = np.array(self._speeds[start_frame + 1 : start_frame + num_frames])
        known = speeds[np.isfinite(speeds)]
        if len(known) < max(1, len(speeds) // 2):
            return None
        return float(np.sqrt(np.mean(np.square(known))))

    def _speed(self, grey: np.ndarray) -> float:
        assert self._before is not None
        before, background = self._before
        if before.shape != grey.shape or not background.any():
            return np.nan
        corners = cv2.goodFeaturesToTrack(before, _MAX_POINTS, qualityLevel=0.02, minDistance=8, mask=background)
        if corners is None or len(corners) < _MIN_POINTS:
            return np.nan
        there, forth, _ = cv2.calcOpticalFlowPyrLK(before, grey, corners, None, winSize=_FLOW_WINDOW)
        back, returned, _ = cv2.calcOpticalFlowPyrLK(grey, before, there, None, winSize=_FLOW_WINDOW)
        good = (forth & returned).astype(bool).ravel()
        good &= np.linalg.norm(back - corners, axis=-1).ravel() < _MAX_RETURN_PX
        if good.sum() < _MIN_POINTS:
            return np.nan
        flow = np.median((there - corners).reshape(-1, 2)[good], axis=0)
        return float(np.hypot(*flow)) / grey.shape[1] * self._fps


def _background(shape: tuple[int, ...], face_box: tuple[float, float, float, float] | None, scale: float) -> np.ndarray:
    """255 where the background is, uint8 ``(height, width)``; none of it where the face is unknown."""
    if face_box is None:
        return np.zeros(shape, np.uint8)
    mask = np.full(shape, 255, np.uint8)
    x0, y0, x1, y1 = (value * scale for value in face_box)
    side = max(x1 - x0, y1 - y0)
    left, right, top = (max(0, round(value)) for value in (x0 - side / 2, x1 + side / 2, y0 - side / 2))
    mask[top:, left:right] = 0
    # Shoulders are wider than the head.
    mask[max(0, round(y1)) :, max(0, round(x0 - side)) : max(0, round(x1 + side))] = 0
    return mask
