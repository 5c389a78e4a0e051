"""The portrait, moved to where landmarks say.

Small networks are slow to learn that a head which has turned is the same head elsewhere: they leave ghosts of eyes and
nose where the portrait had them. So they are shown the portrait where the landmarks say that it is, and learn only what
moving cannot give: the inside of a mouth, what the head uncovers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from portraitanim.errors import InputError
from portraitanim.face import landmark_groups as groups
from portraitanim.face.head_warp import HeadWarp
from portraitanim.face.triangle_map import sample
from portraitanim.types import NUM_LANDMARKS

_EYE_CORNERS = (33, 133, 362, 263)

_FOLLOWED: dict[str, tuple[int, ...]] = {
    "eyes": groups.EYES,
    "eyebrows": (*groups.LEFT_EYEBROW, *groups.RIGHT_EYEBROW),
    "pupils": (groups.LEFT_PUPIL, groups.RIGHT_PUPIL),
    "nose": groups.NOSE,
    "mouth": groups.MOUTH,
    "irises": (*groups.LEFT_IRIS, *groups.RIGHT_IRIS),
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


@dataclass(frozen=True, eq=False)
class _Shown:
    """What some parts tell: their points, what each says of the head, and how far the others follow them."""

    points: list[int]
    bone_weights: np.ndarray
    following: np.ndarray


class MovingPortrait:
    """A portrait that is moved by landmarks.

    Args:
        image: uint8 ``(3, size, size)``.
        landmarks: its landmarks ``(478, 3)`` in pixels.
    """

    def __init__(self, image: np.ndarray, landmarks: np.ndarray) -> None:
        self._image = image
        self._pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        self._source = landmarks.astype(np.float64)
        self._width = float(np.linalg.norm(self._source[454, :2] - self._source[234, :2]))
        self._warp = HeadWarp(self._source, image.shape[-1])
        self._shown: dict[frozenset[str], _Shown] = {}

    def moved(self, points: np.ndarray, parts: Collection[str]) -> np.ndarray:
        """The portrait where the shown landmarks of some frames say that it is.

        Nothing is taken from parts that are not shown: their points follow the head and what is shown beside them.

        Args:
            points: landmarks of the frames, ``(frames, 478, 2 or 3)`` in pixels of the portrait.
            parts: which parts are shown, as in `drawing.draw_landmarks`; without any, the portrait stays as it is.

        Returns:
            uint8 ``(frames, 3, size, size)``.

        Raises:
            InputError: an unknown part.
        """
        shown = self._what_is_shown(frozenset(parts))
        if not shown.points:
            return np.repeat(self._image[None], len(points), axis=0)
        frames = [sample(self._pixels, self._source_map(target, shown)) for target in points]
        return np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2))

    def _what_is_shown(self, parts: frozenset[str]) -> _Shown:
        if parts not in self._shown:
            unknown = sorted(parts - set(_FOLLOWED))
            if unknown:
                raise InputError(f"Unknown face part {unknown[0]!r}. Known: {', '.join(_FOLLOWED)}.")
            shown = sorted({point for part in parts for point in _FOLLOWED[part]})
            weights = np.zeros(NUM_LANDMARKS)
            for part, weight in _BONE_WEIGHTS.items():
                if part in parts:
                    weights[list(_EYE_CORNERS if part == "eyes" else _FOLLOWED[part])] = weight
            distance = cdist(self._source[:, :2], self._source[shown, :2], "sqeuclidean") / (_REACH * self._width) ** 2
            near = np.exp(-0.5 * distance)
            following = near / (near.sum(1, keepdims=True) + _LONE_POINT_SHARE)
            self._shown[parts] = _Shown(shown, weights, following)
        return self._shown[parts]

    def _source_map(self, target: np.ndarray, shown: _Shown) -> np.ndarray:
        """Where each pixel of a frame comes from, ``(size, size, 2)``."""
        head = self._head_motion(target[:, :2].astype(np.float64), shown.bone_weights)
        rigid = self._source @ head[:, :3].T + head[:, 3]
        own = target[shown.points, :2] - rigid[shown.points]
        places = rigid + shown.following @ own
        places[shown.points] = target[shown.points, :2]
        return self._warp.source_map(places, head, self._source[:, 2])

    def _head_motion(self, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Affine ``(2, 4)`` from the portrait (x, y, z, 1) to the frame, as far as the points' spread supports it."""
        if not weights.any():
            return np.eye(2, 4)
        share = weights / weights.sum()
        middle, goal = share @ self._source, share @ target
        centred = self._source - middle
        stiff = _STIFFNESS * self._width**2 * np.eye(3)
        gram = (weights[:, None] * centred).T @ centred + stiff
        mixed = (weights[:, None] * centred).T @ (target - goal) + stiff[:, :2]
        linear = np.linalg.solve(gram, mixed).T
        return np.column_stack([linear, goal - linear @ middle])
