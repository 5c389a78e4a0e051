"""SyncNet's scores of a talking face: what `eval` reports and `prep` keeps clips by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import torch

from portraitanim.audio.mfcc import mfcc, to_int16
from portraitanim.errors import FaceError, MediaError
from portraitanim.models.evaluators.sync_crop import SyncCrops, cut_crops, plan_crops
from portraitanim.models.evaluators.sync_scoring import SyncScore, num_windows, score_shifts, shift_distances
from portraitanim.models.evaluators.syncnet import FRAMES_PER_WINDOW, MFCC_STEPS_PER_WINDOW, SyncNet

FPS = 25
"""The rate at which SyncNet reads pictures."""

_MFCC_STEPS_PER_FRAME = 4
_BATCH_WINDOWS = 16
# SyncNet's pipeline ends a track after so many frames without a face.
_MAX_GAP_FRAMES = 25


def num_sync_frames(num_frames: int, num_samples: int) -> int:
    """Frames at 25 per second that the score of so many frames and samples at 16 kHz reads.

    Raises:
        MediaError: they are too short for one window.
    """
    length = num_windows(num_frames, num_samples)
    if length < 1:
        raise MediaError(f"{num_frames} frames with {num_samples} samples of sound are too short for SyncNet")
    return length + FRAMES_PER_WINDOW - 1


@torch.inference_mode()
def score_lip_sync(
    network: SyncNet, frames: Iterable[np.ndarray], boxes: np.ndarray, samples: np.ndarray, device: torch.device
) -> SyncScore:
    """Sync-C, Sync-D and the offset.

    Args:
        network: with its weights, on ``device``.
        frames: uint8 RGB ``(3, height, width)`` at 25 per second, at least as many as `num_sync_frames` says.
        boxes: the face in each frame: left, top, right, bottom in pixels, ``(frames, 4)``.
        samples: the sound from the first frame on, float32 ``(samples,)`` at 16 kHz.
        device: where the network is.

    Raises:
        MediaError: there are too few frames or samples for one window.
    """
    lips = _lip_vectors(network, frames, plan_crops(boxes), device)
    sound = _sound_vectors(network, to_int16(samples), len(lips), device)
    return score_shifts(shift_distances(lips, sound))


def boxes_at(landmarks: np.ndarray, fps: float, num_frames: int) -> np.ndarray:
    """Bounds of the face at 25 frames per second, gaps filled along a line: float64 ``(num_frames, 4)``.

    Args:
        landmarks: ``(frames, 478, 3)`` in pixels, NaN without a face.
        fps: their rate.
        num_frames: how many boxes.

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
