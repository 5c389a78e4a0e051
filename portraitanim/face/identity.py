"""Who a face is: the ArcFace vector that Hallo reads, by the networks of InsightFace's antelopev2 pack."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from portraitanim.errors import DamagedWeightsError, FaceError, PortraitAnimError, ShapeError
from portraitanim.face.box_detector import overlap
from portraitanim.face.landmark_groups import LEFT_PUPIL, NOSE_TIP_POINT, RIGHT_PUPIL
from portraitanim.onnx_session import open_session
from portraitanim.types import NUM_LANDMARKS

logger = logging.getLogger(__name__)

PACK_NAME = "antelopev2"
"""Name of the weights in the registry."""

DETECTOR_FILE, RECOGNISER_FILE = "scrfd_10g_bnkps.onnx", "glintr100.onnx"
"""The two networks of the pack that are used; its landmark, age and gender networks are not."""

IDENTITY_SIZE = 512
ALIGNED_PX = 112

_INSTALL = f"portraitanim weights pull {PACK_NAME} --overwrite"
_DETECTION_PX = 640
_MIN_DETECTION_SCORE = 0.5
_SAME_FACE_OVERLAP = 0.25
"""Boxes of one face by two detectors overlap by about 0.6, those of neighbours in a crowd by less than 0.1."""

_RIGHT_MOUTH_CORNER, _LEFT_MOUTH_CORNER = 61, 291
_FIVE_POINTS = (RIGHT_PUPIL, LEFT_PUPIL, NOSE_TIP_POINT, _RIGHT_MOUTH_CORNER, _LEFT_MOUTH_CORNER)

# Where ArcFace expects eyes, nose tip and mouth corners in its picture of 112 pixels (reference/metrics.md, CSIM).
_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


class IdentityEncoder:
    """Finds the face with SCRFD, turns it upright by five points, and embeds it with ArcFace.

    Equals ``FaceAnalysis`` of InsightFace with ``det_size=(640, 640)``, as Hallo calls it, but for the choice among
    several faces. Nothing is downloaded and nothing is printed.

    Use `load`.

    Args:
        detector: ``insightface.model_zoo.scrfd.SCRFD``.
        recogniser: ``insightface.model_zoo.arcface_onnx.ArcFaceONNX``.
    """

    def __init__(self, detector: Any, recogniser: Any) -> None:
        self._detector = detector
        self._recogniser = recogniser

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> IdentityEncoder:
        """Load the pack.

        Args:
            folder: holds `DETECTOR_FILE` and `RECOGNISER_FILE`.
            device: ``cpu``, ``cuda`` or ``cuda:N``; one face takes a fraction of a second on a CPU.

        Raises:
            MissingWeightsError: a file is absent; the message has the command that gets it.
            DamagedWeightsError: a file is no network, or not one with the inputs and outputs of this pack.
            InputError: there is no such device.
        """
        files = [Path(folder) / name for name in (DETECTOR_FILE, RECOGNISER_FILE)]
        sessions = [open_session(path, install=_INSTALL, device=device) for path in files]
        _check_interfaces(files, sessions)
        try:
            from insightface.model_zoo.arcface_onnx import ArcFaceONNX
            from insightface.model_zoo.scrfd import SCRFD
        except ImportError as error:
            raise PortraitAnimError(f"insightface cannot be used ({error}). Run: pip install -U insightface") from None
        # Given a session and no file, SCRFD has no way to make other sessions of its own.
        detector = SCRFD(session=sessions[0])
        detector.prepare(0, input_size=(_DETECTION_PX, _DETECTION_PX), det_thresh=_MIN_DETECTION_SCORE)
        return cls(detector, ArcFaceONNX(model_file=str(files[1]), session=sessions[1]))

    def encode(self, image: np.ndarray, landmarks_or_box: np.ndarray | None = None) -> np.ndarray:
        """Embed one face.

        Args:
            image: uint8 RGB ``(3, height, width)``, at its original size as Hallo does it.
            landmarks_or_box: which face: its landmarks ``(478, 2 or 3)`` or its box x0, y0, x1, y1 in pixels;
                ``None`` takes the largest, as Hallo does.

        Returns:
            float32 ``(512,)``, as the network gives it: not normalised.

        Raises:
            ShapeError: the picture, landmarks or box have another shape.
            FaceError: SCRFD finds no face, or none in the box that was given. With landmarks, these take the
                place of its five points, and a warning says so.
        """
        if image.ndim != 3 or image.shape[0] != 3 or image.dtype != np.uint8:
            raise ShapeError(f"A picture must be uint8 (3, height, width), got {image.dtype} {image.shape}.")
        wanted = None if landmarks_or_box is None else np.asarray(landmarks_or_box, np.float64)
        pixels = np.ascontiguousarray(image[::-1].transpose(1, 2, 0))  # InsightFace reads BGR
        aligned = _aligned(pixels, self._five_points(pixels, wanted))
        return np.asarray(self._recogniser.get_feat(aligned), np.float32).reshape(IDENTITY_SIZE)

    def _five_points(self, pixels: np.ndarray, wanted: np.ndarray | None) -> np.ndarray:
        boxes, points = self._detector.detect(pixels)
        if wanted is None:
            if not len(boxes):
                raise FaceError(
                    "The detector of antelopev2 finds no face in this picture. Use a frontal portrait with some room."
                )
            return points[int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))]
        box = _box_of(wanted)
        overlaps = [overlap(box, tuple(found[:4].tolist())) for found in boxes]
        if overlaps and max(overlaps) >= _SAME_FACE_OVERLAP:
            return points[int(np.argmax(overlaps))]
        found = f"the detector of antelopev2 finds {len(boxes)} faces, none of which is the chosen one"
        if wanted.ndim == 1:
            raise FaceError(f"No identity: {found}. Use a frontal portrait with some room, or give landmarks.")
        logger.warning("Identity: %s; eyes, nose and mouth of the landmarks are used in its place.", found)
        return wanted[list(_FIVE_POINTS), :2]


def _box_of(wanted: np.ndarray) -> tuple[float, float, float, float]:
    if wanted.shape == (4,):
        x0, y0, x1, y1 = wanted.tolist()
        return (x0, y0, x1, y1)
    if wanted.ndim != 2 or wanted.shape[0] != NUM_LANDMARKS or wanted.shape[1] not in (2, 3):
        raise ShapeError(f"A face is given by landmarks ({NUM_LANDMARKS}, 2 or 3) or a box (4,), got {wanted.shape}.")
    (x0, y0), (x1, y1) = wanted[:, :2].min(0).tolist(), wanted[:, :2].max(0).tolist()
    return (x0, y0, x1, y1)


def _aligned(pixels: np.ndarray, five_points: np.ndarray) -> np.ndarray:
    """Turn, scale and shift the face so that its five points lie as near as can be to ArcFace's.

    Least squares over the four numbers of a similarity (a, -b; b, a), which equals Umeyama's fit for faces.
    """
    x, y = np.asarray(five_points, np.float64).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    equations = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, right, down = np.linalg.lstsq(equations, np.concatenate(_TEMPLATE.T), rcond=None)[0]
    transform = np.array([[a, -b, right], [b, a, down]])
    return cv2.warpAffine(pixels, transform, (ALIGNED_PX, ALIGNED_PX), borderValue=0.0)


def _check_interfaces(files: list[Path], sessions: list[Any]) -> None:
    detector, recogniser = sessions
    embedding, picture = recogniser.get_outputs(), recogniser.get_inputs()[0].shape
    if len(detector.get_outputs()) != 9:
        wrong, why = files[0], f"has {len(detector.get_outputs())} outputs, expected 9 (scores, boxes, points)"
    elif list(picture[1:]) != [3, ALIGNED_PX, ALIGNED_PX]:
        wrong, why = files[1], f"reads {picture}, expected pictures of (3, {ALIGNED_PX}, {ALIGNED_PX})"
    elif len(embedding) != 1 or embedding[0].shape[-1] != IDENTITY_SIZE:
        wrong, why = files[1], f"gives {[output.shape for output in embedding]}, expected one (1, {IDENTITY_SIZE})"
    else:
        return
    raise DamagedWeightsError(f"{wrong} {why}: it is not from the {PACK_NAME} pack. Install it again: {_INSTALL}")
