"""New faces from the faces at hand: shape and texture of two or three portraits blended through their landmarks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from portraitanim.data.synthesis.portrait_bank import BankPortrait
from portraitanim.errors import InputError
from portraitanim.face.curves import smooth_step
from portraitanim.face.face_measures import head_angles
from portraitanim.face.head_mesh import HeadMesh
from portraitanim.face.landmark_groups import FACE_SILHOUETTE, NUM_MESH_POINTS
from portraitanim.face.transforms import fit_similarity
from portraitanim.face.triangle_map import sample, triangle_map

MAX_TURN_DIFFERENCE_DEGREES = 16.0
"""Faces that are turned further apart than this do not mix: one would show a cheek that the other hides."""

_SEAM_SHARE = 0.11
"""Width of the soft border of the blended face, in face heights."""


def can_mix(base: BankPortrait, other: BankPortrait) -> bool:
    """Whether the skin of ``other`` can be blended into ``base``: it is bare, and both look about the same way."""
    one, two = head_angles(base.points), head_angles(other.points)
    turn = max(abs(one.yaw - two.yaw), abs(one.pitch - two.pitch))
    return other.has_bare_forehead and turn <= MAX_TURN_DIFFERENCE_DEGREES


def morph(
    portraits: Sequence[BankPortrait], shape_weights: Sequence[float], texture_weights: Sequence[float], name: str
) -> BankPortrait:
    """Blend portraits into a new person, who keeps hair, clothes and background of the first.

    Args:
        portraits: two or more; sizes must be equal.
        shape_weights: share of each in the shape; they add up to 1.
        texture_weights: share of each in the skin, eyes and lips; they add up to 1.
        name: of the new person.

    Raises:
        InputError: one portrait only, weights that do not fit, or sizes that differ.
    """
    weights = np.array([shape_weights, texture_weights], np.float64)
    if len(portraits) < 2 or weights.shape != (2, len(portraits)) or not np.allclose(weights.sum(1), 1):
        raise InputError(f"A morph needs two or more portraits and weights that add up to 1, got {weights.tolist()}.")
    if len({portrait.size_px for portrait in portraits}) > 1:
        raise InputError("The portraits of a morph must have one size.")
    base = portraits[0]
    points = _mixed_shape(portraits, weights[0])
    mesh = HeadMesh(base.points, base.size_px)
    moved = mesh.move(points, mesh.head_motion(points))
    order = mesh.painting_order(points[:NUM_MESH_POINTS, 2])
    back = triangle_map(mesh.source, moved, order, base.size_px)
    layers = np.dstack([base.image.transpose(1, 2, 0).astype(np.float32), base.person])
    warped = sample(layers, back)
    picture, person = np.clip(warped[..., :3], 0, 255), np.clip(warped[..., 3], 0, 1)
    face = _face_mask(points, base.size_px)
    blended = weights[1][0] * picture
    for portrait, weight in zip(portraits[1:], weights[1][1:], strict=True):
        back = triangle_map(portrait.points[:NUM_MESH_POINTS, :2], points[:, :2], order_of_face(order), base.size_px)
        other = np.clip(sample(portrait.image.transpose(1, 2, 0).astype(np.float32), back), 0, 255)
        blended = blended + weight * _with_colours_of(other, picture, face)
    mixed = picture + face[..., None] * (np.clip(blended, 0, 255) - picture)
    image = np.rint(mixed).astype(np.uint8).transpose(2, 0, 1)
    return BankPortrait(name=name, image=np.ascontiguousarray(image), points=points.astype(np.float32), person=person)


def order_of_face(triangles: np.ndarray) -> np.ndarray:
    """Those triangles that lie in the face, in the same order."""
    return triangles[(triangles < NUM_MESH_POINTS).all(1)]


def _mixed_shape(portraits: Sequence[BankPortrait], weights: np.ndarray) -> np.ndarray:
    """The mean shape, in the place, size and tilt of the first portrait."""
    base = portraits[0].points.astype(np.float64)
    mixed = weights[0] * base
    for portrait, weight in zip(portraits[1:], weights[1:], strict=True):
        points = portrait.points.astype(np.float64)
        flat = points * [1, 1, 0]
        fit = fit_similarity(flat, base * [1, 1, 0])
        moved = fit.scale * points @ fit.rotation.T + fit.translation
        mixed = mixed + weight * moved
    return mixed


def _face_mask(points: np.ndarray, size_px: int) -> np.ndarray:
    """1 on the face, falling to 0 at its outline and above the brows, where hair may begin; ``(size, size)``."""
    outline = points[list(FACE_SILHOUETTE), :2]
    mask = np.zeros((size_px, size_px), np.uint8)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 1)
    seam = _SEAM_SHARE * float(np.ptp(outline[:, 1]))
    padded = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    ramp = np.clip(padded / seam, 0, 1)
    # The outline runs along the hairline; a fringe hides more of the forehead than the outline says.
    brows = points[[70, 105, 107, 336, 334, 300], 1].mean()
    top = outline[:, 1].min()
    rows = np.clip((np.arange(size_px) + 0.5 - top) / max(brows - top, 1.0) * 1.4 - 0.45, 0, 1)[:, None]
    return smooth_step(ramp * rows).astype(np.float32)


def _with_colours_of(picture: np.ndarray, model: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Shift and scale the colours of a picture so that their mean and spread within ``where`` are the model's."""
    chosen = where > 0.7
    if chosen.sum() < 16:
        return picture
    lab, model_lab = (cv2.cvtColor(p.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for p in (picture, model))
    mean, wanted = lab[chosen].mean(0), model_lab[chosen].mean(0)
    ratio = np.clip(model_lab[chosen].std(0) / np.maximum(lab[chosen].std(0), 1e-3), 0.6, 1.6)
    moved = (lab - mean) * ratio + wanted
    return np.clip(cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_LAB2RGB), 0, 1) * 255
