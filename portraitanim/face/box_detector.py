"""Where faces may be: the two BlazeFace detectors of the mediapipe wheel, run over a picture and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from portraitanim.face.mesh_graph import native_messages_to_log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHORT_RANGE, FULL_RANGE = 0, 1
_INPUT_PX = {SHORT_RANGE: 128, FULL_RANGE: 192}
_SMALLEST_TILE_PX = 160
"""Tiles below this are not searched: a face in them would be smaller than any network can use."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceBox:
    """A place that looks like a face.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the picture; may reach beyond it.
        score: detector score in [0, 1].
        eye_angle: angle of the line through the eyes, radians, 0 when upright.
    """

    box: tuple[float, float, float, float]
    score: float
    eye_angle: float

    @property
    def center_px(self) -> tuple[float, float]:
        """Middle of the box."""
        return ((self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2)

    @property
    def side_px(self) -> float:
        """Longer side of the box."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


def overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


class BoxDetector:
    """Searches faces of any size.

    A detector sees its picture at 128 or 192 pixels, so a face of a tenth of the width is a dozen pixels there:
    it is searched again in tiles of a half and, in large pictures, of a quarter of the picture. The picture is
    also shown with a wide frame around it, for faces that fill it or are cut by its border.

    Args:
        min_score: boxes below this score are dropped; low, because the caller scores candidates again.
    """

    def __init__(self, *, min_score: float = 0.25) -> None:
        from mediapipe.python.solutions.face_detection import FaceDetection

        self._detectors: dict[int, Any] = {}
        with native_messages_to_log():
            for kind, size in _INPUT_PX.items():
                detector = FaceDetection(model_selection=kind, min_detection_confidence=min_score)
                detector.process(np.zeros((size, size, 3), dtype=np.uint8))
                self._detectors[kind] = detector

    def search(self, image: np.ndarray, *, thorough: bool = True) -> list[FaceBox]:
        """Candidate faces, best first, overlapping ones merged.

        Args:
            image: uint8 RGB ``(h, w, 3)``.
            thorough: also search quarter tiles of large pictures (about 0.2 s more).
        """
        return self._looked(image, _windows(image.shape[0], image.shape[1], thorough))

    def search_around(self, image: np.ndarray, box: tuple[float, float, float, float]) -> list[FaceBox]:
        """Candidate faces near a place where one was, in windows of two and a half and five times its size."""
        longest = max(box[2] - box[0], box[3] - box[1])
        sides = (2.5 * longest, 5.0 * longest)
        return self._looked(image, (((box[0] + box[2] - s) / 2, (box[1] + box[3] - s) / 2, s) for s in sides))

    def _looked(self, image: np.ndarray, windows: Iterable[tuple[float, float, float]]) -> list[FaceBox]:
        found: list[FaceBox] = []
        for x, y, side in windows:
            for kind in (SHORT_RANGE, FULL_RANGE):
                found += self.look(image, x, y, side, kind)
        kept: list[FaceBox] = []
        for box in sorted(found, key=lambda box: -box.score):
            if all(overlap(box.box, other.box) < 0.3 for other in kept):
                kept.append(box)
        return kept

    def look(self, image: np.ndarray, x: float, y: float, side: float, kind: int) -> list[FaceBox]:
        """Faces in one square window, in pixels of the whole picture."""
        size = _INPUT_PX[kind]
        detections = self._detectors[kind].process(_window(image, x, y, side, size)).detections or []
        return [_to_box(detection, x, y, side) for detection in detections]

    def confirm(self, image: np.ndarray, box: tuple[float, float, float, float]) -> float:
        """Score of one face: the mean of both detectors on an enlarged crop of it.

        One detector alone takes dogs for people now and then; both agree on people, drawings and statues.
        """
        side = 2.5 * max(box[2] - box[0], box[3] - box[1])
        x, y = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
        scores = []
        for kind in (SHORT_RANGE, FULL_RANGE):
            matches = [found.score for found in self.look(image, x, y, side, kind) if overlap(found.box, box) > 0.25]
            scores.append(max(matches, default=0.0))
        return float(np.mean(scores))

    def close(self) -> None:
        """Free the detectors."""
        for detector in self._detectors.values():
            detector.close()


def _windows(height: int, width: int, thorough: bool) -> Iterator[tuple[float, float, float]]:
    """Square windows (x, y, side): the whole picture, the framed picture, then half and quarter tiles."""
    longest = max(height, width)
    yield (width - longest) / 2, (height - longest) / 2, longest
    yield width / 2 - longest, height / 2 - longest, 2 * longest
    for parts in (2, 4) if thorough and longest >= 1000 else (2,):
        side = longest / parts
        if side < _SMALLEST_TILE_PX:
            return
        for y in _starts(height, side):
            for x in _starts(width, side):
                yield x, y, side


def _starts(length: int, side: float) -> list[float]:
    """Tile positions that overlap by a half and cover the length; one centred tile where it is shorter."""
    if length <= side:
        return [(length - side) / 2]
    count = int(np.ceil((length - side) / (side / 2))) + 1
    return [float(start) for start in np.linspace(0, length - side, count)]


def _window(image: np.ndarray, x: float, y: float, side: float, size: int) -> np.ndarray:
    """Cut a square that may reach beyond the picture; outside is grey."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = round(x), round(y), round(x + side), round(y + side)
    left, top, right, bottom = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    canvas = np.full((size, size, 3), 128, dtype=np.uint8)
    if left >= right or top >= bottom:
        return canvas
    scale = size / max(1, x1 - x0)
    a, b = round((left - x0) * scale), round((top - y0) * scale)
    c, d = max(a + 1, round((right - x0) * scale)), max(b + 1, round((bottom - y0) * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[b:d, a:c] = cv2.resize(image[top:bottom, left:right], (c - a, d - b), interpolation=method)[
        : size - b, : size - a
    ]
    return canvas


def _to_box(detection: Any, x: float, y: float, side: float) -> FaceBox:
    location = detection.location_data
    frame = location.relative_bounding_box
    right_eye, left_eye = location.relative_keypoints[0], location.relative_keypoints[1]
    x0, y0 = x + frame.xmin * side, y + frame.ymin * side
    return FaceBox(
        box=(x0, y0, x0 + frame.width * side, y0 + frame.height * side),
        score=float(detection.score[0]),
        eye_angle=float(np.arctan2(left_eye.y - right_eye.y, left_eye.x - right_eye.x)),
    )
