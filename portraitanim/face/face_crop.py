"""The square around a detected face that EchoMimic animates, and the face-box map its locator reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from portraitanim.errors import InputError
from portraitanim.face.regions import PixelBox, fill_box

MASK_DILATION, CROP_DILATION = 0.1, 0.5


@dataclass(frozen=True, kw_only=True)
class DetectedFaceCrop:
    """Rectangles that follow from one detected face.

    Attributes:
        face: the detected box, rounded to pixels.
        mask: the face box dilated by 10 %, inside the picture.
        rect: the face box dilated by 50 %, inside the picture.
        square: the centred square of the shorter side of ``rect``: what becomes the portrait.
    """

    face: PixelBox
    mask: PixelBox
    rect: PixelBox
    square: PixelBox


def detected_face_crop(box_xyxy: Sequence[float], height: int, width: int) -> DetectedFaceCrop:
    """Work out mask and crop for a detector's box (EchoMimic's preprocessing).

    Published, the mask's start is not clamped at 0, which empties the mask of a face near the top or left
    border; here it is.

    Args:
        box_xyxy: left, top, right, bottom in pixels, as a face detector or landmarks give it.
        height: of the picture.
        width: of the picture.

    Raises:
        InputError: the box has no pixel inside the picture.
    """
    left, top, right, bottom = (int(value) for value in np.round(np.asarray(box_xyxy, np.float64)))
    if left >= min(right, width) or top >= min(bottom, height) or right <= 0 or bottom <= 0:
        raise InputError(f"Face box {tuple(box_xyxy)} has no pixel in a picture of {height}x{width}.")
    face = PixelBox(top, bottom, left, right)
    rect = dilate_box(face, CROP_DILATION, height, width)
    return DetectedFaceCrop(
        face=face,
        mask=dilate_box(face, MASK_DILATION, height, width),
        rect=rect,
        square=centred_square(rect, height, width),
    )


def dilate_box(box: PixelBox, fraction: float, height: int, width: int) -> PixelBox:
    """Grow a box on every side by a fraction of its height and width (rounded down), inside the picture."""
    rows, columns = int(fraction * (box.bottom - box.top)), int(fraction * (box.right - box.left))
    return _clamp(PixelBox(box.top - rows, box.bottom + rows, box.left - columns, box.right + columns), height, width)


def centred_square(box: PixelBox, height: int, width: int) -> PixelBox:
    """The square in the middle of a box, as large as the part of the box inside the picture allows."""
    box = _clamp(box, height, width)
    side = min(box.bottom - box.top, box.right - box.left)
    top = (box.top + box.bottom) // 2 - side // 2
    left = (box.left + box.right) // 2 - side // 2
    return PixelBox(top, top + side, left, left + side)


def face_mask_map(crop: DetectedFaceCrop, height: int, width: int, output_size: tuple[int, int]) -> np.ndarray:
    """EchoMimic's condition map: the dilated face box, cropped with the portrait and resized bilinearly.

    Returns:
        uint8 ``(1, height, width)``; the network reads it divided by 255. Box edges become grey by the resize.
    """
    square = crop.square
    mask = fill_box(crop.mask, height, width)[square.top : square.bottom, square.left : square.right]
    resized: np.ndarray = cv2.resize(mask, (output_size[1], output_size[0]), interpolation=cv2.INTER_LINEAR)
    return resized[None]


def _clamp(box: PixelBox, height: int, width: int) -> PixelBox:
    return PixelBox(max(box.top, 0), min(box.bottom, height), max(box.left, 0), min(box.right, width))
