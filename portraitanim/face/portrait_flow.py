"""The portrait, moved to where landmarks say: a dense motion field, and the pictures that it makes.

Small networks are slow to learn that a head which has turned is the same head elsewhere: they leave ghosts of eyes and
nose where the portrait had them. So they are shown the portrait where the landmarks say that it is, and learn only what
moving cannot give: the inside of a mouth, lids that close, what the head uncovers.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
from scipy.spatial.distance import cdist

from portraitanim.errors import InputError
from portraitanim.face import landmark_groups as groups
from portraitanim.types import NUM_LANDMARKS

_GRID = 64
"""Cells of the field per side; between their middles it is interpolated."""

_EYE_CORNERS = (33, 133, 362, 263)

_FOLLOWED: dict[str, tuple[int, ...]] = {
    "eyes": groups.EYES,
    "eyebrows": (*groups.LEFT_EYEBROW, *groups.RIGHT_EYEBROW),
    "pupils": (groups.LEFT_PUPIL, groups.RIGHT_PUPIL),
    "nose": groups.NOSE,
    "mouth": groups.MOUTH,
    "irises": (),
    "outline": groups.FACE_SILHOUETTE,
}
"""The points of each part that can be drawn."""

_BONE_WEIGHTS = {"eyes": 3.0, "eyebrows": 0.3, "nose": 1.0, "outline": 0.3}
"""How much a part says about the head as a whole; lips and pupils go their own way."""

_STIFFNESS = 0.02
"""Pull of the head's linear motion towards none, in squared face widths: a few points close together tell a shift, and
nothing about turns."""

_REACH = 0.05
"""Standard deviation in face widths with which a point's own motion fades around it."""
_LONE_POINT_SHARE = 0.3
"""Where the kernels of the points sum up to this, their motion is followed by half."""

_HELD_SHARE = 0.16
_NECK_REACH = 0.3
"""From this distance to the border (in sides of the picture), and below the chin over this share of the face's height,
the head's motion fades to nothing: shoulders and background stay."""


def moved_portraits(image: np.ndarray, portrait: np.ndarray, points: np.ndarray, parts: Collection[str]) -> np.ndarray:
    """The portrait where the shown landmarks of some frames say that it is.

    Args:
        image: uint8 ``(3, size, size)``.
        portrait: its landmarks ``(478, 2 or 3)`` in pixels.
        points: landmarks of the frames, ``(frames, 478, 2 or 3)``.
        parts: which parts are shown; without any, the portrait stays as it is.

    Returns:
        uint8 ``(frames, 3, size, size)``.

    Raises:
        InputError: an unknown part.
    """
    size_px = image.shape[-1]
    if not parts:
        return np.repeat(image[None], len(points), axis=0)
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    middles = np.arange(size_px, dtype=np.float32)
    still = np.stack(np.meshgrid(middles, middles), axis=-1)
    moved = []
    for way in portrait_flow(portrait, points, parts, size_px):
        places = still + cv2.resize(way, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        moved.append(cv2.remap(pixels, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
    return np.ascontiguousarray(np.stack(moved).transpose(0, 3, 1, 2))


def portrait_flow(portrait: np.ndarray, points: np.ndarray, parts: Collection[str], size_px: int) -> np.ndarray:
    """The motion field of some frames.

    The parts that are shown give an affine motion of the head, and each of their points what it does beside it; nothing
    is taken from parts that are not shown.

    Args:
        portrait: landmarks of the portrait ``(478, 2 or 3)`` in pixels.
        points: landmarks of the frames ``(frames, 478, 2 or 3)``, likewise.
        parts: which parts are shown, as in `drawing.draw_landmarks`; none gives no motion.
        size_px: side of the portrait.

    Returns:
        float32 ``(frames, 64, 64, 2)``: for the middle of each of 64×64 cells x and y of the way to its source in the
        portrait, in pixels.

    Raises:
        InputError: an unknown part.
    """
    unknown = sorted(set(parts) - set(_FOLLOWED))
    if unknown:
        raise InputError(f"Unknown face part {unknown[0]!r}. Known: {', '.join(_FOLLOWED)}.")
    shown = [point for part in parts for point in _FOLLOWED[part]]
    if not shown:
        return np.zeros((len(points), _GRID, _GRID, 2), np.float32)
    weights = _bone_weights(parts)
    source = portrait[:, :2].astype(np.float64)
    middles = (np.arange(_GRID) + 0.5) * (size_px / _GRID)
    cells = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
    width = float(np.linalg.norm(source[454] - source[234]))
    targets = points[..., :2].astype(np.float64)
    moved = np.stack([_frame_flow(source, target, shown, weights, cells, width, size_px) for target in targets])
    return moved.reshape(-1, _GRID, _GRID, 2).astype(np.float32)


def _bone_weights(parts: Collection[str]) -> np.ndarray:
    weights = np.zeros(NUM_LANDMARKS)
    for part, weight in _BONE_WEIGHTS.items():
        if part in parts:
            weights[list(_EYE_CORNERS if part == "eyes" else _FOLLOWED[part])] = weight
    return weights


def _frame_flow(
    source: np.ndarray,
    target: np.ndarray,
    shown: list[int],
    weights: np.ndarray,
    cells: np.ndarray,
    width: float,
    size_px: int,
) -> np.ndarray:
    """Way from each cell to its source, ``(cells, 2)`` in pixels."""
    linear, shift = _head_motion(source, target, weights, width)
    own = source[shown] - (target[shown] @ linear.T + shift)
    distance = cdist(cells, target[shown], "sqeuclidean")
    near = np.exp((distance * (-0.5 / (_REACH * width) ** 2)).astype(np.float32))
    beside = near @ own / (near.sum(1, keepdims=True) + _LONE_POINT_SHARE)
    origin = cells @ linear.T + shift
    return (origin + beside - cells) * _held(source, origin, cells, size_px)[:, None]


def _head_motion(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Linear part and shift that bring the frame's points to the portrait's, as far as their spread supports it."""
    if not weights.any():
        return np.eye(2), np.zeros(2)
    share = (weights / weights.sum())[:, None]
    middle, goal = (share * target).sum(0), (share * source).sum(0)
    centred = target - middle
    stiff = _STIFFNESS * width**2 * np.eye(2)
    gram = (weights[:, None] * centred).T @ centred + stiff
    mixed = (weights[:, None] * centred).T @ (source - goal) + stiff
    linear = np.linalg.solve(gram, mixed).T
    return linear, goal - linear @ middle


def _held(source: np.ndarray, origin: np.ndarray, cells: np.ndarray, size_px: int) -> np.ndarray:
    """1 where the head's motion is followed in full, 0 where the picture stays."""
    to_border = np.minimum(cells, size_px - cells).min(1) / (_HELD_SHARE * size_px)
    height = float(np.ptp(source[list(groups.FACE_SILHOUETTE), 1]))
    above = 1 - (origin[:, 1] - source[152, 1]) / (_NECK_REACH * height)
    return _smooth_step(to_border) * _smooth_step(above)


def _smooth_step(value: np.ndarray) -> np.ndarray:
    ramp: np.ndarray = np.clip(value, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)
