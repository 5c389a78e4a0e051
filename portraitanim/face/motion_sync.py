"""Part-aware motion synchronization: a driving face moves a portrait without deforming it (EchoMimic).

As in the paper a full-face transform brings the driver's mean shape to the portrait, then each part gets a
residual transform. Differences from the released code, each for a reason:

* The part transforms are blended over the whole mesh with smooth weights, so cheeks and outline follow and
  nothing tears. Each is drawn to the identity where a flat part says nothing (`transforms.fit_affine`).
* What the transforms leave over on the mean shape is corrected point by point. The mean synchronized shape
  therefore is the portrait; only the *motion* about the mean passes through the transforms.
* Lips and lids that meet on the driver meet on the portrait, also when one of the two rests open.
* Head turns are carried as rotations, averaged on the rotation group, about the portrait's own head centre.
  They count from the driver's first pose, which is averaged over the still frames at the start: a single
  detection is off by some tenths of a degree, and every frame of the video would inherit that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from portraitanim.errors import InputError
from portraitanim.face.geometry import FaceGeometry, apply_transform, mesh_with_irises, project_to_pixels
from portraitanim.face.landmark_groups import (
    LEFT_EYELID_PAIRS,
    LIP_PAIRS,
    RIGHT_EYELID_PAIRS,
    RIGID_POINTS,
    SYNC_PARTS,
)
from portraitanim.face.published_motion_sync import synchronize_published
from portraitanim.face.transforms import fit_affine, fit_similarity
from portraitanim.types import FaceLandmarks

SyncMethod = Literal["paper", "published"]

PART_REACH = 0.6
"""How far a part's transform reaches into its surroundings, in radii of the part."""

CLOSED_FRACTION = 0.05
"""An opening below this share of the part's width counts as closed."""

REST_MAX_FRAMES, REST_MAX_DEGREES = 12, 1.0
"""The first pose is the mean of at most so many leading frames, as long as the head stays so still."""

_FOREHEAD, _CHIN = 10, 152


@dataclass(frozen=True, kw_only=True)
class MotionTransforms:
    """How motion of the driver becomes motion of the portrait.

    Attributes:
        full_face: ``(4, 4)`` affine, driver's mean shape → portrait.
        parts: name → residual ``(4, 4)``, applied after ``full_face``.
        linear: ``(478, 3, 3)``, what each point's motion is multiplied with: full face and parts blended.
        scale: size of the portrait's face relative to the driver's.
    """

    full_face: np.ndarray
    parts: dict[str, np.ndarray]
    linear: np.ndarray
    scale: float


def synchronize(
    driving: FaceGeometry | FaceLandmarks,
    portrait: FaceGeometry | FaceLandmarks,
    *,
    method: SyncMethod = "paper",
    parts: bool = True,
    pose_window_frames: int = 5,
    shape_window_frames: int = 3,
) -> np.ndarray:
    """Landmarks of the portrait, moved as the driver moves.

    With metric geometry the head pose is MediaPipe's and the result is seen through its camera. With landmarks
    alone (pixels, z in the scale of x) the head is taken to be far from the camera: the pose of frame t relative
    to frame 0 is the similarity that best maps the points on bone (`landmark_groups.RIGID_POINTS`), and turns
    are about the middle of those points.

    Args:
        driving: the driver over time. Not changed.
        portrait: one frame, in the pixels of its own picture. Not changed.
        method: ``paper`` as described above; ``published`` reproduces the released code (metric geometry only,
            512×512 canvas, its own fixed windows).
        parts: fit eyes, mouth, nose and brows one by one; without, only the full-face transform.
        pose_window_frames: odd number of frames over which the head pose is averaged, fewer at the ends.
        shape_window_frames: the same for the face shape; 1 keeps short blinks and lip closures at full depth.

    Returns:
        float64 ``(frames, 478, 2)``, x and y in pixels of the portrait's picture.

    Raises:
        InputError: the two inputs are of different kinds, the portrait has not exactly one frame, there is no
            driving frame, a window is even, or ``published`` is asked for without metric geometry.
    """
    _check(driving, portrait, pose_window_frames, shape_window_frames)
    if isinstance(driving, FaceGeometry) and isinstance(portrait, FaceGeometry):
        if method == "published":
            return synchronize_published(driving, portrait, parts=parts)
        return _synchronize_metric(driving, portrait, parts, pose_window_frames, shape_window_frames)
    if isinstance(driving, FaceLandmarks) and isinstance(portrait, FaceLandmarks):
        if method == "published":
            raise InputError(
                "The published motion synchronization needs metric face geometry, got pixel landmarks. "
                "Install face_landmarker.task (portraitanim weights pull) or use the method 'paper'."
            )
        return _synchronize_pixels(driving, portrait, parts, pose_window_frames, shape_window_frames)
    raise InputError(
        f"Driver and portrait must be of one kind, got {type(driving).__name__} and {type(portrait).__name__}. "
        "Give FaceGeometry for both or FaceLandmarks for both."
    )


