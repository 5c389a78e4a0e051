"""The one square that a clip is cropped to."""

from __future__ import annotations

import numpy as np

from portraitanim.face.alignment import FaceCrop
from portraitanim.face.warping import square_transform


def stable_crop(points_px: np.ndarray, size_px: int, image_size: tuple[int, int], face_share: float) -> FaceCrop:
    """A square around the face of all frames that lies inside the picture.

    Where the picture has less room than wanted, the square is moved, and then made smaller: nothing is invented
    beyond the picture's edge.

    Args:
        points_px: landmarks ``(frames, 478, 2 or 3)``.
        size_px: side of the result.
        image_size: (height, width) of the picture.
        face_share: wanted side of the face, over all frames, in sides of the square.
    """
    low, high = _face_box(points_px)
    side = min(float((high - low).max()) / face_share, *image_size)
    half = side / 2
    limits = np.array([image_size[1], image_size[0]], np.float64)
    center = np.clip((low + high) / 2, half, limits - half)
    return FaceCrop(transform=square_transform((center[0], center[1]), side, size_px), size_px=size_px)


def face_share_of(points_px: np.ndarray, crop: FaceCrop) -> float:
    """Longer side of the face over all frames in sides of the crop; above 1 where the crop cuts it."""
    corners = crop.points(np.stack(_face_box(points_px))) / crop.size_px
    # Twice the larger distance from the middle: a face at the crop's border counts as one that fills it.
    return float(max(np.ptp(corners, axis=0).max(), 2 * np.abs(corners - 0.5).max() if _leaves(corners) else 0.0))


def _leaves(corners: np.ndarray) -> bool:
    return bool((corners < 0).any() or (corners > 1).any())


def _face_box(points_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = points_px[..., :2].reshape(-1, 2).astype(np.float64)
    return flat.min(0), flat.max(0)
