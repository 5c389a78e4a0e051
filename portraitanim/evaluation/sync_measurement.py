"""Sync-C, Sync-D and the offset of one video: its frames are read a second time, once it is known where the face is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from portraitanim.audio.mfcc import SAMPLE_RATE_HZ
from portraitanim.data.lip_sync import FPS, boxes_at, num_sync_frames, score_lip_sync
from portraitanim.errors import FaceError, MediaError
from portraitanim.evaluation.judges import Judges
from portraitanim.face.box_detector import overlap
from portraitanim.media.audio import load_audio, to_mono
from portraitanim.media.video import iter_video
from portraitanim.models.evaluators.s3fd import S3FD, detect_faces
from portraitanim.models.evaluators.sync_scoring import SyncScore


def measure_sync(
    video: Path,
    audio: Path | None,
    landmarks: np.ndarray,
    fps: float,
    judges: Judges,
    *,
    use_s3fd: bool = False,
) -> SyncScore:
    """Score one video.

    Args:
        video: any file; read at 25 frames per second.
        audio: its sound; ``None`` takes the video's own.
        landmarks: ``(frames, 478, 3)``, NaN without a face.
        fps: rate of the landmarks.
        judges: has SyncNet, and S3FD where it is used.
        use_s3fd: crops from S3FD's boxes, as published, instead of the bounds of the landmarks.

    Raises:
        MediaError: there is no sound, or too little of both for one window.
        FaceError: the face is lost for more than a second.
    """
    samples = to_mono(load_audio(audio or video, SAMPLE_RATE_HZ)).samples[0]
    seconds = len(landmarks) / fps
    num_frames = round(seconds * FPS)
    samples = samples[: round(seconds * SAMPLE_RATE_HZ)]
    try:
        count = num_sync_frames(num_frames, len(samples))
    except MediaError as error:
        raise MediaError(f"{video}: {error}") from None
    boxes = boxes_at(landmarks, fps, num_frames)
    if use_s3fd:
        boxes = _detector_boxes(judges.s3fd, _frames(video, num_frames), boxes)
    return score_lip_sync(judges.syncnet, _frames(video, count), boxes, samples, judges.device)


def _frames(video: Path, num_frames: int) -> Iterator[np.ndarray]:
    return (frame.image for frame in islice(iter_video(video, FPS), num_frames))


def _detector_boxes(detector: S3FD, frames: Iterable[np.ndarray], boxes: np.ndarray) -> np.ndarray:
    """S3FD's box of the same face in each frame; where it finds none, one on the line between its neighbours."""
    found = np.full(boxes.shape, np.nan)
    for number, frame in enumerate(frames):
        faces = detect_faces(detector, frame)
        shared = [overlap(tuple(face[:4].tolist()), tuple(boxes[number].tolist())) for face in faces]
        if shared and max(shared) > 0.25:
            found[number] = faces[int(np.argmax(shared)), :4]
    seen = np.flatnonzero(np.isfinite(found[:, 0]))
    if not len(seen):
        raise FaceError("S3FD finds no face for SyncNet to look at")
    places = np.arange(len(found))
    return np.stack([np.interp(places, seen, corner[seen]) for corner in found.T], axis=1)
