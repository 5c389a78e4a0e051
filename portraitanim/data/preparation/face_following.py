"""The one face of a candidate clip, frame by frame, and who else is in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from portraitanim.face.box_detector import overlap
from portraitanim.face.detection import DetectedFace
from portraitanim.face.tracking import FaceFinder

SEARCH_SECONDS = 1.0
"""How often the whole picture is searched for other faces while the face is followed."""

_SEARCH_AGAIN_SECONDS = 0.2
_SAME_OVERLAP = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipTrack:
    """The longest stretch of a candidate in which its face is seen in every frame.

    Attributes:
        points: float32 ``(frames, 478, 3)`` in pixels of the picture; no frame is filled in.
        start_frame: first frame of the stretch in the candidate.
        tracked_fraction: length of the stretch in lengths of the candidate.
        second_face_share: size of the largest other face in sizes of this one, the largest of all searches.
        jump: largest move of the face's middle between two frames, in sides of the face.
    """

    points: np.ndarray
    start_frame: int
    tracked_fraction: float
    second_face_share: float
    jump: float

    def __len__(self) -> int:
        return len(self.points)


class ClipFollower:
    """Follows the largest face of the first picture that shows any.

    `portraitanim.face.tracking` drives animations with one face, whoever else is there; here, who else is there is what
    is asked, and no frame may be made up.

    Args:
        finder: finds faces and lays the mesh on them.
        fps: frames per second.
    """

    def __init__(self, finder: FaceFinder, fps: float) -> None:
        self._finder = finder
        self._search_frames = max(1, round(SEARCH_SECONDS * fps))
        self._search_again_frames = max(1, round(_SEARCH_AGAIN_SECONDS * fps))
        self._seen: list[DetectedFace | None] = []
        self._second_share = 0.0

    def add(self, image: np.ndarray) -> DetectedFace | None:
        """The face in the next frame, uint8 RGB ``(3, height, width)``; ``None`` where it is not seen."""
        number = len(self._seen)
        last = self._seen[-1] if self._seen else None
        face = self._finder.follow(image, last) if last is not None else None
        if face is not None and last is not None and overlap(face.box, last.box) < _SAME_OVERLAP:
            face = None
        if number % (self._search_frames if face is not None else self._search_again_frames) == 0 or (
            face is None and last is not None
        ):
            face = self._searched(image, face)
        self._seen.append(face)
        return face

    def track(self) -> ClipTrack | None:
        """The longest stretch so far, the first of equal ones; ``None`` where no face was seen."""
        start, length = _longest_run([face is not None for face in self._seen])
        faces = [face for face in self._seen[start : start + length] if face is not None]
        if not faces:
            return None
        middles = np.array([face.center_px for face in faces])
        moves = np.hypot(*np.diff(middles, axis=0).T) / np.array([face.side_px for face in faces[1:]])
        return ClipTrack(
            points=np.stack([face.points for face in faces]),
            start_frame=start,
            tracked_fraction=length / len(self._seen),
            second_face_share=self._second_share,
            jump=float(moves.max(initial=0.0)),
        )

    def _searched(self, image: np.ndarray, face: DetectedFace | None) -> DetectedFace | None:
        """Look everywhere: confirm the face or find one, and note who else is there."""
        found = self._finder.search(image).faces
        # The mesh alone may cling to a hand or a back of a head.
        if (
            face is not None
            and not any(overlap(other.box, face.box) >= _SAME_OVERLAP for other in found)
            and not self._finder.confirm(image, face)
        ):
            face = None
        if face is None:
            if not found:
                return None
            before = next((seen for seen in reversed(self._seen) if seen is not None), None)
            face = found[0] if before is None else max(found, key=lambda other: overlap(other.box, before.box))
        others = [other for other in found if overlap(other.box, face.box) < _SAME_OVERLAP]
        self._second_share = max([self._second_share, *(other.side_px / face.side_px for other in others)])
        return face


def _longest_run(flags: list[bool]) -> tuple[int, int]:
    """Start and length of the longest run of true values."""
    best, start = (0, 0), 0
    for number, flag in enumerate([*flags, False]):
        if not flag:
            best = max(best, (number - start, -start))
            start = number + 1
    return -best[1], best[0]
