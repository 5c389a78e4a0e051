"""A few frames of a video side by side in one picture, to be seen at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from portraitanim.errors import InputError
from portraitanim.media.image import resize_image

GAP_PX = 4


def contact_sheet(frames: Sequence[np.ndarray], columns: int = 6, cell_px: int = 192) -> np.ndarray:
    """Lay pictures out in rows.

    Args:
        frames: uint8 ``(3, height, width)``, all of one size.
        columns: pictures in a row.
        cell_px: longer side of each picture in the sheet.

    Returns:
        uint8 ``(3, height, width)`` on white.

    Raises:
        InputError: there is no picture.
    """
    if not frames:
        raise InputError("A contact sheet needs at least one frame.")
    height, width = frames[0].shape[1:]
    scale = cell_px / max(height, width)
    cell = (max(1, round(height * scale)), max(1, round(width * scale)))
    columns = min(columns, len(frames))
    rows = math.ceil(len(frames) / columns)
    sheet = np.full((3, rows * (cell[0] + GAP_PX) + GAP_PX, columns * (cell[1] + GAP_PX) + GAP_PX), 255, np.uint8)
    for number, frame in enumerate(frames):
        row, column = divmod(number, columns)
        top, left = GAP_PX + row * (cell[0] + GAP_PX), GAP_PX + column * (cell[1] + GAP_PX)
        sheet[:, top : top + cell[0], left : left + cell[1]] = resize_image(frame, *cell)
    return sheet


def spread_indices(num_frames: int, count: int) -> list[int]:
    """``count`` frames spread evenly over a video, first and last among them."""
    count = min(count, num_frames)
    if count <= 1:
        return [0] * min(count, 1)
    return sorted({round(index * (num_frames - 1) / (count - 1)) for index in range(count)})
