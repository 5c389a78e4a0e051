"""Follow one face through a video, frame by frame.

A full search of every frame takes a quarter of a second in a picture of 720 lines and would not know which of
two people to take. Here the mesh is laid where the face was a moment ago. Once a second the whole frame is
searched, to see whether the detectors agree and who else is in the picture.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sized
from typing import Literal, NamedTuple, Protocol

import numpy as np

from portraitanim.errors import FaceError, InputError, ShapeError
from portraitanim.face.box_detector import overlap
from portraitanim.face.detection import DetectedFace, FaceSearch, select_face
from portraitanim.face.face_track import FaceTrack, check_fps
from portraitanim.face.metric_geometry import metric_geometry
from portraitanim.progress import ProgressReporter, SilentProgress
from portraitanim.types import FaceLandmarks

logger = logging.getLogger(__name__)

OnMissing = Literal["hold", "skip", "error"]
ON_MISSING = ("hold", "skip", "error")

CHECK_SECONDS = 1.0
"""How often the whole frame is searched while the face is followed."""

SEARCH_SECONDS = 0.2
"""How often it is searched while the face is missing; in between only around the place where it was."""

_SAME_OVERLAP = 0.3
"""Boxes that share less than this are not one face in successive frames."""


class FaceFinder(Protocol):
    """What tracking needs of a model: `portraitanim.face.landmarks.FaceMesh`, or the landmarker file's."""

    @property
    def source(self) -> str:
        """Name of the model."""

    def search(self, image: np.ndarray, around: DetectedFace | None = None) -> FaceSearch:
        """All faces of a frame, or those around a place."""

    def follow(self, image: np.ndarray, previous: DetectedFace) -> DetectedFace | None:
        """The face where it was in the last frame, or ``None``."""

    def confirm(self, image: np.ndarray, face: DetectedFace) -> bool:
        """Whether a detector agrees that this is a face."""


def track_face(
    frames: Iterable[np.ndarray],
    fps: float,
    mesh: FaceFinder,
    *,
    select: str = "largest",
    on_missing: OnMissing = "hold",
    progress: ProgressReporter | None = None,
) -> FaceTrack:
    """Landmarks of one face in every frame.

    Frames are read one by one and not kept.

    Args:
        frames: uint8 RGB ``(3, height, width)``, all of one size.
        fps: frames per second, above 0 and at most 240.
        mesh: finds the faces.
        select: which face of the first frame that shows any, see `portraitanim.face.detection.select_face`.
        on_missing: frames that do not show the face repeat its last points (``hold``; those before its first
            appearance repeat the first), are left out (``skip``) or are an error (``error``).
        progress: told each frame.

    Returns:
        The track with head poses, and with expression scores where the model gives them.

    Raises:
        FaceError: no frame shows a face, the chosen face does not exist, or one is missing and that is an error.
        InputError: no frames, or a wrong rate, choice of face or ``on_missing``.
        ShapeError: a frame is no picture, or of another size than the first.
    """
    check_fps(fps)
    if on_missing not in ON_MISSING:
        raise InputError(f"Unknown way {on_missing!r} to treat frames without a face. Use hold, skip or error.")
    follower = FaceFollower(mesh, fps, select)
    seen: list[_Seen | None] = []
    size: tuple[int, int] | None = None
    total = float(len(frames)) if isinstance(frames, Sized) else None
    with (progress or SilentProgress()).task("Following the face", total) as task:
        for number, image in enumerate(frames):
            size = _checked_size(image, size, number)
            face = follower.next(image)
            if face is None and on_missing == "error":
                raise FaceError(
                    f"No face in the driving video at {number / fps:.2f} s. Cut that part off, or choose what happens "
                    "to such frames: --on-missing hold or skip."
                )
            seen.append(None if face is None else _Seen(face.points, face.blendshapes))
            task.advance()
    if size is None:
        raise InputError("The driving video has no frames. Give another file, or an earlier start.")
    return _as_track(seen, fps, size, mesh.source, on_missing, follower)


