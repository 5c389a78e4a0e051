"""From a picture to what the networks read of the portrait: crop, landmarks, masks, condition map, identity."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from portraitanim.config.schema import Preset
from portraitanim.errors import FaceError, InputError, MissingWeightsError
from portraitanim.face.alignment import FaceCrop
from portraitanim.face.face_crop import DetectedFaceCrop, detected_face_crop, face_mask_map
from portraitanim.face.regions import face_box, face_region_map, fill_box, region_masks

if TYPE_CHECKING:
    from portraitanim.face.detection import DetectedFace

logger = logging.getLogger(__name__)

IdentityOf = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From a picture ``(3, height, width)`` and the points of a face in it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Portrait:
    """A portrait, ready to be animated.

    Attributes:
        original: uint8 ``(3, height, width)``, the picture as it was given.
        image: uint8 ``(3, size, size)``, what is animated.
        crop: from the original to ``image``.
        landmarks: float32 ``(478, 3)`` in pixels of ``image``.
        masks: uint8 ``(3, 64, 64)``: pose, expression, lip.
        face_map: uint8 ``(channels, size, size)``, the filled face box; ``None`` for weights that read drawings.
        identity: raw ArcFace vector ``(512,)``, or ``None`` for weights that read none.
        face_box_px: left, top, right, bottom of the face in the original.
    """

    original: np.ndarray
    image: np.ndarray
    crop: FaceCrop
    landmarks: np.ndarray
    masks: np.ndarray
    face_map: np.ndarray | None
    identity: np.ndarray | None
    face_box_px: tuple[float, float, float, float]


def prepare_portrait(
    picture: np.ndarray,
    face: DetectedFace,
    preset: Preset,
    size_px: int,
    *,
    framing: Literal["face", "whole"] = "face",
    identity_of: IdentityOf | None = None,
) -> Portrait:
    """Cut a portrait out of a picture, as its weights expect it.

    Args:
        picture: uint8 ``(3, height, width)``.
        face: the chosen face.
        preset: the system whose weights will read it.
        size_px: side of the square.
        framing: ``face`` cuts around the face; ``whole`` scales the whole picture, as Hallo's code does.
        identity_of: gives the raw ArcFace vector ``(512,)`` of a picture's face, for weights that read the identity.

    Raises:
        FaceError: the face lies so far outside that nothing can be cut.
        MissingWeightsError: these weights read the identity and ``identity_of`` is not given.
    """
    height, width = picture.shape[1:]
    crop = _whole_picture(height, width, size_px) if framing == "whole" else _around(face, preset, picture, size_px)
    landmarks = crop.points(face.points).astype(np.float32)
    identity = None
    if preset.network.identity_projection is not None:
        if identity_of is None:
            raise MissingWeightsError(
                f"{preset.name} reads who the face is, and the InsightFace pack is not installed. "
                "Run: portraitanim weights pull antelopev2"
            )
        identity = identity_of(picture, face.points)
    return Portrait(
        original=picture,
        image=crop.apply(picture),
        crop=crop,
        landmarks=landmarks,
        masks=region_masks(landmarks, size_px, size_px),
        face_map=_face_map(preset, landmarks, face, picture, size_px, framing),
        identity=identity,
        face_box_px=face.box,
    )


def _around(face: DetectedFace, preset: Preset, picture: np.ndarray, size_px: int) -> FaceCrop:
    if preset.framing == "face-share":
        return FaceCrop.around(face.points, size_px)
    square = _detected(face, picture).square
    side = square.bottom - square.top
    if side < 1:
        raise FaceError("The face lies outside the picture. Use another picture or another --face.")
    scale = size_px / side
    transform = np.array([[scale, 0.0, -scale * square.left], [0.0, scale, -scale * square.top]])
    return FaceCrop(transform=transform, size_px=size_px)


def _whole_picture(height: int, width: int, size_px: int) -> FaceCrop:
    if abs(height - width) > 0.02 * max(height, width):
        raise InputError(
            f"The picture is {width}x{height}: to animate the whole picture it must be square. Use --crop face."
        )
    transform = np.array([[size_px / width, 0.0, 0.0], [0.0, size_px / height, 0.0]])
    return FaceCrop(transform=transform, size_px=size_px)


def _detected(face: DetectedFace, picture: np.ndarray) -> DetectedFaceCrop:
    try:
        return detected_face_crop(face.box, *picture.shape[1:])
    except InputError as error:
        raise FaceError(f"{error} Use another picture or another --face.") from error


def _face_map(
    preset: Preset, landmarks: np.ndarray, face: DetectedFace, picture: np.ndarray, size_px: int, framing: str
) -> np.ndarray | None:
    if preset.condition_map != "face-box":
        return None
    size = (size_px, size_px)
    channels = preset.network.condition_encoder.in_channels
    if preset.framing == "detected-box":
        height, width = picture.shape[1:]
        crop = _detected(face, picture)
        if framing == "face":
            return face_mask_map(crop, height, width, size)
        mask = fill_box(crop.mask, height, width)
        return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR))[None]
    return face_region_map(face_box(landmarks, size_px, size_px), size_px, size_px, size)[:channels]
