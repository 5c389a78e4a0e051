"""Measure a candidate clip: one pass over its frames, one over its sound, and nothing kept but numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from portraitanim.data.preparation.camera_motion import CameraMotion
from portraitanim.data.preparation.clip_crop import face_share_of, stable_crop
from portraitanim.data.preparation.face_following import ClipFollower, ClipTrack
from portraitanim.data.preparation.motion_measures import (
    face_sides_px,
    head_speeds,
    head_travel,
    mouth_openings,
    yaws_degrees,
)
from portraitanim.data.preparation.speech import SAMPLE_RATE_HZ, mouth_sound_agreement, speech_fraction
from portraitanim.errors import MediaError
from portraitanim.face.face_measures import face_look
from portraitanim.face.tracking import FaceFinder

_SHARPNESS_EVERY_FRAMES = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipMeasures:
    """What is known of a candidate.

    Attributes:
        scores: by name, see `portraitanim.data.preparation.filters.RULES`; what could not be measured is absent.
        track: the face, or ``None`` where none was seen.
        image_size: (height, width) of the frames.
        middle_frame: uint8 ``(3, height, width)``, for the report.
    """

    scores: dict[str, float]
    track: ClipTrack | None
    image_size: tuple[int, int]
    middle_frame: np.ndarray


def measure_clip(
    frames: Iterable[np.ndarray],
    num_frames: int,
    samples: np.ndarray | None,
    fps: float,
    finder: FaceFinder,
    *,
    face_share: float,
) -> ClipMeasures:
    """Measure everything but what needs other clips.

    Args:
        frames: uint8 RGB ``(3, height, width)``, read one by one.
        num_frames: how many are expected.
        samples: the sound of these frames, float32 ``(samples,)`` at 16 kHz, or ``None``.
        fps: frames per second.
        finder: finds faces.
        face_share: wanted side of the face in sides of the crop.

    Raises:
        MediaError: there are no frames.
    """
    follower, camera = ClipFollower(finder, fps), CameraMotion(fps)
    sharp: list[float] = []
    middle: np.ndarray | None = None
    number = -1
    for number, image in enumerate(frames):
        face = follower.add(image)
        camera.add(image, None if face is None else face.box)
        is_sampled = face is not None and number % _SHARPNESS_EVERY_FRAMES == 0
        sharp.append(face_look(image, face.points).sharpness if face is not None and is_sampled else np.nan)
        if middle is None or number == num_frames // 2:
            middle = image
    if middle is None:
        raise MediaError("The clip has no frames.")
    track = follower.track()
    size = (middle.shape[1], middle.shape[2])
    scores = {"seconds": 0.0, "face_tracked_fraction": 0.0}
    if track is not None:
        scores = _face_scores(track, fps)
        crop = stable_crop(track.points, 1, size, face_share)
        scores["face_share"] = face_share_of(track.points, crop)
        part = np.array(sharp[track.start_frame : track.start_frame + len(track)])
        if np.isfinite(part).any():
            scores["sharpness"] = float(np.nanmedian(part))
        speed = camera.speed(track.start_frame, len(track))
        if speed is not None:
            scores["camera_speed"] = speed
        if samples is not None:
            scores |= _sound_scores(track, samples, fps)
    rounded = {name: round(float(value), 5) for name, value in scores.items()}
    return ClipMeasures(scores=rounded, track=track, image_size=size, middle_frame=middle)


def sound_of_frames(samples: np.ndarray, start_frame: int, num_frames: int, fps: float) -> np.ndarray:
    """The samples of some frames, exactly as long as they are; silence where the sound has ended."""
    start, end = (round(frame * SAMPLE_RATE_HZ / fps) for frame in (start_frame, start_frame + num_frames))
    part = samples[start:end]
    return np.pad(part, (0, end - start - len(part)))


def _face_scores(track: ClipTrack, fps: float) -> dict[str, float]:
    points = track.points
    speeds = head_speeds(points, fps)
    return {
        "seconds": len(track) / fps,
        "face_tracked_fraction": track.tracked_fraction,
        "second_face_share": track.second_face_share,
        "track_jump": track.jump,
        "face_px": float(np.median(face_sides_px(points))),
        "yaw_degrees": float(np.percentile(np.abs(yaws_degrees(points)), 95)),
        "head_speed": float(np.percentile(speeds, 95)) if len(speeds) else 0.0,
        "head_travel": head_travel(points),
        "mouth_motion": float(mouth_openings(points).std()),
    }


def _sound_scores(track: ClipTrack, samples: np.ndarray, fps: float) -> dict[str, float]:
    part = sound_of_frames(samples, track.start_frame, len(track), fps)
    scores = {"speech_fraction": speech_fraction(part)}
    agreement = mouth_sound_agreement(mouth_openings(track.points), part, fps)
    if agreement is not None:
        scores["sync_correlation"] = agreement.correlation
        if agreement.offset_frames is not None:
            scores["sync_offset_frames"] = float(abs(agreement.offset_frames))
    return scores
