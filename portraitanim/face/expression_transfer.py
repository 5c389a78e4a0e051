"""Give a portrait the expression of another face, head pose aside: the part-aware half of motion synchronization.

As in the paper (EchoMimic) a full-face transform brings the driver's shape to the portrait, then each part gets a
residual transform. Beyond it, each for a reason:

* The shape that is fitted is the driver's with its mouth as open as the portrait's: speech holds the mouth half open,
  and fitted to its mean a portrait with closed lips would open them half as far, and too late.
* The part transforms are blended over the whole mesh with smooth weights, so cheeks and outline follow and nothing
  tears. Each is drawn to one size in all directions (`transforms.fit_affine`).
* What the transforms leave over on that shape is corrected point by point: it becomes the portrait exactly. Only the
  *motion* about it passes through the transforms.
* Lips and lids that meet on the driver meet on the portrait, also when one of the two rests open. The lower lip comes
  no nearer to the chin than the driver's does, in proportion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from portraitanim.face.curves import smooth_step
from portraitanim.face.geometry import apply_transform
from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, LIP_PAIRS, RIGHT_EYELID_PAIRS, SYNC_PARTS
from portraitanim.face.transforms import fit_affine, fit_similarity

EVENNESS = 0.3
"""How strongly transforms are drawn to one size in all directions, see `transforms.fit_affine`. What they leave over is
corrected anyway; an uneven one would make motion smaller in one direction than in another."""

PART_REACH = 0.6
"""How far a part's transform reaches into its surroundings, in radii of the part."""

CLOSED_FRACTION = 0.05
"""An opening below this share of the part's width counts as closed."""

NEAREST_MIN_FRAMES, NEAREST_SHARE = 3, 0.1
"""How many of the driver's frames, at least and of all, are taken for those with the portrait's mouth."""

_FOREHEAD, _CHIN, _NOSE_BASE, _UPPER_LIP, _LOWER_LIP = 10, 152, 2, 0, 17


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


def fit_motion_transforms(driver_rest: np.ndarray, portrait_shape: np.ndarray) -> MotionTransforms:
    """Fit the full-face transform and the residual transform of each part.

    Args:
        driver_rest: shape of the driver that is to become the portrait's, ``(478, 3)``, head pose removed.
        portrait_shape: ``(478, 3)``.
    """
    similarity = fit_similarity(driver_rest, portrait_shape)
    prior = similarity.scale * similarity.rotation
    full_face = fit_affine(driver_rest, portrait_shape, prior, EVENNESS)
    aligned = apply_transform(full_face, driver_rest)
    groups = {name: list(group) for name, group in SYNC_PARTS.items()}
    residuals = {name: fit_affine(aligned[g], portrait_shape[g], ridge=EVENNESS) for name, g in groups.items()}
    weights = np.stack([_part_weights(aligned, group) for group in groups.values()])
    weights /= np.maximum(weights.sum(0), 1.0)
    changes = np.stack([matrix[:3, :3] - np.eye(3) for matrix in residuals.values()])
    linear = (np.eye(3) + np.einsum("pn,pij->nij", weights, changes)) @ full_face[:3, :3]
    return MotionTransforms(full_face=full_face, parts=residuals, linear=linear, scale=similarity.scale)


def shape_as_open(driver_shapes: np.ndarray, portrait_shape: np.ndarray) -> np.ndarray:
    """The driver's mean shape with the mouth as open as the portrait's.

    Where the driver's is never that open or closed, the nearest is taken. Eyes stay as they are on average: how wide
    they are is of the person more than of the moment.

    Args:
        driver_shapes: ``(frames, 478, 3)``, head pose removed.
        portrait_shape: ``(478, 3)``.

    Returns:
        ``(478, 3)``.
    """
    mean = driver_shapes.mean(0)
    scale = fit_similarity(mean, portrait_shape).scale
    num_nearest = max(NEAREST_MIN_FRAMES, round(NEAREST_SHARE * len(driver_shapes)))
    difference = np.abs(scale * _openings(driver_shapes) - _openings(portrait_shape[None]))
    nearest = np.argsort(difference, kind="stable")[:num_nearest]
    shape: np.ndarray = mean + _lower_face(mean)[:, None] * (driver_shapes[nearest].mean(0) - mean)
    return shape


