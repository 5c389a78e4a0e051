"""What the landmarks and pixels of one face say: how it is turned, open, sharp, lit and covered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from portraitanim.face.alignment import FaceCrop
from portraitanim.face.landmark_groups import (
    LEFT_EYE,
    LEFT_EYELID_PAIRS,
    LIPS_OUTLINE,
    RIGHT_EYE,
    RIGHT_EYELID_PAIRS,
)

_SIDE_PAIRS = (
    *((33, 263), (133, 362), (234, 454), (127, 356), (162, 389), (21, 251)),
    *((54, 284), (103, 332), (67, 297), (109, 338), (61, 291)),
)
"""Points that mirror each other: (subject's right, left)."""

_FOREHEAD, _CHIN = 10, 152
_MESH_PITCH_DEGREES = 3.7
"""The line from forehead to chin leans back by this much on a level head, measured against MediaPipe's head pose."""

_INNER_LIPS, _MOUTH_CORNERS = (13, 14), (78, 308)
_EYE_CORNERS = {"right": (33, 133), "left": (362, 263)}
_FOREHEAD_SKIN = (151, 108, 337)
_LOWER_SKIN = (205, 425, 199, 214, 434, 165, 391)
"""Cheeks beside the mouth, jaws, chin and upper lip."""

_CROP_PX, _FACE_SHARE = 144, 0.9
"""Pixels are judged on a face of 130 pixels, whatever its size in the picture."""


@dataclass(frozen=True, kw_only=True)
class HeadAngles:
    """How a head is turned, in degrees; all zero when it looks straight out of the picture.

    Attributes:
        yaw: positive to the right side of the picture.
        pitch: positive upwards.
        roll: positive clockwise.
    """

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, kw_only=True)
class FaceLook:
    """What the pixels of a face measure.

    Attributes:
        sharpness: detail of 1–2 pixels over detail of 2–4 pixels, on a face of 130 pixels. Contrast and size of the
            face cancel out. 0.25 and more is sharp, 0.15 as if blurred by 1.4 such pixels, 0.12 by 2.
        brightness: mean lightness (CIE L*, 0 to 100).
        contrast: standard deviation of lightness.
        dark_share: share of pixels that are black.
        blown_share: share of pixels that are white.
        mouth_detail: standard deviation of colour (CIE Lab) inside the lips, over the lightness of the skin; so the
            exposure of the picture cancels out.
        eye_detail: the same for the eyes; the smaller of both.
        eye_light: lightness of the brightest tenth of the eyes over that of the skin; the larger of both.
        lower_colour: distance of colour (CIE ab) between the forehead and the lower face.
    """

    sharpness: float
    brightness: float
    contrast: float
    dark_share: float
    blown_share: float
    mouth_detail: float
    eye_detail: float
    eye_light: float
    lower_colour: float


def head_angles(points: np.ndarray) -> HeadAngles:
    """Angles of a head from its landmarks ``(478, 3)``.

    Against the head pose of MediaPipe's landmarker, on 177 pictures turned by up to 21 degrees: yaw and roll differ
    by 1.5 and 1 degree (standard deviation), pitch by 3, as the chin moves with the jaw.
    """
    exact = points.astype(np.float64)
    across = sum(exact[left] - exact[right] for right, left in _SIDE_PAIRS)
    across = across / np.linalg.norm(across)
    down = exact[_CHIN] - exact[_FOREHEAD]
    down = down - across * (down @ across)
    down = down / np.linalg.norm(down)
    looking = -np.cross(across, down)  # z grows away from the camera
    return HeadAngles(
        yaw=float(np.degrees(np.arctan2(looking[0], -looking[2]))),
        pitch=float(np.degrees(np.arcsin(np.clip(-looking[1], -1, 1)))) + _MESH_PITCH_DEGREES,
        roll=float(np.degrees(np.arctan2(across[1], down[1]))),
    )


def mouth_openness(points: np.ndarray) -> float:
    """Gap between the inner lips over the width of the mouth: 0 closed, 0.2 teeth show, 1 wide open."""
    return _distance(points, _INNER_LIPS) / max(_distance(points, _MOUTH_CORNERS), 1e-6)


def eye_openness(points: np.ndarray) -> float:
    """Gap between the lids over the width of the eye, the smaller of both: 0.3 open, below 0.15 closed."""
    gaps = []
    for corners, pairs in ((_EYE_CORNERS["right"], RIGHT_EYELID_PAIRS), (_EYE_CORNERS["left"], LEFT_EYELID_PAIRS)):
        middle = pairs[2:5]
        gaps.append(np.mean([_distance(points, pair) for pair in middle]) / max(_distance(points, corners), 1e-6))
    return float(min(gaps))


def face_look(image: np.ndarray, points: np.ndarray) -> FaceLook:
    """Measure the pixels of a face.

    Args:
        image: uint8 RGB ``(3, height, width)``.
        points: landmarks ``(478, 3)`` in pixels.
    """
    crop = FaceCrop.around(points, _CROP_PX, _FACE_SHARE)
    pixels = np.ascontiguousarray(crop.apply(image).transpose(1, 2, 0))
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    places = crop.points(points)[:, :2].round().astype(np.int32)
    face = cv2.erode(_filled(places, range(len(places))), np.ones((5, 5), np.uint8)) > 0
    lightness = lab[..., 0]
    eyes = [_filled(places, eye) > 0 for eye in (RIGHT_EYE, LEFT_EYE)]
    smooth = cv2.blur(lab, (7, 7))
    inside = places.clip(0, _CROP_PX - 1)
    forehead, lower = (_median_at(smooth, inside[list(group)]) for group in (_FOREHEAD_SKIN, _LOWER_SKIN))
    skin_lightness = max(float(forehead[0] + lower[0]) / 2, 1.0)
    return FaceLook(
        sharpness=_sharpness(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32), face),
        brightness=float(lightness[face].mean()),
        contrast=float(lightness[face].std()),
        dark_share=float((pixels.max(axis=2)[face] <= 6).mean()),
        blown_share=float((pixels.min(axis=2)[face] >= 252).mean()),
        mouth_detail=_detail(lab, _filled(places, LIPS_OUTLINE) > 0) / skin_lightness,
        eye_detail=min(_detail(lab, eye) for eye in eyes) / skin_lightness,
        eye_light=max(float(np.percentile(lightness[eye], 90)) / skin_lightness for eye in eyes),
        lower_colour=float(np.linalg.norm((forehead - lower)[1:])),
    )


def _sharpness(grey: np.ndarray, face: np.ndarray) -> float:
    blurred = [cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (0.7, 1.4, 2.8)]
    fine, coarse = ((blurred[i] - blurred[i + 1])[face].var() for i in range(2))
    return float(fine / max(coarse, 1e-6))


def _filled(places: np.ndarray, group: Sequence[int]) -> np.ndarray:
    """Mask of the convex hull of some points."""
    mask = np.zeros((_CROP_PX, _CROP_PX), np.uint8)
    hull = cv2.convexHull(places[list(group)])
    cv2.fillConvexPoly(mask, hull, 1)
    return mask


def _detail(lab: np.ndarray, mask: np.ndarray) -> float:
    return float(np.linalg.norm(lab[mask].std(axis=0)))


def _median_at(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    median: np.ndarray = np.median(image[places[:, 1], places[:, 0]], axis=0)
    return median


def _distance(points: np.ndarray, pair: tuple[int, int]) -> float:
    return float(np.linalg.norm(points[pair[0]] - points[pair[1]]))
