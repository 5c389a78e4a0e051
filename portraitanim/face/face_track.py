"""One face over the frames of a video: its points and, where known, head pose and expression scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from portraitanim.errors import InputError, ShapeError
from portraitanim.types import FaceLandmarks

NUM_BLENDSHAPES = 52
MAX_FPS = 240.0


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceTrack:
    """A face followed over time.

    Attributes:
        landmarks: the points, in pixels of the frames.
        fps: frames per second, above 0 and at most 240.
        size_px: (height, width) of the frames the points belong to.
        found: bool ``(frames,)``; false where the face was not seen and the points are those of another moment.
        matrices: head pose per frame, float32 ``(frames, 4, 4)``, head axes → camera axes in centimetres as in
            `portraitanim.face.geometry.FaceGeometry`, or ``None``.
        blendshapes: expression scores in [0, 1], float32 ``(frames, 52)`` in MediaPipe's order, or ``None``.
        source: what found the points, for summaries and files.
        num_missing: frames without the face, also those that were dropped.
    """

    landmarks: FaceLandmarks
    fps: float
    size_px: tuple[int, int]
    found: np.ndarray
    matrices: np.ndarray | None = None
    blendshapes: np.ndarray | None = None
    source: str
    num_missing: int = 0

    def __post_init__(self) -> None:
        check_fps(self.fps)
        frames = len(self.landmarks)
        if frames < 1:
            raise ShapeError("A face track needs at least one frame.")
        if len(self.size_px) != 2 or min(self.size_px) < 1:
            raise ShapeError(f"The size of a face track must be a positive (height, width), got {self.size_px}.")
        for name, value, shape in (
            ("found", self.found, (frames,)),
            ("matrices", self.matrices, (frames, 4, 4)),
            ("blendshapes", self.blendshapes, (frames, NUM_BLENDSHAPES)),
        ):
            if value is not None and value.shape != shape:
                raise ShapeError(f"{name} of a face track of {frames} frames must be {shape}, got {value.shape}.")

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return len(self) / self.fps


def resample_track(track: FaceTrack, fps: float) -> FaceTrack:
    """The same motion at another frame rate.

    Frame k shows the time ``k / fps``. Points and scores are interpolated linearly, head rotations on the sphere.
    A frame counts as found when the nearest frame of the original is.

    Args:
        track: not changed.
        fps: frames per second of the result, above 0 and at most 240.

    Returns:
        A track of ``round(frames · fps / track.fps)`` frames, at least one.

    Raises:
        InputError: the rate is outside its range.
    """
    check_fps(fps)
    if fps == track.fps:
        return track
    num_frames = max(1, round(len(track) * fps / track.fps))
    # The last frame is shown until the end of the video: positions beyond it repeat it.
    position = np.minimum(np.arange(num_frames) * (track.fps / fps), len(track) - 1)
    return replace(
        track,
        landmarks=FaceLandmarks(points=_linear(track.landmarks.points, position)),
        fps=fps,
        found=track.found[np.rint(position).astype(np.int64)],
        matrices=None if track.matrices is None else _poses(track.matrices, position),
        blendshapes=None if track.blendshapes is None else _linear(track.blendshapes, position),
    )


def check_fps(fps: float) -> None:
    """Refuse a frame rate that makes no sense.

    Raises:
        InputError: it is not above 0 and at most 240.
    """
    if not 0 < fps <= MAX_FPS:
        raise InputError(f"Frames per second must lie above 0 and at most at {MAX_FPS:g}, got {fps}.")


def _linear(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    before = np.floor(position).astype(np.int64)
    after = np.minimum(before + 1, len(values) - 1)
    share = (position - before).reshape(-1, *[1] * (values.ndim - 1))
    between: np.ndarray = (values[before] * (1 - share) + values[after] * share).astype(values.dtype)
    return between


def _poses(matrices: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Poses between poses: rotation along the shortest arc, size and place linearly."""
    exact = matrices.astype(np.float64)
    left, sizes, right = np.linalg.svd(exact[:, :3, :3])
    rotations = left @ right
    # A detector's matrix is a rotation but for rounding and a common size near 1.
    scale = _linear(sizes.mean(1), position)
    poses = _linear(exact, position)
    if len(rotations) > 1:
        turned = Slerp(np.arange(len(rotations)), Rotation.from_matrix(rotations))(position).as_matrix()
    else:
        turned = np.repeat(rotations, len(position), axis=0)
    poses[:, :3, :3] = turned * scale[:, None, None]
    return poses.astype(matrices.dtype)
