"""Metric face geometry as MediaPipe's face landmarker reports it, and its camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from portraitanim.errors import ShapeError
from portraitanim.face.landmark_groups import LEFT_EYE, LEFT_IRIS, NUM_MESH_POINTS, RIGHT_EYE, RIGHT_IRIS
from portraitanim.types import NUM_LANDMARKS

VERTICAL_FIELD_OF_VIEW_DEGREES = 63.0
"""The camera that MediaPipe assumes for every picture."""


@dataclass(frozen=True, kw_only=True)
class FaceGeometry:
    """One face over time with its head pose taken apart from its shape.

    Attributes:
        landmarks: ``(frames, 478, 3)``, x and y as fractions of picture width and height, z in the scale of x.
        mesh_cm: ``(frames, 468, 3)`` in centimetres in the head's own axes: x to the subject's left, y up, z forward.
        head_pose: ``(frames, 4, 4)``, head axes → camera axes (y up, looking along negative z), centimetres.
        height: of the picture in pixels.
        width: of the picture in pixels.
    """

    landmarks: np.ndarray
    mesh_cm: np.ndarray
    head_pose: np.ndarray
    height: int
    width: int

    def __post_init__(self) -> None:
        frames = len(self.landmarks)
        expected = ((frames, NUM_LANDMARKS, 3), (frames, NUM_MESH_POINTS, 3), (frames, 4, 4))
        got = (self.landmarks.shape, self.mesh_cm.shape, self.head_pose.shape)
        if got != expected or frames < 1 or min(self.height, self.width) < 1:
            raise ShapeError(
                f"Face geometry needs landmarks, mesh and pose of shapes {expected} for at least one frame and a "
                f"positive picture size, got {got} and {self.height}x{self.width}."
            )

    def __len__(self) -> int:
        return len(self.landmarks)


def project_to_pixels(points_cm: np.ndarray, head_pose: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where points of the head appear in the picture.

    Args:
        points_cm: ``(..., points, 3)`` in head axes.
        head_pose: ``(..., 4, 4)``.
        height: of the picture.
        width: of the picture.

    Returns:
        float64 ``(..., points, 2)``, x and y in pixels.
    """
    camera = apply_transform(head_pose, points_cm)
    focal_px = _focal_px(height)
    depth = -camera[..., 2]
    x = width / 2 + focal_px * camera[..., 0] / depth
    y = height / 2 - focal_px * camera[..., 1] / depth
    return np.stack([x, y], axis=-1)


def mesh_with_irises(geometry: FaceGeometry) -> np.ndarray:
    """The metric mesh of each frame with the ten iris points added.

    MediaPipe gives no metric irises. Each iris point is put on the ray through its pixel, at the mean depth of
    the lids around it, so that projecting it gives its pixel back exactly.

    Returns:
        float64 ``(frames, 478, 3)`` in head axes; the inputs are not touched.
    """
    mesh = geometry.mesh_cm.astype(np.float64)
    pose = geometry.head_pose.astype(np.float64)
    camera = apply_transform(pose, mesh)
    focal_px = _focal_px(geometry.height)
    irises = []
    for eye, iris in ((RIGHT_EYE, RIGHT_IRIS), (LEFT_EYE, LEFT_IRIS)):
        depth = -camera[:, list(eye), 2].mean(axis=1, keepdims=True)
        pixels = geometry.landmarks[:, list(iris), :2].astype(np.float64) * (geometry.width, geometry.height)
        x = (pixels[..., 0] - geometry.width / 2) * depth / focal_px
        y = (geometry.height / 2 - pixels[..., 1]) * depth / focal_px
        irises.append(np.stack([x, y, -np.broadcast_to(depth, x.shape)], axis=-1))
    in_head = apply_transform(np.linalg.inv(pose), np.concatenate(irises, axis=1))
    return np.concatenate([mesh, in_head], axis=1)


def apply_transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply affine matrices ``(..., 4, 4)`` to points ``(..., points, 3)``."""
    moved: np.ndarray = points @ np.swapaxes(matrix[..., :3, :3], -1, -2) + matrix[..., None, :3, 3]
    return moved


def _focal_px(height: int) -> float:
    return float(height / 2 / np.tan(np.deg2rad(VERTICAL_FIELD_OF_VIEW_DEGREES) / 2))
