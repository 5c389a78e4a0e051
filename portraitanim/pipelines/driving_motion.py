"""Driving video or landmark file → landmarks of the portrait over time, in the portrait's own pixels."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from portraitanim.errors import InputError
from portraitanim.face.face_track import FaceTrack, resample_track
from portraitanim.face.smoothing import smooth_landmarks
from portraitanim.face.track_motion import drive_portrait
from portraitanim.face.tracking import FaceFinder, track_face
from portraitanim.media.video import iter_video, probe_video
from portraitanim.pipelines.pose_folder import load_pose_folder
from portraitanim.pipelines.track_files import load_track
from portraitanim.progress import ProgressReporter
from portraitanim.types import FaceLandmarks

if TYPE_CHECKING:
    from portraitanim.pipelines.portrait import Portrait

logger = logging.getLogger(__name__)

MotionSync = Literal["paper", "published", "none"]


def is_video(path: Path) -> bool:
    """Whether a driving source is a video, as opposed to landmarks."""
    return not (path.is_dir() or path.suffix.lower() == ".safetensors")


def load_driving(
    path: Path,
    fps: float,
    finder: FaceFinder,
    *,
    face: str = "largest",
    on_missing: Literal["hold", "skip", "error"] = "hold",
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    progress: ProgressReporter | None = None,
) -> FaceTrack:
    """Read a driving source at the rate of the output.

    Args:
        path: a video, a landmark file (safetensors), or a folder of EchoMimic's poses.
        fps: frames per second of the output.
        finder: the face model, for videos.
        face: which face of the video's first frame is followed.
        on_missing: what happens to frames without a face.
        start_seconds: where to start.
        duration_seconds: how much to read; ``None`` reads to the end.
        progress: told the frames that are read.

    Raises:
        InputError: not a readable driving source, or nothing is left after ``start_seconds``.
        FaceError: no face in the video.
    """
    if is_video(path):
        frames = iter_video(path, fps, start_seconds=start_seconds, duration_seconds=duration_seconds)
        images = (frame.image for frame in frames)
        return track_face(images, fps, finder, select=face, on_missing=on_missing, progress=progress)
    track = load_pose_folder(path) if path.is_dir() else load_track(path)
    track = resample_track(track, fps)
    first = round(start_seconds * fps)
    stop = None if duration_seconds is None else first + max(1, round(duration_seconds * fps))
    if first >= len(track.landmarks):
        raise InputError(
            f"{path} lasts {len(track.landmarks) / fps:.2f} s; it cannot start at {start_seconds:g} s. "
            "Use an earlier --start."
        )
    return _cut(track, first, stop)


def has_sound(path: Path) -> bool:
    """Whether a driving source brings its own sound."""
    return is_video(path) and probe_video(path).has_audio


def portrait_motion(
    track: FaceTrack,
    portrait: Portrait,
    *,
    method: MotionSync | None = None,
    smoothing: Literal["savgol", "one-euro", "none"] = "savgol",
) -> np.ndarray:
    """Landmarks of the portrait, moved as the driver moves.

    Args:
        track: the driver.
        portrait: whom it drives.
        method: see `portraitanim.face.motion_sync.synchronize`; ``none`` takes the points as they are, scaled from
            the driver's picture to the portrait's. By default ``paper``, and ``none`` for points without depth, which
            EchoMimic's code writes once they are synchronized.
        smoothing: how jitter is taken out before.

    Returns:
        float32 ``(frames, 478, 2)`` in pixels of the portrait's square.
    """
    landmarks = track.landmarks
    size = portrait.crop.size_px
    if smoothing != "none":
        landmarks = smooth_landmarks(landmarks, track.fps, smoothing)
    flat = not landmarks.points[..., 2].any()
    if flat and method in ("paper", "published"):
        raise InputError(
            f"These landmarks have no depth, so the motion synchronization {method!r} cannot turn them. "
            "Use --motion-sync none, which draws them as they are."
        )
    if method == "none" or flat:
        height, width = track.size_px
        return (landmarks.points[..., :2] * (size / width, size / height)).astype(np.float32)
    own = FaceLandmarks(points=portrait.landmarks[None])
    return drive_portrait(replace(track, landmarks=landmarks), own, (size, size), method=method or "paper")


def _cut(track: FaceTrack, first: int, stop: int | None) -> FaceTrack:
    """Some frames of a track."""
    keep = slice(first, stop)
    return replace(
        track,
        landmarks=FaceLandmarks(points=track.landmarks.points[keep]),
        found=track.found[keep],
        matrices=None if track.matrices is None else track.matrices[keep],
        blendshapes=None if track.blendshapes is None else track.blendshapes[keep],
    )
