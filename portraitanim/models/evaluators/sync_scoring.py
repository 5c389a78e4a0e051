"""Sync-C, Sync-D and the offset from SyncNet's vectors, as its published evaluation computes them.

Sync-C ("confidence", LSE-C) and Sync-D ("min dist", LSE-D) are those of the whole clip. The sound is padded with zero
vectors, so that in short clips the outer shifts compare with nothing: below 60 windows the values are biased.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from scipy.signal import medfilt
from torch import Tensor

from portraitanim.errors import ShapeError
from portraitanim.models.evaluators.syncnet import FRAMES_PER_WINDOW

MAX_SHIFT = 15
MIN_UNBIASED_WINDOWS = 60
SAMPLES_PER_FRAME = 640
_SMOOTHING_WINDOWS = 9


@dataclass(frozen=True, kw_only=True)
class SyncScore:
    """How well mouth and sound agree.

    Attributes:
        confidence: Sync-C: median distance over all shifts minus the smallest; higher is better.
        distance: Sync-D: the smallest distance; lower is better.
        offset_frames: where it is; sound that is late by k frames gives -k.
        num_windows: windows of five frames that were compared.
    """

    confidence: float
    distance: float
    offset_frames: int
    num_windows: int

    @property
    def is_biased(self) -> bool:
        """Whether the padding has a large part in the values."""
        return self.num_windows < MIN_UNBIASED_WINDOWS


def num_windows(num_frames: int, num_samples: int) -> int:
    """Windows that SyncNet's evaluation looks at; at 25 frames per second and 16 kHz.

    It leaves out the last one that would fit, as published.
    """
    return max(0, min(num_frames, num_samples // SAMPLES_PER_FRAME) - FRAMES_PER_WINDOW)


def shift_distances(lips: Tensor, sound: Tensor, max_shift: int = MAX_SHIFT) -> Tensor:
    """Distance of each window's mouth to the sound of the windows around it.

    Args:
        lips: ``(windows, 1024)``.
        sound: likewise.
        max_shift: how far the sound is moved in both directions, in frames.

    Returns:
        ``(2 * max_shift + 1, windows)``; row ``max_shift + k`` compares with the sound k frames later.

    Raises:
        ShapeError: the shapes differ, or there is no window.
    """
    if lips.shape != sound.shape or lips.ndim != 2 or not len(lips):
        raise ShapeError(f"Vectors of mouth and sound must be (windows, dim) alike, got {lips.shape}, {sound.shape}.")
    padded = F.pad(sound, (0, 0, max_shift, max_shift))
    around = padded.unfold(0, 2 * max_shift + 1, 1).transpose(1, 2)
    # With the small number that pairwise_distance adds before it squares.
    return F.pairwise_distance(lips[:, None].expand_as(around), around).T.contiguous()


def score_shifts(distances: Tensor) -> SyncScore:
    """Scores of a clip from its `shift_distances`."""
    mean = distances.mean(dim=1)
    best = int(mean.argmin())
    return SyncScore(
        confidence=float(mean.median() - mean[best]),
        distance=float(mean[best]),
        offset_frames=len(mean) // 2 - best,
        num_windows=distances.shape[1],
    )


def confidence_over_time(distances: Tensor) -> list[float]:
    """Confidence of each window at the clip's best shift, smoothed over nine windows by their median."""
    mean = distances.mean(dim=1)
    confidence = mean.median() - distances[int(mean.argmin())]
    return [float(value) for value in medfilt(confidence.cpu().numpy(), kernel_size=_SMOOTHING_WINDOWS)]
