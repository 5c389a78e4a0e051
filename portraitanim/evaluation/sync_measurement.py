"""Sync-C, Sync-D and the offset of one video: its frames are read a second time, once it is known where the face is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from portraitanim.audio.mfcc import SAMPLE_RATE_HZ, mfcc, to_int16
from portraitanim.errors import FaceError, MediaError
from portraitanim.evaluation.judges import Judges
from portraitanim.face.box_detector import overlap
from portraitanim.media.audio import load_audio, to_mono
from portraitanim.media.video import iter_video
from portraitanim.models.evaluators.s3fd import S3FD, detect_faces
from portraitanim.models.evaluators.sync_crop import SyncCrops, cut_crops, plan_crops
from portraitanim.models.evaluators.sync_scoring import SyncScore, num_windows, score_shifts, shift_distances
from portraitanim.models.evaluators.syncnet import FRAMES_PER_WINDOW, MFCC_STEPS_PER_WINDOW, SyncNet

FPS = 25
_MFCC_STEPS_PER_FRAME = 4
_BATCH_WINDOWS = 16
# SyncNet's pipeline ends a track after so many frames without a face.
_MAX_GAP_FRAMES = 25


def measure_sync(
    video: Path,
    audio: Path | None,
    landmarks: np.ndarray,
    fps: float,
    judges: Judges,
    *,
    use_s3fd: bool = False,
    max_frames: int | None = None,
) -> SyncScore:
    """Score one video.

    Args:
        video: any file; read at 25 frames per second.
        audio: its sound; ``None`` takes the video's own.
        landmarks: ``(frames, 478, 3)``, NaN without a face.
        fps: rate of the landmarks.
        judges: has SyncNet, and S3FD where it is used.
        use_s3fd: crops from S3FD's boxes, as published, instead of the bounds of the landmarks.
        max_frames: frames of the landmarks' rate that are read.

    Raises:
        MediaError: there is no sound, or too little of both for one window.
        FaceError: the face is lost for more than a second.
    """
    samples = to_int16(to_mono(load_audio(audio or video, SAMPLE_RATE_HZ)).samples[0])
    seconds = (len(landmarks) if max_frames is None else min(len(landmarks), max_frames)) / fps
    num_frames = round(seconds * FPS)
    samples = samples[: round(seconds * SAMPLE_RATE_HZ)]
    length = num_windows(num_frames, len(samples))
    if length < 1:
        raise MediaError(f"{video}: {num_frames} frames with {len(samples)} samples of sound are too short for SyncNet")
    boxes = boxes_at(landmarks, fps, num_frames)
    if use_s3fd:
        boxes = _detector_boxes(judges.s3fd, _frames(video, num_frames), boxes)
    crops = plan_crops(boxes)
    with torch.inference_mode():
        lips = _lip_vectors(judges.syncnet, _frames(video, length + FRAMES_PER_WINDOW - 1), crops, judges.device)
        sound = _sound_vectors(judges.syncnet, samples, len(lips), judges.device)
    return score_shifts(shift_distances(lips, sound))


def boxes_at(landmarks: np.ndarray, fps: float, num_frames: int) -> np.ndarray:
    """Bounds of the face at 25 frames per second, gaps filled along a line: float64 ``(num_frames, 4)``.

    Raises:
        FaceError: a gap is longer than a second, or there is no face at all.
    """
    seen = np.flatnonzero(np.isfinite(landmarks[:, 0, 0]))
    if not len(seen):
        raise FaceError("no face for SyncNet to look at")
    gaps = np.diff(np.concatenate([[-1], seen, [len(landmarks)]])) - 1
    if gaps.max() > _MAX_GAP_FRAMES * fps / FPS:
        raise FaceError(f"the face is lost for {gaps.max() / fps:.1f} s, too long for SyncNet")
    plane = landmarks[seen, :, :2].astype(np.float64)
    corners = np.concatenate([plane.min(axis=1), plane.max(axis=1)], axis=1)
    times = np.arange(num_frames) / FPS
    return np.stack([np.interp(times, seen / fps, corner) for corner in corners.T], axis=1)


def _frames(video: Path, num_frames: int) -> Iterator[np.ndarray]:
    for number, frame in enumerate(iter_video(video, FPS)):
        if number == num_frames:
            return
        yield frame.image


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


def _lip_vectors(
    network: SyncNet, frames: Iterable[np.ndarray], crops: SyncCrops, device: torch.device
) -> torch.Tensor:
    window: deque[np.ndarray] = deque(maxlen=FRAMES_PER_WINDOW)
    waiting: list[np.ndarray] = []
    vectors: list[torch.Tensor] = []

    def measure() -> None:
        if waiting:
            vectors.append(network.lips(torch.from_numpy(np.stack(waiting)).to(device).float()).cpu())
            waiting.clear()

    for crop in cut_crops(frames, crops):
        window.append(crop[::-1])  # SyncNet reads BGR
        if len(window) == FRAMES_PER_WINDOW:
            waiting.append(np.stack(window))
            if len(waiting) == _BATCH_WINDOWS:
                measure()
    measure()
    if not vectors:
        raise MediaError("The video ends before one window of SyncNet")
    return torch.cat(vectors)


def _sound_vectors(network: SyncNet, samples: np.ndarray, length: int, device: torch.device) -> torch.Tensor:
    cepstra = torch.from_numpy(mfcc(samples)).float().T
    starts = [_MFCC_STEPS_PER_FRAME * number for number in range(length)]
    windows = torch.stack([cepstra[:, start : start + MFCC_STEPS_PER_WINDOW] for start in starts])
    return torch.cat([network.audio(part.to(device)).cpu() for part in windows.split(64)])
