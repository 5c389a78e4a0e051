"""Portraits cut out of pictures: what the synthesizer moves, mixes and paints over."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from portraitanim.errors import FaceError, InputError
from portraitanim.face.alignment import FaceCrop
from portraitanim.face.curves import smooth_step
from portraitanim.face.detection import select_face
from portraitanim.face.landmarks import FaceMesh
from portraitanim.face.person_mask import PersonMask
from portraitanim.media.image import load_image

logger = logging.getLogger(__name__)

HELD_OUT_PORTRAITS = (
    "aniportrait_solo",
    "echomimic_a",
    "liveportrait_s3",
    "liveportrait_s8",
    "liveportrait_s9",
    "sadtalker_art_10",
    "sadtalker_art_13",
    "sadtalker_full4",
)
"""Portraits on which the bundled model is tested: never trained on, not even in a morph."""

HELD_OUT_PAINTINGS = ("flare_female12", "flare_male05", "flare_male18", "human_duelist", "human_mage-silver+female")
"""Paintings of examples/painted_portraits.py, bearded men among them, that are to be looked at: not trained on."""

BANK_SIZE_PX, BANK_FACE_SHARE = 384, 0.48
"""Size and framing of portraits in the bank: wider than the final pictures, so that these can be shifted."""

_FOREHEAD = (151, 9, 108, 337, 69, 299, 107, 336, 66, 296, 105, 334)
_MAX_FOREHEAD_SLOPE = 1100.0
"""Mean change of lightness (0 to 255) per face height on a forehead; bare ones have 100 to 750, fringes from 1300."""

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, kw_only=True, eq=False)
class BankPortrait:
    """One cut-out portrait.

    Attributes:
        name: of the person, or of the mixture of persons.
        image: uint8 RGB ``(3, size, size)``.
        points: float32 ``(478, 3)`` in pixels of the image.
        person: float32 ``(size, size)`` in [0, 1], 1 where the person covers the background.
    """

    name: str
    image: np.ndarray
    points: np.ndarray
    person: np.ndarray

    @property
    def size_px(self) -> int:
        """Side of the picture."""
        return int(self.image.shape[-1])

    @cached_property
    def has_bare_forehead(self) -> bool:
        """Whether no fringe, hat or glasses cross the forehead, which would show in a morph as a scar."""
        lightness = cv2.cvtColor(np.ascontiguousarray(self.image.transpose(1, 2, 0)), cv2.COLOR_RGB2LAB)[..., 0]
        face_px = float(np.ptp(self.points[:, 1]))
        smooth = cv2.GaussianBlur(lightness.astype(np.float32), (0, 0), 0.008 * face_px)
        slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)) / 8 * face_px
        inside = np.zeros(smooth.shape, np.uint8)
        cv2.fillConvexPoly(inside, cv2.convexHull(np.rint(self.points[list(_FOREHEAD), :2]).astype(np.int32)), 1)
        return bool(slope[inside > 0].mean() < _MAX_FOREHEAD_SLOPE)


def load_bank(
    folder: Path,
    size_px: int = BANK_SIZE_PX,
    face_share: float = BANK_FACE_SHARE,
    *,
    without: Sequence[str] = HELD_OUT_PORTRAITS + HELD_OUT_PAINTINGS,
    only: Sequence[str] | None = None,
) -> list[BankPortrait]:
    """Cut the largest face out of every picture of a folder, by name.

    Pictures without a face are left out with a warning.

    Args:
        folder: holds JPEG, PNG or WebP files.
        size_px: side of the portraits.
        face_share: longer side of the face in sides of the portrait.
        without: names, without suffix, of pictures to leave out.
        only: names of the pictures to take, where not all are wanted.

    Raises:
        InputError: the folder has no picture with a face.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    bank: list[BankPortrait] = []
    with FaceMesh() as mesh, PersonMask() as person_mask:
        for path in files:
            if path.stem in without or (only is not None and path.stem not in only):
                continue
            try:
                bank.append(cut_portrait(load_image(path), path.stem, mesh, person_mask, size_px, face_share))
            except FaceError as error:
                logger.warning("Left out of the portrait bank: %s", error)
    if not bank:
        raise InputError(f"{folder} has no picture with a face (looked at {len(files)}). Name another folder.")
    return bank


def cut_portrait(
    image: np.ndarray, name: str, mesh: FaceMesh, person_mask: PersonMask, size_px: int, face_share: float
) -> BankPortrait:
    """Cut the largest face out of a picture ``(3, height, width)``, with its points and what covers the background.

    Raises:
        FaceError: there is no face.
    """
    face, _ = select_face(mesh.search(image), source=name)
    crop = FaceCrop.around(face.points, size_px, face_share)
    picture = crop.apply(image)
    again = mesh.search(picture).faces
    points = again[0].points if again else crop.points(face.points)
    return BankPortrait(name=name, image=picture, points=points, person=_crisp(person_mask.find(picture)))


def _crisp(coverage: np.ndarray) -> np.ndarray:
    """Steepen the soft border of the segmentation, which would show the old background as a halo."""
    return smooth_step((coverage - 0.45) / 0.45).astype(np.float32)


def person_colours(image: np.ndarray, person: np.ndarray) -> np.ndarray:
    """The person without the background that shines through at the border.

    There each pixel takes the colour of the person nearby.

    Args:
        image: uint8 or float32 ``(height, width, 3)``.
        person: ``(height, width)`` in [0, 1].

    Returns:
        float32 ``(height, width, 3)``, filled to the borders of the picture.
    """
    pixels = image.astype(np.float32)
    sure = np.clip((person - 0.8) / 0.2, 0, 1)
    filled = _spread(pixels, sure)
    return filled + sure[..., None] * (pixels - filled)


def background_plate(image: np.ndarray, person: np.ndarray) -> np.ndarray:
    """The background with the person painted out, float32 ``(height, width, 3)``; arguments as `person_colours`."""
    pixels = image.astype(np.float32)
    reach = max(3, round(0.03 * image.shape[0]))
    covered = cv2.dilate(person, np.ones((reach, reach), np.uint8))
    sure = np.clip(1.0 - covered / 0.2, 0, 1)
    if sure.mean() < 0.01:  # the person fills the picture; whatever is revealed at the border is their neighbour
        return cv2.GaussianBlur(pixels, (0, 0), 0.1 * image.shape[0])
    filled = _spread(pixels, sure)
    return filled + sure[..., None] * (pixels - filled)


def _spread(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill what is unknown from what is known, from the finest scale that reaches it."""
    height, width = known.shape
    total, weight = pixels * known[..., None], known
    result, filled = np.zeros_like(pixels), np.zeros_like(known)
    while True:
        mean = total / np.maximum(weight, 1e-6)[..., None]
        here = np.clip(weight * 4, 0, 1)
        if mean.shape[:2] != (height, width):
            mean, here = (cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR) for level in (mean, here))
        share = (1 - filled) * here
        result += share[..., None] * mean
        filled += share
        if min(total.shape[:2]) <= 2 or filled.min() > 0.999:
            return result / np.maximum(filled, 1e-6)[..., None]
        total, weight = cv2.pyrDown(total), cv2.pyrDown(weight)
