"""The crop around a face that the networks see, and the way back into the original picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from portraitanim.errors import InputError, ShapeError
from portraitanim.face.curves import smooth_step
from portraitanim.face.warping import invert, square_transform, transform_points, warp

FACE_SHARE = 0.6
"""Side of the face in sides of the crop: Hallo asks for 50 to 70 per cent."""

SEAM_SHARE = 0.08
"""Width of the soft border, in sides of the crop, over which a pasted frame fades into the original."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceCrop:
    """A square of a picture, brought to the size of the network.

    Attributes:
        transform: ``(2, 3)``, picture → crop, in continuous coordinates where pixel ``i`` covers ``[i, i + 1)``.
        size_px: side of the crop.
    """

    transform: np.ndarray
    size_px: int

    def __post_init__(self) -> None:
        if self.transform.shape != (2, 3) or self.size_px < 1:
            raise ShapeError(f"A crop needs a (2, 3) transform and a size, got {self.transform.shape}, {self.size_px}.")

    @classmethod
    def around(cls, points_px: np.ndarray, size_px: int, face_share: float = FACE_SHARE) -> FaceCrop:
        """The upright square in whose middle the face is.

        It may reach beyond the picture, whose edge is then continued: a face at the border is not shifted.

        Args:
            points_px: landmarks ``(478, 2 or 3)`` of one face, or ``(frames, 478, 2 or 3)`` of a clip, whose crop
                holds all frames.
            size_px: side of the crop.
            face_share: longer side of the face (of all frames) in sides of the crop.

        Raises:
            InputError: the share is not in (0, 1], or the points have no extent.
        """
        if not 0.0 < face_share <= 1.0:
            raise InputError(f"The face's share of the crop must be in (0, 1], got {face_share}.")
        flat = points_px[..., :2].reshape(-1, 2).astype(np.float64)
        low, high = flat.min(0), flat.max(0)
        side = float((high - low).max())
        if not side > 0:
            raise InputError("The landmarks of this face are all in one place: no crop can be made around them.")
        center = (low + high) / 2
        return cls(transform=square_transform((center[0], center[1]), side / face_share, size_px), size_px=size_px)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Cut the crop ``(3, size, size)`` out of a picture ``(3, height, width)``, both uint8."""
        _require_image(image)
        crop = warp(np.ascontiguousarray(image.transpose(1, 2, 0)), self.transform, (self.size_px, self.size_px))
        return np.ascontiguousarray(crop.transpose(2, 0, 1))

    def points(self, points_px: np.ndarray) -> np.ndarray:
        """Points ``(..., 2 or 3)`` of the picture in pixels of the crop; z is scaled with it."""
        return transform_points(points_px, self.transform)

    def paste(self, frame: np.ndarray, original: np.ndarray, seam_share: float = SEAM_SHARE) -> np.ndarray:
        """Put a finished crop back into the picture at the picture's own resolution.

        Args:
            frame: uint8 ``(3, size, size)``.
            original: uint8 ``(3, height, width)``; not changed.
            seam_share: width of the soft border in sides of the crop; 0 is a hard edge.

        Returns:
            uint8 ``(3, height, width)``, equal to ``original`` bit for bit outside the crop.
        """
        _require_image(frame)
        _require_image(original)
        if frame.shape[1:] != (self.size_px, self.size_px):
            raise ShapeError(f"The frame is {frame.shape[1:]}, the crop {self.size_px} by {self.size_px}.")
        height, width = original.shape[1:]
        corners = np.array([[0, 0], [self.size_px, 0], [0, self.size_px], [self.size_px, self.size_px]], np.float64)
        there = transform_points(corners, invert(self.transform))
        left, top = np.maximum(np.floor(there.min(0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(there.max(0)), (width, height)).astype(int)
        result = original.copy()
        if left >= right or top >= bottom:
            return result
        back = invert(self.transform)
        back[:, 2] -= (left, top)
        size = (bottom - top, right - left)
        face = warp(frame.transpose(1, 2, 0).astype(np.float32), back, size)
        alpha = warp(_soft_square(self.size_px, seam_share), back, size, border="zero")[..., None]
        under = original[:, top:bottom, left:right].transpose(1, 2, 0).astype(np.float32)
        mixed = np.rint(under + alpha * (face - under)).clip(0, 255).astype(np.uint8)
        result[:, top:bottom, left:right] = mixed.transpose(2, 0, 1)
        return result


def _soft_square(size_px: int, seam_share: float) -> np.ndarray:
    """1 in the middle, falling to 0 at the border along a smooth step; float32 ``(size, size)``."""
    if seam_share <= 0:
        return np.ones((size_px, size_px), np.float32)
    inside = (np.arange(size_px) + 0.5) / size_px
    step = smooth_step(np.minimum(inside, 1 - inside) / seam_share).astype(np.float32)
    return np.outer(step, step)


def _require_image(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != np.uint8:
        raise ShapeError(f"A picture must be uint8 (3, height, width), got {image.dtype} {image.shape}.")
