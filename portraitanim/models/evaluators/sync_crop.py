"""What SyncNet sees of a face: a square around it and below, smoothed over time, as its published pipeline cuts it.

The square reaches further down than up, so that the chin is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.signal import medfilt

from portraitanim.errors import ShapeError
from portraitanim.models.evaluators.syncnet import INPUT_PX

CROP_SCALE = 0.4
_SMOOTHING_FRAMES = 13
_OUTSIDE = 110


@dataclass(frozen=True, kw_only=True, eq=False)
class SyncCrops:
    """Where to cut, frame by frame.

    Attributes:
        half_side_px: half of the longer side of the face's box ``(frames,)``.
        x_px: middle of the box.
        y_px: likewise.
    """

    half_side_px: np.ndarray
    x_px: np.ndarray
    y_px: np.ndarray

    def rectangle(self, frame: int) -> tuple[int, int, int, int, int]:
        """Width of the border to put around the picture, then y0, y1, x0, x1 in the bordered picture."""
        side, middle_x, middle_y = (float(row[frame]) for row in (self.half_side_px, self.x_px, self.y_px))
        border = int(side * (1 + 2 * CROP_SCALE))
        x, y = middle_x + border, middle_y + border
        top, bottom = int(y - side), int(y + side * (1 + 2 * CROP_SCALE))
        left, right = int(x - side * (1 + CROP_SCALE)), int(x + side * (1 + CROP_SCALE))
        return border, top, bottom, left, right


def plan_crops(boxes: np.ndarray) -> SyncCrops:
    """Smooth a track of face boxes.

    The median over 13 frames takes zeros beyond the ends, as published: the first and last crops are smaller.

    Args:
        boxes: ``(frames, 4)``: x0, y0, x1, y1 in pixels.

    Raises:
        ShapeError: another shape, or a box that is not finite.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ShapeError(f"Boxes must be finite numbers (frames, 4), got {boxes.shape}.")
    half_side = np.maximum(boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]) / 2
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    half_side, x, y = (medfilt(row.astype(np.float64), kernel_size=_SMOOTHING_FRAMES) for row in (half_side, x, y))
    return SyncCrops(half_side_px=half_side, x_px=x, y_px=y)


def cut_crops(frames: Iterable[np.ndarray], crops: SyncCrops) -> Iterator[np.ndarray]:
    """Cut frame by frame.

    Args:
        frames: uint8 RGB ``(3, height, width)`` each.
        crops: one per frame.

    Yields:
        uint8 RGB ``(3, 224, 224)``.
    """
    for number, frame in enumerate(frames):
        yield cut_crop(frame, crops.rectangle(number))


def cut_crop(frame: np.ndarray, rectangle: tuple[int, int, int, int, int]) -> np.ndarray:
    """Cut one frame, see `SyncCrops.rectangle`: uint8 ``(3, 224, 224)``."""
    import cv2

    border, top, bottom, left, right = rectangle
    pixels = frame.transpose(1, 2, 0)
    height, width = pixels.shape[:2]
    square = np.full((bottom - top, right - left, 3), _OUTSIDE, np.uint8)
    # The bordered picture need not be made: only what the crop shows of the picture is copied into the border's grey.
    y0, y1 = max(top - border, 0), min(bottom - border, height)
    x0, x1 = max(left - border, 0), min(right - border, width)
    if y0 < y1 and x0 < x1:
        offset_y, offset_x = y0 - (top - border), x0 - (left - border)
        square[offset_y : offset_y + y1 - y0, offset_x : offset_x + x1 - x0] = pixels[y0:y1, x0:x1]
    small = cv2.resize(square, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(small.transpose(2, 0, 1))
