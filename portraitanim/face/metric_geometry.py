"""Metric head shape and pose from the pixels of a face, as MediaPipe's face geometry module computes them.

MediaPipe gives the module only with ``face_landmarker.task``. It is a function of the landmarks alone: the size of a
mean head in centimetres settles how far away a face of that size in the picture is. So it is written out here, and
works for the landmarks of any source. Checked against the published numbers to 1e-4 cm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from portraitanim.errors import InputError
from portraitanim.face.geometry import VERTICAL_FIELD_OF_VIEW_DEGREES, FaceGeometry, apply_transform
from portraitanim.face.landmark_groups import NUM_MESH_POINTS
from portraitanim.face.transforms import Similarity, fit_similarity

if TYPE_CHECKING:
    from portraitanim.types import FaceLandmarks

# Points of MediaPipe's canonical face (Apache-2.0, in the metadata of face_landmarker.task) that fix the head's place:
# number, its mirror image on the other side, weight, then x, y, z in centimetres. x is that of the mirror image
# with the sign changed; points in the middle are their own.
_ANCHORS = (
    (4, 4, 0.07090994, 0.0, -0.46316999, 7.58657980),
    (6, 6, 0.03210014, 0.0, 2.47325492, 5.78862715),
    (10, 10, 0.00844655, 0.0, 8.26177788, 4.48153496),
    (33, 263, 0.05872417, -4.44585896, 2.66399097, 3.17342210),
    (54, 284, 0.00766708, -6.27933121, 6.61542702, 1.42585003),
    (67, 297, 0.00907806, -3.52396393, 8.00597572, 3.72916293),
    (117, 346, 0.00979194, -5.25865889, 0.94581097, 2.97431207),
    (119, 348, 0.01456537, -3.30068111, 0.86164099, 3.87278390),
    (121, 350, 0.01859136, -1.82073104, 1.46795404, 4.22412395),
    (127, 356, 0.00519799, -7.74309492, 2.36499906, -2.00516701),
    (129, 358, 0.12062521, -1.78579402, -0.97828400, 4.85047007),
    (132, 361, 0.00556002, -7.27089500, -2.89091706, -2.25245500),
    (133, 362, 0.05328618, -1.85643196, 2.58524489, 3.75790405),
    (136, 365, 0.06689046, -5.08527613, -7.17858982, 0.71471101),
    (143, 372, 0.01481655, -6.40757084, 2.23602104, 1.56084299),
    (147, 376, 0.01426283, -6.23488283, -1.94442999, 1.66353204),
    (198, 420, 0.02546219, -1.24681497, 0.23029700, 5.68103600),
    (205, 425, 0.04725228, -3.83292794, -1.53732598, 4.13773108),
)


def _anchors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = [(right, weight, x, y, z) for right, _, weight, x, y, z in _ANCHORS]
    rows += [(left, weight, -x, y, z) for right, left, weight, x, y, z in _ANCHORS if left != right]
    table = np.array(rows)
    return table[:, 0].astype(np.int64), table[:, 1], table[:, 2:]


_POINTS, _WEIGHTS, _CANONICAL_CM = _anchors()


def metric_geometry(landmarks: FaceLandmarks, size_px: tuple[int, int]) -> FaceGeometry:
    """Take head pose and shape apart, in centimetres.

    Args:
        landmarks: the face over time, in pixels; z must be there, in the scale of x.
        size_px: (height, width) of the picture. Its middle is taken to be where the camera points.

    Returns:
        Geometry of the same frames; the poses are rotations and places, of size 1.

    Raises:
        InputError: the landmarks have no depth, or all points of a frame lie in one place.
    """
    height, width = size_px
    normalized = landmarks.points.astype(np.float64) / (width, height, width)
    spread = np.ptp(normalized, axis=1)
    if spread[:, :2].max(1).min() <= 0 or spread[:, 2].min() <= 0:
        frame = int(np.argmin(spread.max(1) if spread[:, :2].max(1).min() <= 0 else spread[:, 2]))
        raise InputError(
            f"Landmarks of frame {frame} have no extent in x, y or depth, so no head pose follows from them. Give "
            "landmarks with depth: the driving video itself, or a file made from it."
        )
    frames = [_one_frame(points[:NUM_MESH_POINTS], width / height) for points in normalized]
    return FaceGeometry(
        landmarks=normalized.astype(np.float32),
        mesh_cm=np.stack([mesh for mesh, _ in frames]).astype(np.float32),
        head_pose=np.stack([pose for _, pose in frames]).astype(np.float32),
        height=height,
        width=width,
    )


def _one_frame(points: np.ndarray, aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Mesh ``(468, 3)`` and pose ``(4, 4)`` of normalised points ``(468, 3)``."""
    window_height = 2 * np.tan(np.deg2rad(VERTICAL_FIELD_OF_VIEW_DEGREES) / 2)
    window_width = window_height * aspect
    # Points on the window one centimetre in front of the camera, y up, depth counted from their mean.
    x = (points[:, 0] - 0.5) * window_width
    y = (0.5 - points[:, 1]) * window_height
    depth = points[:, 2] * window_width
    flat = np.stack([x, y, -depth], axis=1)
    relative = depth - depth.mean() + 1

    def at_size(size: float) -> np.ndarray:
        return np.stack([x * relative, y * relative, -relative], axis=1) / size

    # A first guess without perspective, one correction with it.
    size = _fit(flat).scale
    size *= _fit(at_size(size)).scale
    camera = at_size(size)
    pose = _fit(camera).matrix()
    return apply_transform(np.linalg.inv(pose), camera), pose


def _fit(points: np.ndarray) -> Similarity:
    return fit_similarity(_CANONICAL_CM, points[_POINTS], _WEIGHTS)
