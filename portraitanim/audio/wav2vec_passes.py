"""Long sound through wav2vec 2.0 with bounded memory.

The convolutions are exact in pieces: they look 25 ms wide, and the one norm that sees the whole utterance gets its
mean and variance in a first sweep. Only the reach of the transformer's attention is cut.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from portraitanim.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One run of the transformer: the frames that it sees, and those of them whose states are kept."""

    seen_start: int
    seen_stop: int
    kept_start: int
    kept_stop: int


def plan_passes(num_frames: int, fps: float, max_seconds: float | None, overlap_seconds: float) -> tuple[Pass, ...]:
    """Runs that keep each frame exactly once.

    Args:
        num_frames: frames of the utterance.
        fps: frames per second.
        max_seconds: longest run; ``None`` is one run, whatever the length.
        overlap_seconds: seen and discarded on either side of what is kept, except at the ends of the utterance.

    Returns:
        The runs in order of time; one run where the utterance fits into it.

    Raises:
        InputError: the overlaps leave nothing to keep.
    """
    if max_seconds is None:
        return (Pass(seen_start=0, seen_stop=num_frames, kept_start=0, kept_stop=num_frames),)
    size = math.floor(max_seconds * fps)
    overlap = math.ceil(overlap_seconds * fps)
    if overlap < 0 or size - 2 * overlap < 1:
        raise InputError(
            f"max_seconds_per_pass is {max_seconds} and overlap_seconds {overlap_seconds}: at {fps} frames per second "
            "no frame is left between the overlaps. Use a pass longer than twice the overlap."
        )
    if num_frames <= size:
        return plan_passes(num_frames, fps, None, 0)
    step = size - 2 * overlap
    passes = tuple(
        Pass(
            seen_start=max(0, start - overlap),
            seen_stop=min(num_frames, start + step + overlap),
            kept_start=start,
            kept_stop=min(num_frames, start + step),
        )
        for start in range(0, num_frames, step)
    )
    logger.info("Encoding %d frames of sound in %d passes of at most %d.", num_frames, len(passes), size)
    return passes


def convolve_in_pieces(layers: Sequence[Any], waveform: torch.Tensor, samples_per_piece: int) -> torch.Tensor:
    """The convolutional features of the whole utterance, computed piece by piece.

    Args:
        layers: the feature extractor's layers; each has ``conv`` and ``activation``, the first may have a norm over
            time, ``layer_norm``, with one group per channel.
        waveform: ``(samples,)``.
        samples_per_piece: about how many samples to hold at once.

    Returns:
        ``(1, channels, steps)``, the same as in one piece up to rounding.
    """
    kernels = [layer.conv.kernel_size[0] for layer in layers]
    strides = [layer.conv.stride[0] for layer in layers]
    field, hop = receptive_field(kernels, strides)
    first = layers[0]
    norm: Any = getattr(first, "layer_norm", None)
    over_time = isinstance(norm, nn.GroupNorm)
    if over_time:
        mean, scale = _statistics(first.conv, norm, waveform, samples_per_piece)

    pieces = []
    for piece in _pieces(waveform, field, hop, samples_per_piece):
        if over_time:
            hidden = first.activation((first.conv(piece) - mean) * scale + norm.bias[:, None])
        else:
            hidden = first(piece)
        for layer in layers[1:]:
            hidden = layer(hidden)
        pieces.append(hidden)
    return torch.cat(pieces, dim=2)


def _statistics(
    conv: nn.Conv1d, norm: nn.GroupNorm, waveform: torch.Tensor, samples_per_piece: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the norm over the whole utterance subtracts from each channel and multiplies it by, ``(channels, 1)``."""
    # Sums over pieces in float64, on the CPU because Apple's GPUs have no such numbers.
    total = torch.zeros(conv.out_channels, dtype=torch.float64)
    squares = torch.zeros_like(total)
    count = 0
    for piece in _pieces(waveform, conv.kernel_size[0], conv.stride[0], samples_per_piece):
        values = conv(piece)[0].float()
        length = values.shape[1]
        piece_mean = values.mean(dim=1).cpu().double()
        total += length * piece_mean
        squares += length * (values.var(dim=1, correction=0).cpu().double() + piece_mean.square())
        count += length
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    scale = norm.weight.cpu().double() / torch.sqrt(variance + norm.eps)
    return mean[:, None].to(waveform), scale[:, None].to(waveform)


def _pieces(waveform: torch.Tensor, field: int, hop: int, samples_per_piece: int) -> Iterator[torch.Tensor]:
    """Pieces ``(1, 1, samples)`` whose outputs, laid end to end, are those of the whole waveform."""
    num_steps = (len(waveform) - field) // hop + 1
    steps_per_piece = max(1, samples_per_piece // hop)
    for start in range(0, num_steps, steps_per_piece):
        stop = min(num_steps, start + steps_per_piece)
        yield waveform[None, None, start * hop : (stop - 1) * hop + field]


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Samples that one output of stacked convolutions reads, and samples between two outputs."""
    field = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        field = (field - 1) * stride + kernel
    return field, math.prod(strides)
