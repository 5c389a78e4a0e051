"""Part-aware motion synchronization: a driving face moves a portrait without deforming it (EchoMimic).

Shape and pose of the head are taken apart. The shape goes the paper's way, see `expression_transfer`. Head turns are
carried as rotations about the portrait's own head centre. They count from the driver's first pose, which is averaged
over the still frames at the start: a single detection is off by some tenths of a degree, and every frame of the
video would inherit that.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from portraitanim.errors import InputError
from portraitanim.face.expression_transfer import fit_motion_transforms, retarget_shapes, shape_as_open
from portraitanim.face.geometry import FaceGeometry, apply_transform, mesh_with_irises, project_to_pixels
from portraitanim.face.landmark_groups import RIGID_POINTS
from portraitanim.face.published_motion_sync import synchronize_published
from portraitanim.face.transforms import fit_similarity
from portraitanim.types import FaceLandmarks

SyncMethod = Literal["paper", "published"]

REST_MAX_FRAMES, REST_MAX_MOVE = 12, 0.01
"""The first pose is the mean of at most so many leading frames, as long as the points on bone stay within this share of
the face's width."""


def synchronize(
    driving: FaceGeometry | FaceLandmarks,
    portrait: FaceGeometry | FaceLandmarks,
    *,
    method: SyncMethod = "paper",
) -> np.ndarray:
    """Landmarks of the portrait, moved as the driver moves.

    With metric geometry the head pose is MediaPipe's and the result is seen through its camera. With landmarks
    alone (pixels, z in the scale of x) the head is taken to be far from the camera: the pose of frame t relative
    to frame 0 is the similarity that best maps the points on bone (`landmark_groups.RIGID_POINTS`), and turns
    are about the middle of those points. Nothing is averaged over time: `portraitanim.face.smoothing` takes the jitter
    out and keeps more of the motion.

    Args:
        driving: the driver over time. Not changed.
        portrait: one frame, in the pixels of its own picture. Not changed.
        method: ``paper`` as described above; ``published`` reproduces the released code (metric geometry only,
            512×512 canvas, its own fixed windows).

    Returns:
        float64 ``(frames, 478, 2)``, x and y in pixels of the portrait's picture.

    Raises:
        InputError: the two inputs are of different kinds, the portrait has not exactly one frame, there is no
            driving frame, or ``published`` is asked for without metric geometry.
    """
    _check(driving, portrait)
    if isinstance(driving, FaceGeometry) and isinstance(portrait, FaceGeometry):
        if method == "published":
            return synchronize_published(driving, portrait)
        return _synchronize_metric(driving, portrait)
    if isinstance(driving, FaceLandmarks) and isinstance(portrait, FaceLandmarks):
        if method == "published":
            raise InputError(
                "The published motion synchronization needs metric face geometry, got pixel landmarks. "
                "Make it with portraitanim.face.metric_geometry, or use the method 'paper'."
            )
        return _synchronize_pixels(driving, portrait)
    raise InputError(
        f"Driver and portrait must be of one kind, got {type(driving).__name__} and {type(portrait).__name__}. "
        "Give FaceGeometry for both or FaceLandmarks for both."
    )


def _synchronize_metric(driving: FaceGeometry, portrait: FaceGeometry) -> np.ndarray:
    driver_shapes = mesh_with_irises(driving)
    portrait_shape = mesh_with_irises(portrait)[0]
    driver_rest = shape_as_open(driver_shapes, portrait_shape)
    transforms = fit_motion_transforms(driver_rest, portrait_shape)
    shapes = retarget_shapes(driver_shapes, portrait_shape, transforms, driver_rest)
    pose = driving.head_pose.astype(np.float64)
    rest = _count_rest_frames(driving.landmarks[..., :2] * (driving.width, driving.height))
    moved_pose = np.tile(portrait.head_pose[0].astype(np.float64), (len(driving), 1, 1))
    moved_pose[:, :3, :3] = _relative_rotations(pose[:, :3, :3], rest) @ moved_pose[:, :3, :3]
    centres = pose[:, :3, 3]
    moved_pose[:, :3, 3] += transforms.scale * (centres - centres[:rest].mean(0))
    return project_to_pixels(shapes, moved_pose, portrait.height, portrait.width)


def _synchronize_pixels(driving: FaceLandmarks, portrait: FaceLandmarks) -> np.ndarray:
    points, portrait_shape = driving.points.astype(np.float64), portrait.points[0].astype(np.float64)
    bone = list(RIGID_POINTS)
    moves = [fit_similarity(points[0, bone], frame[bone]) for frame in points]
    # Each frame's own pose is undone: what is left is expression.
    undo = np.linalg.inv(np.stack([move.matrix() for move in moves]))
    driver_shapes = apply_transform(undo, points)
    driver_rest = shape_as_open(driver_shapes, portrait_shape)
    transforms = fit_motion_transforms(driver_rest, portrait_shape)
    shapes = retarget_shapes(driver_shapes, portrait_shape, transforms, driver_rest)
    rotations = np.stack([move.rotation for move in moves])
    rest = _count_rest_frames(points[..., :2])
    log_sizes = np.log([move.scale for move in moves])
    sizes = np.exp(log_sizes - log_sizes[:rest].mean())
    centres = points[:, bone].mean(1)
    travel = transforms.scale * (centres - centres[:rest].mean(0))
    pivot = portrait_shape[bone].mean(0)
    turns = _relative_rotations(rotations, rest) * sizes[:, None, None]
    moved = pivot + (shapes - pivot) @ np.swapaxes(turns, 1, 2) + travel[:, None]
    return np.ascontiguousarray(moved[..., :2])


def _count_rest_frames(points: np.ndarray) -> int:
    """How many leading frames show the first pose: points ``(frames, 478, 2)`` in pixels."""
    bone = points[:REST_MAX_FRAMES, list(RIGID_POINTS)]
    moved = np.linalg.norm(bone - bone[0], axis=-1).mean(1)
    moving = np.flatnonzero(moved > REST_MAX_MOVE * np.ptp(bone[0, :, 0]))
    return int(moving[0]) if len(moving) else len(bone)


def _relative_rotations(rotations: np.ndarray, rest: int) -> np.ndarray:
    """Rotations ``(frames, 3, 3)`` against the mean of the first ``rest``."""
    group = Rotation.from_matrix(rotations)
    relative: np.ndarray = (group * group[:rest].mean().inv()).as_matrix()
    return relative


def _check(driving: FaceGeometry | FaceLandmarks, portrait: FaceGeometry | FaceLandmarks) -> None:
    if len(portrait) != 1:
        raise InputError(f"The portrait must have exactly one frame of landmarks, got {len(portrait)}.")
    if len(driving) < 1:
        raise InputError("The driver has no frame with a face; give a driving video that shows one.")
