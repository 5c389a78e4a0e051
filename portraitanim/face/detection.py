"""What a found face is, and which face of several is meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from portraitanim.errors import FaceError, InputError, ShapeError
from portraitanim.types import NUM_LANDMARKS

if TYPE_CHECKING:
    from collections.abc import Sequence

FACE_CHOICES = "largest, left, right, center, a number counted from the left (1, 2, ...) or a point x,y in pixels"


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectedFace:
    """One face in one picture.

    Attributes:
        points: float32 ``(478, 3)`` in pixels; z has the scale of x, nearer is smaller.
        score: how much it looks like a face, in [0, 1]: the mean of two detectors; 0 to 1 of the tracker's mesh
            alone for frames of a video between two searches.
        presence: the mesh's own judgement in [0, 1] that its points lie on a face.
        blendshapes: 52 expression scores in [0, 1], float32 ``(52,)`` in MediaPipe's order, where the landmarker file
            is used.
    """

    points: np.ndarray
    score: float
    presence: float
    blendshapes: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.points.shape != (NUM_LANDMARKS, 3):
            raise ShapeError(f"The points of a face must be ({NUM_LANDMARKS}, 3), got {self.points.shape}.")

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the points, from the top of the forehead to the chin; may reach beyond the picture."""
        low, high = self.points[:, :2].min(0), self.points[:, :2].max(0)
        return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))

    @property
    def center_px(self) -> tuple[float, float]:
        """Middle of the box."""
        return ((self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2)

    @property
    def side_px(self) -> float:
        """Longer side of the box."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceSearch:
    """The outcome of looking for faces in one picture.

    Attributes:
        faces: what passed, largest first.
        best_rejected_score: score of the best candidate that did not pass, 0 without any.
        min_score: the score that was needed.
        image_size: (height, width) of the picture.
        hint: what could help, when nothing passed and something is known.
    """

    faces: tuple[DetectedFace, ...]
    best_rejected_score: float
    min_score: float
    image_size: tuple[int, int]
    hint: str = ""

    def require(self, source: str = "the picture") -> tuple[DetectedFace, ...]:
        """The faces.

        Args:
            source: name of the picture for the message.

        Raises:
            FaceError: there is none.
        """
        if self.faces:
            return self.faces
        height, width = self.image_size
        looked = (
            f"best score {self.best_rejected_score:.2f}, need {self.min_score:.2f}"
            if self.best_rejected_score > 0
            else f"nothing like a face in {width}x{height} pixels"
        )
        advice = self.hint or "Try a frontal picture of a person with the whole face visible and evenly lit"
        if 0.15 <= self.best_rejected_score < self.min_score:
            advice += f", or --face-threshold {np.floor(self.best_rejected_score * 20) / 20:.2f}"
        raise FaceError(f"No face in {source} ({looked}). {advice}.")


def select_face(
    search: FaceSearch, spec: str | int = "largest", *, source: str = "the picture"
) -> tuple[DetectedFace, str]:
    """Choose one face of a picture.

    Args:
        search: the outcome of `portraitanim.face.landmarks.FaceMesh.search`.
        spec: ``largest``, ``left``, ``right``, ``center``, a number counted from the left (from 1), or ``x,y``: a
            point in pixels on the face or near it. Left and right are those of the picture.
        source: name of the picture for messages.

    Returns:
        The face, and a sentence that says which was taken of how many.

    Raises:
        FaceError: the picture has no face, or fewer than the number asked for, or none near the point.
        InputError: the spec is none of the above.
    """
    faces = sorted(search.require(source), key=lambda face: face.center_px[0])
    index = _choose(faces, str(spec).strip().lower(), search.image_size, source)
    face = faces[index]
    if len(faces) == 1:
        return face, f"Found one face in {source}."
    x, y = face.center_px
    return face, (
        f"Took face {index + 1} of {len(faces)} in {source}, counted from the left (--face {spec}): "
        f"{face.side_px:.0f} px at x {x:.0f}, y {y:.0f}."
    )


def _choose(faces: Sequence[DetectedFace], spec: str, image_size: tuple[int, int], source: str) -> int:
    if spec == "largest":
        return int(np.argmax([face.side_px for face in faces]))
    if spec == "left":
        return 0
    if spec == "right":
        return len(faces) - 1
    if spec == "center":
        return _nearest(faces, image_size[1] / 2, image_size[0] / 2)
    if re.fullmatch(r"\d+", spec):
        number = int(spec)
        if number < 1:
            raise InputError(f"Faces are counted from 1, got --face {spec}. Use {FACE_CHOICES}.")
        if number > len(faces):
            raise FaceError(f"--face {number} was asked for, but {source} has {_listing(faces)}.")
        return number - 1
    if re.fullmatch(r"-?\d+(\.\d+)?\s*,\s*-?\d+(\.\d+)?", spec):
        x, y = (float(part) for part in spec.split(","))
        return _at_point(faces, x, y, image_size, source)
    raise InputError(f"Unknown face {spec!r}. Use {FACE_CHOICES}.")


def _nearest(faces: Sequence[DetectedFace], x: float, y: float) -> int:
    return int(np.argmin([np.hypot(face.center_px[0] - x, face.center_px[1] - y) for face in faces]))


def _at_point(faces: Sequence[DetectedFace], x: float, y: float, image_size: tuple[int, int], source: str) -> int:
    height, width = image_size
    if not (0 <= x <= width and 0 <= y <= height):
        raise InputError(f"The point {x:g},{y:g} lies outside {source}, which is {width}x{height} pixels (x,y).")
    index = _nearest(faces, x, y)
    face = faces[index]
    # A click on the hair or the neck still means this person; one a face further away does not.
    if np.hypot(face.center_px[0] - x, face.center_px[1] - y) > face.side_px:
        raise FaceError(f"No face near {x:g},{y:g}: {source} has {_listing(faces)}.")
    return index


def _listing(faces: Sequence[DetectedFace]) -> str:
    places = ", ".join(
        f"{number}: {face.center_px[0]:.0f},{face.center_px[1]:.0f} ({face.side_px:.0f} px)"
        for number, face in enumerate(faces, 1)
    )
    return f"{len(faces)} face{'s' if len(faces) > 1 else ''} ({places})"