def _openings(shapes: np.ndarray) -> np.ndarray:
    upper, lower = np.array(LIP_PAIRS).T
    openings: np.ndarray = np.linalg.norm(shapes[:, upper] - shapes[:, lower], axis=-1).mean(1)
    return openings


def _lower_face(shape: np.ndarray) -> np.ndarray:
    """0 down to the base of the nose, 1 from the lips on, ``(478,)``: what moves with the jaw."""
    down = shape[_CHIN] - shape[_FOREHEAD]
    lip = max(float((shape[_UPPER_LIP] - shape[_NOSE_BASE]) @ down), 1e-9)
    return smooth_step((shape - shape[_NOSE_BASE]) @ down / lip)


def retarget_shapes(
    driver_shapes: np.ndarray, portrait_shape: np.ndarray, transforms: MotionTransforms, driver_rest: np.ndarray
) -> np.ndarray:
    """Give the portrait the driver's expression, head pose aside.

    Args:
        driver_shapes: ``(frames, 478, 3)``, head pose removed.
        portrait_shape: ``(478, 3)``.
        transforms: from `fit_motion_transforms`.
        driver_rest: ``(478, 3)``; maps to the portrait's shape exactly.

    Returns:
        ``(frames, 478, 3)``.
    """
    motion = np.einsum("nij,tnj->tni", transforms.linear, driver_shapes - driver_rest)
    shapes = portrait_shape + motion
    down = portrait_shape[_CHIN] - portrait_shape[_FOREHEAD]
    down = down / max(np.linalg.norm(down), np.finfo(float).tiny)
    for pairs in (LIP_PAIRS, RIGHT_EYELID_PAIRS, LEFT_EYELID_PAIRS):
        _meet_where_driver_meets(shapes, np.array(pairs), portrait_shape, transforms, driver_shapes, driver_rest, down)
    _drop_chin(shapes, portrait_shape, driver_shapes, driver_rest, down)
    return shapes


def _meet_where_driver_meets(
    shapes: np.ndarray,
    pairs: np.ndarray,
    portrait_shape: np.ndarray,
    transforms: MotionTransforms,
    driver_shapes: np.ndarray,
    driver_rest: np.ndarray,
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
    rest, now = driver_opening(driver_rest), driver_opening(driver_shapes)
    # The floor keeps the ratio calm for a driver who is closed all the time.
    closed = CLOSED_FRACTION * np.linalg.norm(np.ptp(portrait_shape[pairs.ravel()], axis=0))
    fade = np.clip((now + closed) / (rest + closed), 0.0, 1.0)
    correction = (fade - 1.0) * (portrait_opening - rest)
    opening = (shapes[:, lower] - shapes[:, upper]) @ down + correction
    correction += np.maximum(np.minimum(portrait_opening, 0.0) - opening, 0.0)
    shapes[:, lower] += correction[..., None] / 2 * down
    shapes[:, upper] -= correction[..., None] / 2 * down


def _drop_chin(
    shapes: np.ndarray,
    portrait_shape: np.ndarray,
    driver_shapes: np.ndarray,
    driver_rest: np.ndarray,
    down: np.ndarray,
) -> None:
    """Keep the chin below the lower lip in the driver's proportion, in place: a short chin drops further."""
    height = portrait_shape @ down

    def chin_length(points: np.ndarray) -> np.ndarray:
        length: np.ndarray = (points[..., _CHIN, :] - points[..., _LOWER_LIP, :]) @ down
        return np.maximum(length, 1e-9)

    share = np.minimum(chin_length(driver_shapes) / chin_length(driver_rest), 1.0)
    missing = np.maximum(share * chin_length(portrait_shape) - chin_length(shapes), 0.0)
    weights = smooth_step((height - height[_LOWER_LIP]) / max(height[_CHIN] - height[_LOWER_LIP], 1e-9))
    shapes += missing[:, None, None] * weights[:, None] * down


def _part_weights(aligned: np.ndarray, group: list[int]) -> np.ndarray:
    """1 on the part's own points, falling off smoothly with the distance to them: ``(478,)``."""
    part = aligned[group]
    radius = np.sqrt(((part - part.mean(0)) ** 2).sum(1).mean())
    distance = cdist(aligned, part).min(1)
    weights: np.ndarray = np.exp(-0.5 * (distance / (PART_REACH * radius)) ** 2)
    return weights
