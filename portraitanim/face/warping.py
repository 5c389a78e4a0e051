"""Affine resampling of pictures in continuous coordinates, where pixel ``i`` covers ``[i, i + 1)``."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

Border = Literal["edge", "zero"]


def square_transform(center_px: tuple[float, float], side_px: float, size_px: int, angle: float = 0.0) -> np.ndarray:
    """Source → crop matrix ``(2, 3)`` of a square turned by ``angle`` radians around its centre."""
    scale = size_px / side_px
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    linear = np.array([[cos, sin], [-sin, cos]])
    offset = size_px / 2 - linear @ np.asarray(center_px, dtype=np.float64)
    return np.concatenate([linear, offset[:, None]], axis=1)


def invert(transform: np.ndarray) -> np.ndarray:
    """The inverse ``(2, 3)`` of an affine matrix."""
    linear = np.linalg.inv(transform[:, :2])
    return np.concatenate([linear, (-linear @ transform[:, 2])[:, None]], axis=1)


def transform_points(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Move points ``(..., 2 or 3)``; z is scaled with the picture."""
    linear, offset = transform[:, :2], transform[:, 2]
    moved = np.asarray(points[..., :2], dtype=np.float64) @ linear.T + offset
    if points.shape[-1] == 2:
        return moved.astype(points.dtype)
    scale = np.sqrt(abs(np.linalg.det(linear)))
    return np.concatenate([moved, points[..., 2:] * scale], axis=-1).astype(points.dtype)


def warp(image: np.ndarray, transform: np.ndarray, size: tuple[int, int], border: Border = "edge") -> np.ndarray:
    """Resample a picture.

    A picture that shrinks by more than a third is averaged first: bilinear sampling alone would skip pixels, and
    landmarks and pasted frames would shimmer.

    Args:
        image: ``(h, w)`` or ``(h, w, channels)``, uint8 or float32.
        transform: source → result, ``(2, 3)``, in continuous coordinates.
        size: (height, width) of the result.
        border: what lies outside the picture: its edge repeated, or zeros.

    Returns:
        The picture at the new size, same type.
    """
    shrink = np.sqrt(abs(np.linalg.det(transform[:, :2])))
    if shrink < 0.75:
        image, transform = _averaged(image, transform, size, shrink)
    # OpenCV counts from pixel centres, which lie half a pixel inside.
    linear = transform[:, :2]
    offset = transform[:, 2] + linear @ np.array([0.5, 0.5]) - 0.5
    matrix = np.concatenate([linear, offset[:, None]], axis=1)
    mode = cv2.BORDER_REPLICATE if border == "edge" else cv2.BORDER_CONSTANT
    return cv2.warpAffine(image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderMode=mode)


def _averaged(
    image: np.ndarray, transform: np.ndarray, size: tuple[int, int], shrink: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cut out what the result sees and shrink it by averaging to about the result's resolution."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [size[1], 0], [0, size[0]], [size[1], size[0]]], dtype=np.float64)
    seen = transform_points(corners, invert(transform))
    margin = 2.0 / shrink
    x0, y0 = (
        int(np.clip(np.floor(value - margin), 0, limit - 1))
        for value, limit in zip(seen.min(0), (width, height), strict=True)
    )
    x1, y1 = (
        int(np.clip(np.ceil(value + margin), 1, limit))
        for value, limit in zip(seen.max(0), (width, height), strict=True)
    )
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    part = image[y0:y1, x0:x1]
    new_width, new_height = max(1, round((x1 - x0) * shrink)), max(1, round((y1 - y0) * shrink))
    small = cv2.resize(part, (new_width, new_height), interpolation=cv2.INTER_AREA)
    # small pixel = (source - corner) * factor, so source = small / factor + corner.
    factor = np.array([new_width / (x1 - x0), new_height / (y1 - y0)])
    linear = transform[:, :2] / factor
    offset = transform[:, :2] @ np.array([x0, y0], dtype=np.float64) + transform[:, 2]
    return small, np.concatenate([linear, offset[:, None]], axis=1)
