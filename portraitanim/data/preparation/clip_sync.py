"""SyncNet's judgement of a candidate, where its weights are installed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from portraitanim.data.lip_sync import FPS, boxes_at, num_sync_frames, score_lip_sync
from portraitanim.data.preparation.face_following import ClipTrack
from portraitanim.data.preparation.source_reading import frames_of
from portraitanim.data.preparation.sources import SourceClip
from portraitanim.models.evaluators.loading import load_evaluator
from portraitanim.models.evaluators.sync_scoring import MIN_UNBIASED_WINDOWS, num_windows
from portraitanim.models.evaluators.syncnet import SyncNet


def sync_confidence(
    weights: Path, source: SourceClip, start_frame: int, track: ClipTrack, samples: np.ndarray, fps: float
) -> float | None:
    """Sync-C of a face in a source, on the CPU: about a second of one core for a second of video.

    Args:
        weights: folder of SyncNet's.
        source: is read a second time, at SyncNet's 25 frames per second.
        start_frame: of the track, at the dataset's rate.
        track: the face.
        samples: the sound of the track's frames, float32 ``(samples,)`` at 16 kHz.
        fps: the dataset's rate.

    Returns:
        ``None`` for clips below 2.6 s, whose value would be biased.
    """
    num_frames = round(len(track) / fps * FPS)
    if num_windows(num_frames, len(samples)) < MIN_UNBIASED_WINDOWS:
        return None
    first, count = round(start_frame / fps * FPS), num_sync_frames(num_frames, len(samples))
    frames = frames_of(source, FPS, first, count)
    return score_lip_sync(
        _network(weights), frames, boxes_at(track.points, fps, num_frames), samples, torch.device("cpu")
    ).confidence


@lru_cache(maxsize=1)
def _network(weights: Path) -> SyncNet:
    """The network of this process."""
    return load_evaluator(weights, "syncnet-v2", SyncNet)