class FaceFollower:
    """Knows which face is followed; one frame at a time.

    Args:
        finder: finds the faces.
        fps: frames per second.
        select: which face of the first frame that shows any.

    Attributes:
        best_search: the search that came nearest to a face, for the message where none was found.
    """

    def __init__(self, finder: FaceFinder, fps: float, select: str = "largest") -> None:
        self._finder = finder
        self._select = select
        self._check_frames = max(1, round(CHECK_SECONDS * fps))
        self._search_frames = max(1, round(SEARCH_SECONDS * fps))
        self._last: DetectedFace | None = None
        self._others: list[DetectedFace] = []
        self._num_missing = 0
        self._num_unchecked = 0
        self.best_search: FaceSearch | None = None

    def next(self, image: np.ndarray) -> DetectedFace | None:
        """The face in the next frame, uint8 RGB ``(3, height, width)``, or ``None`` where it is not seen."""
        face = self._followed(image) if self._num_missing == 0 and self._last is not None else None
        if face is None:
            face = self._found_anew(image)
        if face is None:
            self._num_missing += 1
            return None
        self._last, self._num_missing = face, 0
        return face

    def _followed(self, image: np.ndarray) -> DetectedFace | None:
        assert self._last is not None
        face = self._finder.follow(image, self._last)
        if face is None or overlap(face.box, self._last.box) < _SAME_OVERLAP:
            return None
        self._num_unchecked += 1
        if self._num_unchecked < self._check_frames:
            return face
        seen = self._search(image)
        # The check looks at the place of the face too: a profile may pass there and not in the whole frame.
        if not any(_is_same(other, face) for other in seen) and not self._finder.confirm(image, face):
            return None
        self._note_others(seen, face)
        return face

    def _found_anew(self, image: np.ndarray) -> DetectedFace | None:
        everywhere = self._num_missing % self._search_frames == 0
        if self._last is None:
            return self._first(image) if everywhere else None
        seen = self._search(image) if everywhere else self._finder.search(image, around=self._last).faces
        last = self._last
        known = [face for face in seen if _is_same(face, last) or not any(_is_same(face, o) for o in self._others)]
        if not known:
            return None
        face = max(known, key=lambda found: (overlap(found.box, last.box), -_distance(found, last)))
        if everywhere:
            self._note_others(seen, face)
        return face

    def _first(self, image: np.ndarray) -> DetectedFace | None:
        seen = self._search(image)
        if not seen:
            return None
        assert self.best_search is not None
        face, sentence = select_face(self.best_search, self._select, source="the driving video")
        logger.info("%s", sentence)
        self._note_others(seen, face)
        return face

    def _search(self, image: np.ndarray) -> tuple[DetectedFace, ...]:
        search = self._finder.search(image)
        best = self.best_search
        if best is None or search.faces or search.best_rejected_score > best.best_rejected_score:
            self.best_search = search
        return search.faces

    def _note_others(self, seen: tuple[DetectedFace, ...], face: DetectedFace) -> None:
        self._num_unchecked = 0
        self._others = [other for other in seen if not _is_same(other, face)]


class _Seen(NamedTuple):
    """What is kept of a frame."""

    points: np.ndarray
    blendshapes: np.ndarray | None


def _is_same(first: DetectedFace, second: DetectedFace) -> bool:
    return overlap(first.box, second.box) >= _SAME_OVERLAP


def _distance(first: DetectedFace, second: DetectedFace) -> float:
    return float(np.hypot(*(np.subtract(first.center_px, second.center_px))))


def _checked_size(image: np.ndarray, size: tuple[int, int] | None, number: int) -> tuple[int, int]:
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != np.uint8:
        raise ShapeError(f"Frame {number} must be uint8 (3, height, width), got {image.dtype} {image.shape}.")
    got = (image.shape[1], image.shape[2])
    if size is not None and got != size:
        raise ShapeError(f"Frame {number} is {got[0]}x{got[1]}, the frames before it are {size[0]}x{size[1]}.")
    return got


def _as_track(
    seen: list[_Seen | None],
    fps: float,
    size: tuple[int, int],
    source: str,
    on_missing: OnMissing,
    follower: FaceFollower,
) -> FaceTrack:
    found = np.array([face is not None for face in seen])
    if not found.any():
        assert follower.best_search is not None
        follower.best_search.require("the driving video")
    num_missing = int((~found).sum())
    if num_missing:
        logger.warning(
            "The face is missing in %d of %d frames of the driving video; they are %s.",
            *(num_missing, len(seen), "left out" if on_missing == "skip" else "filled with the last one seen"),
        )
    shown = np.flatnonzero(found)
    if on_missing == "hold":
        shown = shown[np.maximum(np.cumsum(found) - 1, 0)]
    faces = [face for index in shown if (face := seen[index]) is not None]
    landmarks = FaceLandmarks(points=np.stack([face.points for face in faces]))
    scores = [face.blendshapes for face in faces if face.blendshapes is not None]
    return FaceTrack(
        landmarks=landmarks,
        fps=fps,
        size_px=size,
        found=found if on_missing == "hold" else np.ones(len(faces), dtype=bool),
        matrices=metric_geometry(landmarks, size).head_pose,
        blendshapes=np.stack(scores) if scores else None,
        source=source,
        num_missing=num_missing,
    )
