"""What every audio encoder reads: one channel of sound at 16 kHz, checked once."""

from __future__ import annotations

import math

import torch

from portraitanim.errors import InputError, ShapeError

SAMPLE_RATE_HZ = 16000
"""Samples per second that all encoders read."""


def check_waveform(waveform: torch.Tensor, *, min_samples: int = 1) -> None:
    """Refuse sound that an encoder would turn into nonsense or crash on.

    Args:
        waveform: float32 ``(samples,)`` at 16 kHz, in [-1, 1].
        min_samples: the fewest samples that the encoder can read.

    Raises:
        ShapeError: not one channel of float32.
        InputError: too short, or some samples are not finite.
    """
    if waveform.ndim != 1 or waveform.dtype != torch.float32:
        raise ShapeError(
            f"An audio encoder reads mono float32 (samples,) at 16 kHz, got {waveform.dtype} "
            f"{tuple(waveform.shape)}. Mix the channels to one first."
        )
    if len(waveform) < min_samples:
        raise InputError(
            f"The sound has {len(waveform)} samples at 16 kHz, the encoder needs at least {min_samples} "
            f"({1000 * min_samples / SAMPLE_RATE_HZ:g} ms). Use a longer file."
        )
    if not bool(torch.isfinite(waveform).all()):
        raise InputError("The sound has samples that are not finite numbers. Decode the file again.")


def check_fps(fps: float) -> None:
    """Refuse a video rate that is not a positive, finite number.

    Raises:
        InputError: the rate cannot be used.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"Frames per second must be a positive number, got {fps}.")


def num_frames_covering(num_samples: int, fps: float) -> int:
    """Number of video frames that cover the sound; the last one may be filled in part.

    The product comes first, so that a sound of exactly k frames gives k: whole numbers stay whole.
    """
    return math.ceil(num_samples * fps / SAMPLE_RATE_HZ)


def padded_count(num_frames: int, multiple_of: int | None) -> int:
    """The smallest multiple that is not below ``num_frames``; ``None`` leaves the number as it is.

    Raises:
        InputError: ``multiple_of`` is below 1.
    """
    if multiple_of is None:
        return num_frames
    if multiple_of < 1:
        raise InputError(f"pad_to_multiple_of must be at least 1 frame, got {multiple_of}.")
    return math.ceil(num_frames / multiple_of) * multiple_of
