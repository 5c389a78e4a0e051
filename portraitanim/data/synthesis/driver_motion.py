"""A driver's face as expression and head pose, and how both are given to a portrait.

This builds on the parts of `portraitanim.face.motion_sync` with one difference. There the driver's *mean* shape
becomes the portrait; here it is the driver's *neutral* one, with closed lips, so that silence shuts the mouth and
the depth of every opening is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from portraitanim.face.curves import box_mean
from portraitanim.face.expression_transfer import fit_motion_transforms, retarget_shapes
from portraitanim.face.geometry import apply_transform
from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, LIP_PAIRS, RIGHT_EYELID_PAIRS, RIGID_POINTS
from portraitanim.face.transforms import fit_similarity

_BONE = list(RIGID_POINTS)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadPoses:
    """How the head moves against its first, straight pose.

    Attributes:
        rotations: ``(frames, 3, 3)``.
        sizes: ``(frames,)``, factor.
        travel: ``(frames, 3)`` in face widths.
    """

    rotations: np.ndarray
    sizes: np.ndarray
    travel: np.ndarray

    def within(self, max_degrees: float, max_travel: float, max_growth: float) -> HeadPoses:
        """The same motion about its own mean, made smaller where it would go too far for a picture to follow."""
        group = Rotation.from_matrix(self.rotations)
        turns = (group * group.mean().inv()).as_rotvec()
        travel = self.travel - self.travel.mean(0)
        growth = np.log(self.sizes) - np.log(self.sizes).mean()

        def shrink(values: np.ndarray, extents: np.ndarray, limit: float) -> np.ndarray:
            return values * min(1.0, limit / max(float(extents.max()), 1e-9))

        turns = shrink(turns, np.linalg.norm(turns, axis=1), np.radians(max_degrees))
        return HeadPoses(
            rotations=Rotation.from_rotvec(turns).as_matrix(),
            sizes=np.exp(shrink(growth, np.abs(growth), np.log1p(max_growth))),
            travel=shrink(travel, np.linalg.norm(travel, axis=1), max_travel),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class DriverMotion:
    """One driver over time.

    Attributes:
        shapes: ``(frames, 478, 3)``, head pose taken out, in face widths about the middle of the bone points.
        neutral: ``(478, 3)``, the same with closed lips and open eyes.
        poses: of the head.
    """

    shapes: np.ndarray
    neutral: np.ndarray
    poses: HeadPoses


def face_width(points: np.ndarray) -> np.ndarray:
    """Distance between the two ends of the face at the ears, ``(...)`` for ``(..., 478, 3)``."""
    width: np.ndarray = np.linalg.norm(points[..., 454, :] - points[..., 234, :], axis=-1)
    return width


def lip_opening(points: np.ndarray) -> np.ndarray:
    """Largest gap between the inner lips, in the unit of the points."""
    pairs = np.array(LIP_PAIRS)
    gap: np.ndarray = np.linalg.norm(points[..., pairs[:, 0], :2] - points[..., pairs[:, 1], :2], axis=-1).max(-1)
    return gap


def lid_opening(points: np.ndarray) -> np.ndarray:
    """Mean gap between the lids of both eyes, in the unit of the points."""
    pairs = np.array((*RIGHT_EYELID_PAIRS, *LEFT_EYELID_PAIRS))
    gap: np.ndarray = np.linalg.norm(points[..., pairs[:, 0], :2] - points[..., pairs[:, 1], :2], axis=-1).mean(-1)
    return gap


def separate_motion(points: np.ndarray) -> DriverMotion:
    """Take a track ``(frames, 478, 3)`` in pixels apart into expression and pose."""
    points = points.astype(np.float64)
    straight = points[np.argsort(lip_opening(points) / face_width(points))[: max(1, len(points) // 5)]].mean(0)
    reference = _unit_face(straight)
    moves = [fit_similarity(reference[_BONE], frame[_BONE]) for frame in points]
    shapes = apply_transform(np.linalg.inv(np.stack([move.matrix() for move in moves])), points)
    openings, lids = lip_opening(shapes), lid_opening(shapes)
    calm = np.flatnonzero((openings <= np.percentile(openings, 12)) & (lids >= np.percentile(lids, 30)))
    neutral = shapes[calm if len(calm) else [int(openings.argmin())]].mean(0)
    sizes = np.array([move.scale for move in moves])
    centres = points[:, _BONE].mean(1) / sizes.mean()
    poses = HeadPoses(
        rotations=_mean_rotations(np.stack([move.rotation for move in moves]), 3),
        sizes=np.exp(box_mean(np.log(sizes / sizes.mean()), 5)),
        travel=box_mean(centres - centres.mean(0), 3) * [1, 1, 0],
    )
    return DriverMotion(shapes=shapes, neutral=neutral, poses=poses)


def _unit_face(points: np.ndarray) -> np.ndarray:
    """A face turned upright, one face width wide, its bone points about the origin."""
    centred = points - points[_BONE].mean(0)
    across = centred[454] - centred[234]
    across = across / np.linalg.norm(across)
    down = centred[152] - centred[10]
    down = down - (down @ across) * across
    down = down / np.linalg.norm(down)
    axes = np.stack([across, down, np.cross(across, down)])
    return centred @ axes.T / face_width(points)


def carry_to_portrait(
    shapes: np.ndarray, neutral: np.ndarray, poses: HeadPoses, portrait: np.ndarray, pivot_depth: float
) -> np.ndarray:
    """Landmarks of a portrait that moves like the driver.

    Args:
        shapes: ``(frames, 478, 3)``.
        neutral: ``(478, 3)``, what corresponds to the portrait's resting face.
        poses: of the head, from the portrait's own pose on.
        portrait: ``(478, 3)`` in pixels, lips closed.
        pivot_depth: how far behind the bone points the head turns, in face widths.

    Returns:
        float64 ``(frames, 478, 3)`` in pixels of the portrait.
    """
    rest = portrait.astype(np.float64)
    transforms = fit_motion_transforms(neutral, rest)
    moved = retarget_shapes(shapes, rest, transforms, neutral)
    width = float(face_width(rest))
    pivot = rest[_BONE].mean(0) + np.array([0, 0, pivot_depth * width])
    turns = poses.rotations * poses.sizes[:, None, None]
    result: np.ndarray = pivot + (moved - pivot) @ np.swapaxes(turns, 1, 2) + poses.travel[:, None] * width
    return result


def _mean_rotations(rotations: np.ndarray, window: int) -> np.ndarray:
    """Running mean ``(frames, 3, 3)`` on the rotation group, with fewer frames at the ends."""
    reach = window // 2
    group = Rotation.from_matrix(rotations)
    return np.stack([group[max(0, t - reach) : t + reach + 1].mean().as_matrix() for t in range(len(rotations))])