def fit_motion_transforms(
    driver_mean: np.ndarray, portrait_shape: np.ndarray, *, parts: bool = True
) -> MotionTransforms:
    """Fit the full-face transform and the residual transform of each part.

    Args:
        driver_mean: mean shape of the driver, ``(478, 3)``, head pose removed.
        portrait_shape: ``(478, 3)``.
        parts: whether to fit parts at all.
    """
    similarity = fit_similarity(driver_mean, portrait_shape)
    full_face = fit_affine(driver_mean, portrait_shape, prior=similarity.scale * similarity.rotation)
    aligned = apply_transform(full_face, driver_mean)
    linear = np.broadcast_to(full_face[:3, :3], (len(driver_mean), 3, 3))
    residuals: dict[str, np.ndarray] = {}
    if parts:
        groups = {name: list(group) for name, group in SYNC_PARTS.items()}
        residuals = {name: fit_affine(aligned[g], portrait_shape[g]) for name, g in groups.items()}
        weights = np.stack([_part_weights(aligned, group) for group in groups.values()])
        weights /= np.maximum(weights.sum(0), 1.0)
        changes = np.stack([matrix[:3, :3] - np.eye(3) for matrix in residuals.values()])
        linear = (np.eye(3) + np.einsum("pn,pij->nij", weights, changes)) @ linear
    return MotionTransforms(full_face=full_face, parts=residuals, linear=linear, scale=similarity.scale)


def retarget_shapes(
    driver_shapes: np.ndarray, portrait_shape: np.ndarray, transforms: MotionTransforms, driver_mean: np.ndarray
) -> np.ndarray:
    """Give the portrait the driver's expression, head pose aside.

    Args:
        driver_shapes: ``(frames, 478, 3)``, head pose removed.
        portrait_shape: ``(478, 3)``.
        transforms: from `fit_motion_transforms`.
        driver_mean: ``(478, 3)``; maps to the portrait's shape exactly.

    Returns:
        ``(frames, 478, 3)``.
    """
    motion = np.einsum("nij,tnj->tni", transforms.linear, driver_shapes - driver_mean)
    shapes = portrait_shape + motion
    down = portrait_shape[_CHIN] - portrait_shape[_FOREHEAD]
    down = down / max(np.linalg.norm(down), np.finfo(float).tiny)
    for pairs in (LIP_PAIRS, RIGHT_EYELID_PAIRS, LEFT_EYELID_PAIRS):
        _meet_where_driver_meets(shapes, np.array(pairs), portrait_shape, transforms, driver_shapes, driver_mean, down)
    return shapes


def _meet_where_driver_meets(
    shapes: np.ndarray,
    pairs: np.ndarray,
    portrait_shape: np.ndarray,
    transforms: MotionTransforms,
    driver_shapes: np.ndarray,
    driver_mean: np.ndarray,
    down: np.ndarray,
) -> None:
    """Let the portrait's own opening fade as the driver closes, in place.

    Motion is added to the portrait's resting shape. If the portrait rests more open than the driver, it would
    never close; if it rests more closed, upper and lower point would cross.
    """
    upper, lower = pairs.T
    linear = (transforms.linear[upper] + transforms.linear[lower]) / 2

    def driver_opening(points: np.ndarray) -> np.ndarray:
        opening: np.ndarray = np.einsum(
            "i,pij,...pj->...p", down, linear, points[..., lower, :] - points[..., upper, :]
        )
        return np.maximum(opening, 0.0)

    portrait_opening = (portrait_shape[lower] - portrait_shape[upper]) @ down
    rest, now = driver_opening(driver_mean), driver_opening(driver_shapes)
    # The floor keeps the ratio calm for a driver who is closed all the time.
    closed = CLOSED_FRACTION * np.linalg.norm(np.ptp(portrait_shape[pairs.ravel()], axis=0))
    fade = np.clip((now + closed) / (rest + closed), 0.0, 1.0)
    correction = (fade - 1.0) * (portrait_opening - rest)
    opening = (shapes[:, lower] - shapes[:, upper]) @ down + correction
    correction += np.maximum(np.minimum(portrait_opening, 0.0) - opening, 0.0)
    shapes[:, lower] += correction[..., None] / 2 * down
    shapes[:, upper] -= correction[..., None] / 2 * down


