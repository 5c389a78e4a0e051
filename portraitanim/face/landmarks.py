"""The 478 face points of every face in a picture, whatever its size: search, confirm, then the mesh on a crop."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

import numpy as np

from portraitanim.errors import InputError, ShapeError
from portraitanim.face.box_detector import BoxDetector, FaceBox, overlap
from portraitanim.face.detection import DetectedFace, FaceSearch
from portraitanim.face.mesh_graph import MeshFit, MeshGraph, MeshModel
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
        model: finds the mesh in a crop; the wheel's own if ``None``. It is closed with this object.
    """

    def __init__(self, *, min_score: float = MIN_SCORE, thorough: bool = True, model: MeshModel | None = None) -> None:
        if not 0.0 < min_score < 1.0:
            raise InputError(f"The face threshold must be between 0 and 1, got {min_score}.")
        self._min_score = min_score
        self._thorough = thorough
        self._boxes = BoxDetector(min_score=min(0.25, min_score))
        self._mesh: MeshModel = MeshGraph() if model is None else model

    @property
    def source(self) -> str:
        """Name of the model that finds the points."""
        return self._mesh.name

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
            if score >= _CANDIDATE_SHARE * self._min_score and (fit := self._fit(pixels, box)) is not None:
                face = self._scored(pixels, fit, score)
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
        pixels, before = _pixels(image), _pose(previous.points)
        fit = self._lay(pixels, *before)
        moved = np.abs(np.subtract(_pose(fit.points)[0], before[0])).max()
        if fit.presence >= MIN_PRESENCE and moved > _FAR_MOVE * previous.side_px:
            fit = self._lay(pixels, *_pose(fit.points))
        return _as_face(fit, fit.presence) if fit.presence >= MIN_PRESENCE else None

    def confirm(self, image: np.ndarray, face: DetectedFace) -> bool:
        """Whether the detectors too see a face there: the mesh alone may cling to a hand or a back of a head."""
        return self._boxes.confirm(_pixels(image), face.box) >= _CANDIDATE_SHARE * self._min_score

    def _scored(self, pixels: np.ndarray, fit: MeshFit, score: float) -> DetectedFace:
        """A face with its score, looked at once more where the mesh says that it is.

        The mesh frames a face better than the detectors do: a real face gains by it, a dog's does not.
        """
        face = _as_face(fit, score)
        return replace(face, score=max(score, self._boxes.confirm(pixels, face.box)))

    def _fit(self, pixels: np.ndarray, box: FaceBox) -> MeshFit | None:
        """Lay the mesh on a face, or ``None`` if it does not find itself on one."""
        fit = self._lay(pixels, box.center_px, box.side_px, box.eye_angle)
        for _ in range(_PASSES - 1):
            if fit.presence >= MIN_PRESENCE:
                fit = self._lay(pixels, *_pose(fit.points))
        return fit if fit.presence >= MIN_PRESENCE else None

    def _lay(self, pixels: np.ndarray, center: tuple[float, float], side: float, angle: float) -> MeshFit:
        """One look of the mesh at a square; points in pixels of the picture."""
        size = self._mesh.input_px
        transform = square_transform(center, _CROP_FACTOR * side, size, angle)
        fit = self._mesh.run(warp(pixels, transform, (size, size)))
        return fit._replace(points=transform_points(fit.points, invert(transform)))


def _as_face(fit: MeshFit, score: float) -> DetectedFace:
    return DetectedFace(points=fit.points, score=score, presence=fit.presence, blendshapes=fit.blendshapes)


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
