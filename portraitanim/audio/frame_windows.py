"""Which encoder states a video frame sees: tables of row indices, and the states behind them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from portraitanim.audio.waveform import check_fps
from portraitanim.config.audio import WindowKind
from portraitanim.errors import InputError, ShapeError
from portraitanim.types import AudioFeatures

WHISPER_RATE_HZ = 50
"""States per second of Whisper's encoder, which halves the 100 Hz of its mel frames."""

ROWS_BEFORE = 4
ROWS_AFTER = 5
"""A frame of EchoMimic sees its own row, four before and five after: 0.2 s, not quite centred."""


def centred_indices(num_frames: int, window: int = 5) -> torch.Tensor:
    """Rows around each frame, for states at the video rate; beyond the ends the edge row repeats (Hallo).

    Args:
        num_frames: number of states, one per video frame.
        window: rows per frame, odd.

    Returns:
        int64 ``(num_frames, window)``.

    Raises:
        InputError: a number is out of range.
    """
    _require_rows(num_frames)
    if window < 1 or window % 2 == 0:
        raise InputError(f"The audio window must be an odd number of frames, got {window}.")
    offsets = torch.arange(window) - window // 2
    return (torch.arange(num_frames)[:, None] + offsets).clamp(0, num_frames - 1)


def centred_windows(states: torch.Tensor, window: int = 5, *, frames: Sequence[int] | None = None) -> torch.Tensor:
    """The states around each frame (Hallo; window 5).

    Args:
        states: ``(frames, layers, width)`` at the video rate.
        window: rows per frame, odd.
        frames: only these frames, with neighbours from all states; ``None`` is every frame. Windows repeat each
            state ``window`` times, so long videos should ask for one clip at a time.

    Returns:
        ``(frames, window, layers, width)``.

    Raises:
        ShapeError: the states are not three-dimensional.
        InputError: a number is out of range.
    """
    _require_states(states)
    return _gather(states, centred_indices(len(states), window), frames)


def num_whisper_frames(num_rows: int, fps: float) -> int:
    """How many video frames a sound of ``num_rows`` Whisper states makes.

    EchoMimic counts until the row of a frame lies behind the last state, and one more: one to three frames more than
    there is sound for.

    Args:
        num_rows: number of states at 50 Hz.
        fps: video frames per second.

    Raises:
        InputError: a number is out of range.
    """
    _require_rows(num_rows)
    check_fps(fps)
    rows_per_frame = WHISPER_RATE_HZ / fps
    # The published loop counts up from zero; its end is at most two frames from here.
    frame = max(0, int((num_rows + 1) / rows_per_frame) - 2)
    while int(frame * rows_per_frame) <= num_rows:
        frame += 1
    return frame + 1


def whisper_indices(num_rows: int, fps: float) -> torch.Tensor:
    """Rows that each frame sees: four before its own to five after, edge rows repeated (EchoMimic).

    The own row of frame i is ``int(i * 50 / fps)``; at 24 fps it advances by 2, 2, ..., 3.

    Args:
        num_rows: number of states at 50 Hz.
        fps: video frames per second.

    Returns:
        int64 ``(frames, 10)``.

    Raises:
        InputError: a number is out of range.
    """
    num_frames = num_whisper_frames(num_rows, fps)
    own = torch.tensor([int(frame * WHISPER_RATE_HZ / fps) for frame in range(num_frames)])
    offsets = torch.arange(-ROWS_BEFORE, ROWS_AFTER + 1)
    return (own[:, None] + offsets).clamp(0, num_rows - 1)


def whisper_windows(states: torch.Tensor, fps: float, *, frames: Sequence[int] | None = None) -> torch.Tensor:
    """The Whisper states that each video frame sees (EchoMimic).

    Args:
        states: ``(steps, layers, width)`` at 50 Hz.
        fps: video frames per second.
        frames: only these frames; ``None`` is every frame.

    Returns:
        ``(frames, 10, layers, width)``; merging the middle two axes gives EchoMimic's 50 tokens, time-major.

    Raises:
        ShapeError: the states are not three-dimensional.
        InputError: a number is out of range.
    """
    _require_states(states)
    return _gather(states, whisper_indices(len(states), fps), frames)


def frame_windows(
    features: AudioFeatures,
    kind: WindowKind,
    fps: float,
    *,
    window: int = 5,
    frames: Sequence[int] | None = None,
) -> torch.Tensor:
    """The states that each video frame sees, by the kind that a preset names (``audio.window``).

    Args:
        features: what an encoder gave.
        kind: ``centred`` for states at the video rate, ``whisper`` for states at 50 Hz.
        fps: video frames per second.
        window: rows per frame of ``centred``; ``whisper`` always has 10.
        frames: only these frames; ``None`` is every frame.

    Returns:
        ``(frames, rows, layers, width)``.

    Raises:
        ShapeError: the states are not three-dimensional.
        InputError: the rate of the states does not fit the kind, or a number is out of range.
    """
    expected_hz = fps if kind == "centred" else WHISPER_RATE_HZ
    if features.rate_hz != expected_hz:
        raise InputError(
            f"Audio windows of kind {kind!r} read states at {expected_hz:g} Hz, got {features.rate_hz:g} Hz from "
            f"{features.encoder}. Encode the sound again, or choose the other kind in audio.window."
        )
    if kind == "whisper":
        return whisper_windows(features.states, fps, frames=frames)
    return centred_windows(features.states, window, frames=frames)


def _gather(states: torch.Tensor, table: torch.Tensor, frames: Sequence[int] | None) -> torch.Tensor:
    if frames is not None:
        wrong = [frame for frame in frames if not 0 <= frame < len(table)]
        if wrong:
            raise InputError(f"Frame {wrong[0]} was asked for, the sound makes frames 0 to {len(table) - 1}.")
        table = table[list(frames)]
    return states[table.to(states.device)]


def _require_states(states: torch.Tensor) -> None:
    if states.ndim != 3:
        raise ShapeError(f"Audio states must be (steps, layers, width), got {tuple(states.shape)}.")


def _require_rows(count: int) -> None:
    if count < 1:
        raise InputError(f"Audio windows need at least one state, got {count}. Is the sound empty?")