def _synchronize_metric(
    driving: FaceGeometry, portrait: FaceGeometry, parts: bool, pose_window: int, shape_window: int
) -> np.ndarray:
    driver_shapes = mesh_with_irises(driving)
    portrait_shape = mesh_with_irises(portrait)[0]
    driver_mean = driver_shapes.mean(0)
    transforms = fit_motion_transforms(driver_mean, portrait_shape, parts=parts)
    shapes = retarget_shapes(box_mean(driver_shapes, shape_window), portrait_shape, transforms, driver_mean)
    pose = driving.head_pose.astype(np.float64)
    rest = _count_rest_frames(pose[:, :3, :3])
    moved_pose = np.tile(portrait.head_pose[0].astype(np.float64), (len(driving), 1, 1))
    moved_pose[:, :3, :3] = _relative_rotations(pose[:, :3, :3], rest, pose_window) @ moved_pose[:, :3, :3]
    centres = pose[:, :3, 3]
    moved_pose[:, :3, 3] += transforms.scale * (box_mean(centres, pose_window) - centres[:rest].mean(0))
    return project_to_pixels(shapes, moved_pose, portrait.height, portrait.width)


def _synchronize_pixels(
    driving: FaceLandmarks, portrait: FaceLandmarks, parts: bool, pose_window: int, shape_window: int
) -> np.ndarray:
    points, portrait_shape = driving.points.astype(np.float64), portrait.points[0].astype(np.float64)
    bone = list(RIGID_POINTS)
    moves = [fit_similarity(points[0, bone], frame[bone]) for frame in points]
    # Undo each frame's own pose, not the averaged one: what is left is expression.
    undo = np.linalg.inv(np.stack([move.matrix() for move in moves]))
    driver_shapes = apply_transform(undo, points)
    driver_mean = driver_shapes.mean(0)
    transforms = fit_motion_transforms(driver_mean, portrait_shape, parts=parts)
    shapes = retarget_shapes(box_mean(driver_shapes, shape_window), portrait_shape, transforms, driver_mean)
    rotations = np.stack([move.rotation for move in moves])
    rest = _count_rest_frames(rotations)
    log_sizes = np.log([move.scale for move in moves])
    sizes = np.exp(box_mean(log_sizes, pose_window) - log_sizes[:rest].mean())
    centres = points[:, bone].mean(1)
    travel = transforms.scale * (box_mean(centres, pose_window) - centres[:rest].mean(0))
    pivot = portrait_shape[bone].mean(0)
    turns = _relative_rotations(rotations, rest, pose_window) * sizes[:, None, None]
    moved = pivot + (shapes - pivot) @ np.swapaxes(turns, 1, 2) + travel[:, None]
    return np.ascontiguousarray(moved[..., :2])


def _count_rest_frames(rotations: np.ndarray) -> int:
    """How many leading frames show the first pose."""
    leading = Rotation.from_matrix(rotations[:REST_MAX_FRAMES] @ rotations[0].T)
    moving = np.flatnonzero(np.rad2deg(leading.magnitude()) > REST_MAX_DEGREES)
    return int(moving[0]) if len(moving) else len(leading)


def _relative_rotations(rotations: np.ndarray, rest: int, window: int) -> np.ndarray:
    first = Rotation.from_matrix(rotations[:rest]).mean().as_matrix()
    relative: np.ndarray = mean_rotations(rotations, window) @ first.T
    return relative


def mean_rotations(rotations: np.ndarray, window: int) -> np.ndarray:
    """Running mean ``(frames, 3, 3)`` on the rotation group, with fewer frames at the ends."""
    reach = window // 2
    group = Rotation.from_matrix(rotations)
    return np.stack([group[max(0, t - reach) : t + reach + 1].mean().as_matrix() for t in range(len(rotations))])


def box_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Running mean over the first axis, with fewer frames at the ends."""
    reach = window // 2
    return np.stack([values[max(0, t - reach) : t + reach + 1].mean(0) for t in range(len(values))])


def _part_weights(aligned: np.ndarray, group: list[int]) -> np.ndarray:
    """1 on the part's own points, falling off smoothly with the distance to them: ``(478,)``."""
    part = aligned[group]
    radius = np.sqrt(((part - part.mean(0)) ** 2).sum(1).mean())
    distance = cdist(aligned, part).min(1)
    weights: np.ndarray = np.exp(-0.5 * (distance / (PART_REACH * radius)) ** 2)
    return weights


def _check(driving: FaceGeometry | FaceLandmarks, portrait: FaceGeometry | FaceLandmarks, *windows: int) -> None:
    if len(portrait) != 1:
        raise InputError(f"The portrait must have exactly one frame of landmarks, got {len(portrait)}.")
    if len(driving) < 1:
        raise InputError("The driver has no frame with a face; give a driving video that shows one.")
    if any(window < 1 or window % 2 == 0 for window in windows):
        raise InputError(f"Averaging windows must be odd and positive, got {windows}.")
