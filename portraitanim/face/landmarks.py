"""The 478 face points of every face in a picture, whatever its size: search, confirm, then the mesh on a crop."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

import numpy as np

from portraitanim.errors import InputError, ShapeError
from portraitanim.face.box_detector import BoxDetector, FaceBox, overlap
from portraitanim.face.detection import DetectedFace, FaceSearch
from portraitanim.face.mesh_graph import MESH_INPUT_PX, MeshGraph
from portraitanim.face.warping import invert, square_transform, transform_points, warp

MIN_SCORE = 0.5
"""Score that both detectors must give on average; drawings and statues reach it, most animals do not."""

MIN_PRESENCE = 0.5
"""The mesh model's own judgement that its points lie on a face."""

_CANDIDATE_SHARE = 0.6
"""Candidates down to this share of the needed score get a second look, see `FaceMesh._scored`."""

_CROP_FACTOR = 1.5
"""Side of the mesh's crop in sides of the face, as MediaPipe's own graph has it."""

_PASSES = 2
"""The first crop follows the detector's box, the second the mesh itself, which knows forehead, chin and tilt."""

_FAR_MOVE = 0.1
"""A face that moved further than this share of its size sits badly in the crop of the last frame."""

_RIGHT_EYE_CORNER, _LEFT_EYE_CORNER = 33, 263


class FaceMesh:
    """Finds faces and their landmarks with the models of the mediapipe wheel.

    The same picture gives the same points: nothing is remembered from picture to picture. Use it as a context
    manager, or `close` it.

    Args:
        min_score: faces below this score are rejected.
        thorough: also search quarter tiles of large pictures, for faces of a tenth of the width.
    """

    source = "mediapipe face mesh"

    def __init__(self, *, min_score: float = MIN_SCORE, thorough: bool = True) -> None:
        if not 0.0 < min_score < 1.0:
            raise InputError(f"The face threshold must be between 0 and 1, got {min_score}.")
        self._min_score = min_score
        self._thorough = thorough
        self._boxes = BoxDetector(min_score=min(0.25, min_score))
        self._mesh = MeshGraph()

    def __enter__(self) -> FaceMesh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the models."""
        self._boxes.close()
        self._mesh.close()

    def search(self, image: np.ndarray, around: DetectedFace | None = None) -> FaceSearch:
        """Find all faces.

        Args:
            image: uint8 RGB ``(3, height, width)``.
            around: look only near the place of this face, which is several times faster.

        Returns:
            The faces, largest first, and what was rejected; `FaceSearch.require` turns "none" into a clear error.

        Raises:
            ShapeError: the image has another shape or type.
        """
        pixels = _pixels(image)
        faces: list[DetectedFace] = []
        best_rejected = 0.0
        if around is None:
            boxes = self._boxes.search(pixels, thorough=self._thorough)
        else:
            boxes = self._boxes.search_around(pixels, around.box)
        for box in boxes:
            score = self._boxes.confirm(pixels, box.box)
            if score >= _CANDIDATE_SHARE * self._min_score and (mesh := self._fit(pixels, box)) is not None:
                face = self._scored(pixels, mesh, score)
                if face.score >= self._min_score:
                    if all(overlap(face.box, other.box) < 0.3 for other in faces):
                        faces.append(face)
                    continue
                score = face.score
            best_rejected = max(best_rejected, min(score, self._min_score - 0.01))
        return FaceSearch(
            faces=tuple(sorted(faces, key=lambda face: -face.side_px)),
            best_rejected_score=best_rejected,
            min_score=self._min_score,
            image_size=(image.shape[1], image.shape[2]),
        )

    def follow(self, image: np.ndarray, previous: DetectedFace) -> DetectedFace | None:
        """Lay the mesh on the face where it was a moment ago; some ten times faster than a search.

        Args:
            image: the next frame, uint8 RGB ``(3, height, width)``.
            previous: the face in the last frame. It may have moved by up to a third of its size.

        Returns:
            The face, its score being the mesh's presence; ``None`` where the mesh finds itself on no face.

        Raises:
            ShapeError: the image has another shape or type.
        """
        pixels = _pixels(image)
        points, presence = self._lay(pixels, *_pose(previous.points))
        before, after = np.array(_pose(previous.points)[0]), np.array(_pose(points)[0])
        if presence >= MIN_PRESENCE and np.abs(after - before).max() > _FAR_MOVE * previous.side_px:
            points, presence = self._lay(pixels, *_pose(points))
        return DetectedFace(points=points, score=presence, presence=presence) if presence >= MIN_PRESENCE else None

    def confirm(self, image: np.ndarray, face: DetectedFace) -> bool:
        """Whether the detectors too see a face there: the mesh alone may cling to a hand or a back of a head."""
        return self._boxes.confirm(_pixels(image), face.box) >= _CANDIDATE_SHARE * self._min_score

    def _scored(self, pixels: np.ndarray, mesh: tuple[np.ndarray, float], score: float) -> DetectedFace:
        """A face with its score, looked at once more where the mesh says that it is.

        The mesh frames a face better than the detectors do: a real face gains by it, a dog's does not.
        """
        points, presence = mesh
        face = DetectedFace(points=points, score=score, presence=presence)
        return replace(face, score=max(score, self._boxes.confirm(pixels, face.box)))

    def _fit(self, pixels: np.ndarray, box: FaceBox) -> tuple[np.ndarray, float] | None:
        """Lay the mesh on a face: points and presence, or ``None`` if it does not find itself on one."""
        pose = (box.center_px, box.side_px, box.eye_angle)
        points, presence = np.zeros((0, 3), np.float32), 0.0
        for _ in range(_PASSES):
            points, presence = self._lay(pixels, *pose)
            if presence < MIN_PRESENCE:
                return None
            pose = _pose(points)
        return points, presence

    def _lay(
        self, pixels: np.ndarray, center: tuple[float, float], side: float, angle: float
    ) -> tuple[np.ndarray, float]:
        transform = square_transform(center, _CROP_FACTOR * side, MESH_INPUT_PX, angle)
        in_crop, presence = self._mesh.run(warp(pixels, transform, (MESH_INPUT_PX, MESH_INPUT_PX)))
        return transform_points(in_crop, invert(transform)), presence


def _pose(points: np.ndarray) -> tuple[tuple[float, float], float, float]:
    """Centre, longer side and angle of the eyes: where the crop of the next look lies."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    across = points[_LEFT_EYE_CORNER, :2] - points[_RIGHT_EYE_CORNER, :2]
    x, y = ((low + high) / 2).tolist()
    return (x, y), float((high - low).max()), float(np.arctan2(across[1], across[0]))


def _pixels(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != np.uint8:
        raise ShapeError(f"A picture must be uint8 (3, height, width), got {image.dtype} {image.shape}.")
    return np.ascontiguousarray(image.transpose(1, 2, 0))
