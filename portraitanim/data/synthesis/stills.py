"""Portraits of a person before a clip begins: as the picture shows them, with parted lips, or smiling.

A user's portrait rarely has its mouth shut and at rest. What a network is to make of a smile with teeth it learns where
its reference shows one and the clip does not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from portraitanim.data.synthesis.driver_motion import HeadPoses, carry_to_portrait, face_width, lip_opening
from portraitanim.data.synthesis.expression_basis import ExpressionBasis, FaceMeasures
from portraitanim.data.synthesis.mesh_warp import PortraitWarper
from portraitanim.data.synthesis.portrait_bank import BankPortrait

_BROADEST_SMILE = {"width": 0.1, "corners": 0.05, "upper_lip": 0.018}
"""Measures of the face, in face widths."""

_SMILING_SHARE = 0.35
_MAX_OPENING_TO_SMILE = 0.02
"""Lips of a portrait that are further apart, in face widths, have an expression of their own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stills:
    """Portraits of one person.

    Attributes:
        pictures: uint8 ``(stills, 3, size, size)``.
        landmarks: float32 ``(stills, 478, 3)`` in pixels.
    """

    pictures: np.ndarray
    landmarks: np.ndarray


def draw_smile(portrait: BankPortrait, rng: np.random.Generator) -> float:
    """How broadly a person smiles throughout a clip, in [0, 1]; mostly not at all."""
    amount = rng.uniform(0.2, 1.0) if rng.random() < _SMILING_SHARE else 0.0
    points = portrait.points.astype(np.float64)
    return float(amount) if lip_opening(points) <= _MAX_OPENING_TO_SMILE * face_width(points) else 0.0


def smiling(shapes: np.ndarray, basis: ExpressionBasis, smile: float) -> np.ndarray:
    """Shapes ``(frames, 478, 3)`` of a face that smiles besides what it does."""
    change = basis.shapes(_measures(smile, np.zeros(1))) - basis.shapes(_measures(0.0, np.zeros(1)))
    return shapes + change


def draw_stills(
    portrait: BankPortrait,
    rest: np.ndarray,
    basis: ExpressionBasis,
    warper: PortraitWarper,
    smile: float,
    rng: np.random.Generator,
) -> Stills:
    """Two portraits: one as the picture is (or with the clip's smile, lips shut), and one with its lips apart.

    Args:
        portrait: the picture.
        rest: its landmarks ``(478, 3)`` with closed lips.
        basis: how faces move.
        warper: draws the portrait with other landmarks.
        smile: of the clip, from `draw_smile`.
        rng: decides how far the lips are apart.
    """
    apart = rng.uniform(0.015, 0.03 + 0.05 * smile) if smile else rng.uniform(0.015, 0.09)
    shapes = basis.shapes(_measures(smile, np.array([0.0, apart])))
    points = carry_to_portrait(shapes, basis.neutral, _still_head(2), rest, 0.0).astype(np.float32)
    pictures = [warper.frame(frame) for frame in points]
    if not smile:
        points[0], pictures[0] = portrait.points, portrait.image
    return Stills(pictures=np.stack(pictures), landmarks=points)


def _measures(smile: float, opening: np.ndarray) -> FaceMeasures:
    still = np.zeros(len(opening))
    values = {each.name: still + smile * _BROADEST_SMILE.get(each.name, 0.0) for each in fields(FaceMeasures)}
    return FaceMeasures(**{**values, "opening": opening})


def _still_head(frames: int) -> HeadPoses:
    return HeadPoses(
        rotations=np.repeat(np.eye(3)[None], frames, axis=0), sizes=np.ones(frames), travel=np.zeros((frames, 3))
    )
