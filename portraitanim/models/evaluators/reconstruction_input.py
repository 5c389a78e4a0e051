"""How a face is cut for the reconstruction network: scaled so that it fits five points of a mean face in space.

Source: the alignment of Deep3DFaceRecon (reference/metrics.md, section 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from portraitanim.errors import ShapeError
from portraitanim.models.evaluators.face_reconstruction import INPUT_PX

# Mean face of the published alignment in its own unit: left eye, right eye, nose tip, corners of the mouth (as seen in
# the picture). Averages of points of similarity_Lm3D_all.mat (MIT).
_MEAN_FACE = np.array(
    [
        [-0.3114865720272064, 0.29036077857017517, 0.13377952575683594],
        [0.30979886651039124, 0.289720356464386, 0.1317952573299408],
        [0.003253498813137412, -0.04617932438850403, 0.5524424314498901],
        [-0.25216928124427795, -0.3813391625881195, 0.22405731678009033],
        [0.24846619367599487, -0.38128235936164856, 0.22235769033432007],
    ]
)
_SCALE = 102.0

# Mesh points that stand for those of the 68-point markup: lids' corners of both eyes, nose tip, corners of the mouth.
_RIGHT_EYE, _LEFT_EYE, _NOSE_TIP, _MOUTH_CORNERS = (33, 133), (362, 263), 4, (61, 291)


@dataclass(frozen=True, kw_only=True)
class FaceFit:
    """Where the mean face lies in a picture.

    Attributes:
        width_px: of the picture.
        height_px: likewise.
        scale: picture → crop.
        x_px: middle of the face in the picture, y counted from its lower edge.
        y_px: likewise.
    """

    width_px: int
    height_px: int
    scale: float
    x_px: float
    y_px: float


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Left eye, right eye, nose tip, corners of the mouth ``(5, 2)`` of a face's points ``(478, 3)``.

    Left and right are those of the picture.
    """
    plane = landmarks[:, :2].astype(np.float64)
    eyes = (plane[list(corners)].mean(axis=0) for corners in (_RIGHT_EYE, _LEFT_EYE))
    return np.stack([*eyes, plane[_NOSE_TIP], *(plane[corner] for corner in _MOUTH_CORNERS)])


def fit_face(points: np.ndarray, width_px: int, height_px: int) -> FaceFit:
    """Least-squares scaled orthographic projection of the mean face onto five points.

    Args:
        points: ``(5, 2)`` in pixels, y down, see `five_points`.
        width_px: of the picture.
        height_px: of the picture.

    Raises:
        ShapeError: not five points.
    """
    if points.shape != (5, 2):
        raise ShapeError(f"The fit needs points (5, 2), got {points.shape}.")
    upward = np.stack([points[:, 0], height_px - 1 - points[:, 1]], axis=1).astype(np.float64)
    equations = np.concatenate([_MEAN_FACE, np.ones((5, 1))], axis=1)
    # Rows of the scaled rotation and the shift, for x and for y.
    solution = np.linalg.lstsq(equations, upward, rcond=None)[0]
    size = np.linalg.norm(solution[:3], axis=0).mean()
    return FaceFit(
        width_px=width_px,
        height_px=height_px,
        scale=float(_SCALE / size),
        x_px=float(solution[3, 0]),
        y_px=float(solution[3, 1]),
    )


def cut_face(image: np.ndarray, fit: FaceFit) -> np.ndarray:
    """The crop that the network reads, black where it reaches beyond the picture: uint8 ``(3, 224, 224)``.

    Args:
        image: uint8 RGB ``(3, height, width)``.
        fit: of its face.
    """
    width, height = int(fit.width_px * fit.scale), int(fit.height_px * fit.scale)
    left = int(width / 2 - INPUT_PX / 2 + (fit.x_px - fit.width_px / 2) * fit.scale)
    top = int(height / 2 - INPUT_PX / 2 + (fit.height_px / 2 - fit.y_px) * fit.scale)
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    scaled = picture.resize((width, height), Image.Resampling.BICUBIC)
    crop = scaled.crop((left, top, left + INPUT_PX, top + INPUT_PX))
    return np.ascontiguousarray(np.asarray(crop).transpose(2, 0, 1))
