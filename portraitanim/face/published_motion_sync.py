"""EchoMimic's released motion synchronization, number for number.

Kept for comparison and for people who need the released behaviour. What it does against the paper: the
full-face step is missing, so points outside the six parts keep the driver's proportions; each part gets a free
affine; rotations are averaged element by element; the projection matrix is transposed wrongly, which shrinks
the face by 0.01 %. `portraitanim.face.motion_sync` does better and is the default.
"""

from __future__ import annotations

import math

import numpy as np

from portraitanim.face.curves import box_mean
from portraitanim.face.geometry import VERTICAL_FIELD_OF_VIEW_DEGREES, FaceGeometry, apply_transform
from portraitanim.face.landmark_groups import EYES, NUM_MESH_POINTS, SYNC_PARTS

PUBLISHED_CANVAS_PX = 512
NEAR_CM, FAR_CM = 1.0, 10000.0
POSE_REACH_FRAMES, SHAPE_REACH_FRAMES = 2, 1


def synchronize_published(driving: FaceGeometry, portrait: FaceGeometry, *, parts: bool = True) -> np.ndarray:
    """Carry the driver's motion to the portrait as the released code does.

    Args:
        driving: the driver over time.
        portrait: one frame; its picture is taken to be square.
        parts: fit each part to the portrait; without, only the head pose is the portrait's.

    Returns:
        float64 ``(frames, 478, 2)`` in pixels of a 512×512 canvas.
    """
    driver_shapes = mesh_with_affine_irises(driving)
    moved = smoothed_shapes(driver_shapes)
    if parts:
        portrait_shape = mesh_with_affine_irises(portrait)[0]
        source = moved.copy()
        for name, matrix in part_affines(driver_shapes.mean(0), portrait_shape).items():
            group = list(SYNC_PARTS[name])
            moved[:, group] = apply_transform(matrix, source[:, group])
    pose = driving.head_pose.astype(np.float64)
    relative = box_mean(pose @ np.linalg.inv(pose[0]), 2 * POSE_REACH_FRAMES + 1)
    return _project(moved, relative @ portrait.head_pose[0].astype(np.float64))


def mesh_with_affine_irises(geometry: FaceGeometry) -> np.ndarray:
    """Metric mesh with irises, placed by one affine from normalised to metric eye points: ``(frames, 478, 3)``."""
    landmarks, mesh = geometry.landmarks.astype(np.float64), geometry.mesh_cm.astype(np.float64)
    eyes = list(EYES)
    irises = [
        apply_transform(fit_affine_homogeneous(points[eyes], metric[eyes]), points[NUM_MESH_POINTS:])
        for points, metric in zip(landmarks, mesh, strict=True)
    ]
    return np.concatenate([mesh, np.stack(irises)], axis=1)


def smoothed_shapes(shapes: np.ndarray) -> np.ndarray:
    """Mean of each frame and its neighbours, fewer at the ends."""
    return box_mean(shapes, 2 * SHAPE_REACH_FRAMES + 1)


def part_affines(driver_mean: np.ndarray, portrait_shape: np.ndarray) -> dict[str, np.ndarray]:
    """One free 4×4 affine per part, from the driver's mean shape to the portrait, both ``(478, 3)``."""
    return {
        name: fit_affine_homogeneous(driver_mean[list(group)], portrait_shape[list(group)])
        for name, group in SYNC_PARTS.items()
    }


def fit_affine_homogeneous(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Affine by the direct linear transform on Hartley-normalised points, ``(points, 3)`` → ``(4, 4)``.

    Unlike least squares this minimises an algebraic error in which the target's own scale is unknown too. On
    nearly flat parts the two differ by as much as 0.18, hence parity needs this one.
    """
    count, dim = source.shape
    source_frame, target_frame = _normalizing(source), _normalizing(target)
    source_unit = apply_transform(source_frame, source)
    target_unit = apply_transform(target_frame, target)
    # Unknowns: dim rows of the affine, then the common scale of the target.
    system = np.zeros((dim, count, dim * (dim + 1) + 1))
    for axis in range(dim):
        first = axis * (dim + 1)
        system[axis, :, first : first + dim] = source_unit
        system[axis, :, first + dim] = 1.0
        system[axis, :, -1] = -target_unit[:, axis]
    solution = np.linalg.svd(system.reshape(dim * count, -1), full_matrices=False)[2][-1]
    affine = np.eye(dim + 1)
    affine[:dim] = (solution[:-1] / solution[-1]).reshape(dim, dim + 1)
    fitted: np.ndarray = np.linalg.inv(target_frame) @ affine @ source_frame
    return fitted


def _normalizing(points: np.ndarray) -> np.ndarray:
    """4×4 that centres the points and makes their root mean square distance sqrt(3)."""
    mean = points.mean(0)
    factor = math.sqrt(points.shape[1] / ((points - mean) ** 2).sum(1).mean())
    matrix = np.diag([factor] * points.shape[1] + [1.0])
    matrix[:-1, -1] = -factor * mean
    return matrix


def _project(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    # The released matrix is float32 and lies transposed, so that w = far·near/(far − near)·depth, not depth.
    half_angle = math.radians(VERTICAL_FIELD_OF_VIEW_DEGREES) / 2
    focal = float(np.float32(1 / math.tan(half_angle)))
    w_factor = float(np.float32(FAR_CM * NEAR_CM / (FAR_CM - NEAR_CM)))
    camera = apply_transform(pose, points)
    w = -camera[..., 2] * w_factor
    half = PUBLISHED_CANVAS_PX / 2
    return np.stack([(1 + focal * camera[..., 0] / w) * half, (1 - focal * camera[..., 1] / w) * half], axis=-1)
