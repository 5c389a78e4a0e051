"""Where each pixel of a warped picture comes from, when both pictures share a mesh of triangles."""

from __future__ import annotations

import cv2
import numpy as np

_SHIFT = 4
_THIN_PX, _SQUEEZE = 0.6, 2.5


def triangle_map(source: np.ndarray, target: np.ndarray, triangles: np.ndarray, size_px: int) -> np.ndarray:
    """The piecewise-affine map from the warped picture back into the original.

    Where triangles of the target overlap, the later one wins; a pixel that none covers comes from its own place.

    Args:
        source: points ``(points, 2)`` of the original, in continuous pixels (pixel ``i`` covers ``[i, i + 1)``).
        target: the same points in the warped picture.
        triangles: int ``(triangles, 3)``, in painting order.
        size_px: side of the square pictures.

    Returns:
        float32 ``(size, size, 2)``: x and y in the original, in the same coordinates.
    """
    owner = np.full((size_px, size_px), -1, np.int32)
    corners = np.rint((target[triangles] - 0.5) * (1 << _SHIFT)).astype(np.int32)
    for index, corner in enumerate(corners):
        cv2.fillConvexPoly(owner, corner, index, lineType=cv2.LINE_8, shift=_SHIFT)
    to_source = affine_maps(target[triangles], source[triangles])
    linear, offset = to_source[..., :2], to_source[..., 2]
    # A pixel at the rim of a thin triangle lies outside it, and the affine map would fetch it from far away.
    height = _heights(target[triangles])
    thin = (height < _THIN_PX) & (_heights(source[triangles]) > _SQUEEZE * height)
    linear[thin], offset[thin] = 0, source[triangles[thin]].mean(1)
    x_row = np.concatenate([linear[:, 0], offset[:, :1]], axis=1)
    y_row = np.concatenate([linear[:, 1], offset[:, 1:]], axis=1)
    middle = np.arange(size_px, dtype=np.float32) + 0.5
    result = np.empty((size_px, size_px, 2), np.float32)
    for axis, (row, identity) in enumerate(((x_row, [1, 0, 0]), (y_row, [0, 1, 0]))):
        per_pixel = np.concatenate([row, [identity]]).astype(np.float32)[owner]
        result[..., axis] = per_pixel[..., 0] * middle + per_pixel[..., 1] * middle[:, None] + per_pixel[..., 2]
    return result


def _heights(corners: np.ndarray) -> np.ndarray:
    """Smallest height of each triangle ``(n, 3, 2)``."""
    edges = corners - np.roll(corners, 1, axis=1)
    double_area = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0])
    return double_area / np.maximum(np.linalg.norm(edges, axis=-1).max(-1), 1e-9)


def affine_maps(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """For each pair of triangles ``(n, 3, 2)`` the affine ``(n, 2, 3)`` from source to target.

    A source triangle without area (closed lips) maps to the target's first corner.
    """
    from_a, to_a = source[:, 0], target[:, 0]
    from_edges = np.stack([source[:, 1] - from_a, source[:, 2] - from_a], axis=-1)
    to_edges = np.stack([target[:, 1] - to_a, target[:, 2] - to_a], axis=-1)
    (a, b), (c, d) = np.moveaxis(from_edges, 0, -1)
    determinant = a * d - b * c
    safe = np.where(np.abs(determinant) < 1e-9, np.inf, determinant)
    inverse = np.moveaxis(np.array([[d, -b], [-c, a]]) / safe, -1, 0)
    linear = to_edges @ inverse
    offset = to_a - np.einsum("nij,nj->ni", linear, from_a)
    return np.concatenate([linear, offset[..., None]], axis=-1)


def sample(picture: np.ndarray, source_map: np.ndarray) -> np.ndarray:
    """Resample a picture ``(height, width)`` or ``(height, width, channels)`` along a map; its edge is repeated."""
    x, y = source_map[..., 0] - 0.5, source_map[..., 1] - 0.5
    return cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
