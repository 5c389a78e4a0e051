"""What drives a video: sound, face motion, or both, and how many frames they make."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from portraitanim.audio.frame_windows import frame_windows, num_whisper_frames
from portraitanim.errors import InputError
from portraitanim.media.audio import iter_audio, to_mono

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from portraitanim.audio.encoders import AudioEncoder
    from portraitanim.config.audio import AudioConfig, WindowKind
    from portraitanim.config.schema import SamplingConfig
    from portraitanim.types import AudioFeatures

logger = logging.getLogger(__name__)

LONG_SECONDS = 90.0
"""From here on, sound is read in passes by encoders whose work grows with the square of the length."""

PASS_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SoundStates:
    """The encoder's states of a sound, with the table of those that each frame sees.

    Attributes:
        features: states of the whole sound, in the number format of the network.
        num_frames: frames that the networks make, the silence that fills the last clip included.
        num_sounding_frames: frames that belong to the sound.
        kind: how windows are taken, ``audio.window`` of the preset.
        window: rows per frame of centred windows.
        fps: frames per second.
    """

    features: AudioFeatures
    num_frames: int
    num_sounding_frames: int
    kind: WindowKind
    window: int
    fps: float

    def frames_until(self, stop: int) -> int:
        """See `portraitanim.types.Conditioning`."""
        return min(stop, self.num_frames)

    def goes_on(self, frame: int) -> bool:
        """See `portraitanim.types.Conditioning`."""
        return frame < self.num_frames

    def sounding_until(self, stop: int) -> int:
        """How many frames before ``stop`` belong to the sound."""
        return min(stop, self.num_sounding_frames)

    def release(self, first_frame: int) -> None:
        """See `portraitanim.types.Conditioning`; all states are kept."""

    def windows(self, frames: Sequence[int]) -> torch.Tensor:
        """``(1, frames, rows, layers, width)``; frames behind the end see the end."""
        last = self.num_frames - 1
        picked = [min(frame, last) for frame in frames]
        return frame_windows(self.features, self.kind, self.fps, window=self.window, frames=picked)[None]


def read_waveform(
    path: str | Path, sample_rate_hz: int, start_seconds: float, duration_seconds: float | None
) -> torch.Tensor:
    """Mono sound of a file ``(samples,)``, read in pieces so that the file's own rate and channels cost no memory."""
    chunks = [
        to_mono(chunk).samples[0]
        for chunk in iter_audio(
            path, sample_rate_hz, 10.0, start_seconds=start_seconds, duration_seconds=duration_seconds
        )
    ]
    return torch.from_numpy(np.concatenate(chunks))


def encode_sound(
    waveform: torch.Tensor,
    encoder: AudioEncoder,
    audio: AudioConfig,
    sampling: SamplingConfig,
    *,
    window: int,
    dtype: torch.dtype,
) -> SoundStates:
    """Read a sound once, for all frames.

    Clip after clip, silence fills the last clip, as published; with overlapping windows the number of frames is
    EchoMimic's, one to three more than there is sound for. The surplus is made and not shown.

    Args:
        waveform: float32 ``(samples,)`` at 16 kHz.
        encoder: the encoder that the weights were trained with.
        audio: from the preset.
        sampling: resolved options.
        window: rows per frame of centred windows.
        dtype: number format in which the states are kept.
    """
    fps = sampling.fps
    seconds = len(waveform) / audio.sample_rate_hz
    if audio.window == "whisper":
        features = _in_format(encoder.encode(waveform, fps), dtype)
        num_rows = len(features.states)
        num_frames = num_whisper_frames(num_rows, fps)
        sounding = min(num_frames, max(1, math.ceil(round(seconds * fps, 6))))
        return SoundStates(
            features=features,
            num_frames=num_frames,
            num_sounding_frames=sounding,
            kind=audio.window,
            window=window,
            fps=fps,
        )
    multiple = sampling.num_frames_per_clip if sampling.plan == "sequential" else None
    options = {}
    if seconds > LONG_SECONDS and hasattr(encoder, "config"):  # wav2vec2; log-mel looks 25 ms wide, however long
        options["max_seconds_per_pass"] = PASS_SECONDS
    features = _in_format(encoder.encode(waveform, fps, multiple, **options), dtype)
    return SoundStates(
        features=features,
        num_frames=len(features.states),
        num_sounding_frames=features.num_valid_steps,
        kind=audio.window,
        window=window,
        fps=fps,
    )


def no_sound_windows(num_rows: int, num_layers: int, width: int, num_frames: int) -> torch.Tensor:
    """What the networks read where nothing is heard: zeros ``(1, frames, rows, layers, width)``, as in training."""
    return torch.zeros(1, num_frames, num_rows, num_layers, width)


class DrivenMotion:
    """Landmarks that walk a driver's motion to its end and back, for as long as the video lasts.

    Args:
        points: of the portrait over time, ``(frames, 478, 2)`` in its pixels.

    Raises:
        InputError: there is no motion.
    """

    def __init__(self, points: np.ndarray) -> None:
        if not len(points):
            raise InputError("The driving motion has no frame. Give a driving video that shows a face.")
        self._points = points

    def landmarks(self, frames: Sequence[int]) -> np.ndarray:
        """Float32 ``(frames, 478, 2)`` in pixels of the portrait."""
        return self._points[[bounce(frame, len(self._points)) for frame in frames]]


def bounce(frame: int, num_driving_frames: int) -> int:
    """The driving frame of a frame, where a motion runs back and forth."""
    if num_driving_frames == 1:
        return 0
    period = 2 * (num_driving_frames - 1)
    step = frame % period
    return step if step < num_driving_frames else period - step


def _in_format(features: AudioFeatures, dtype: torch.dtype) -> AudioFeatures:
    return replace(features, states=features.states.cpu().to(dtype))
