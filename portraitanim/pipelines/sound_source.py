"""Where the sound of a video comes from: a file that is read on as the video is made, or chunks that arrive."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from portraitanim.audio.frame_windows import WHISPER_RATE_HZ
from portraitanim.audio.log_mel import LogMelAudioEncoder
from portraitanim.audio.streaming import LOOK_AHEAD_SECONDS, LogMelSpans, NearbySpans, SpanEncoder
from portraitanim.audio.waveform import SAMPLE_RATE_HZ, num_frames_covering
from portraitanim.media.audio import iter_audio, to_mono
from portraitanim.pipelines.sound_stream import FrameRows, SoundStream

if TYPE_CHECKING:
    from portraitanim.audio.encoders import AudioEncoder
    from portraitanim.config.animation import AnimationOptions
    from portraitanim.config.schema import Preset


def file_chunks(
    path: Path, sample_rate_hz: int, start_seconds: float, duration_seconds: float | None
) -> Generator[np.ndarray]:
    """Mono sound of a file, ``(samples,)`` at a time."""
    chunks = iter_audio(path, sample_rate_hz, start_seconds=start_seconds, duration_seconds=duration_seconds)
    for chunk in chunks:
        yield to_mono(chunk).samples[0]


def count_samples(chunks: Iterable[np.ndarray]) -> int:
    """Length of a sound."""
    return sum(len(chunk) for chunk in chunks)


def count_frames(path: Path, options: AnimationOptions, fps: float) -> int:
    """Frames of a video that lasts as long as a sound."""
    excerpt = file_chunks(path, SAMPLE_RATE_HZ, options.start_seconds, options.duration_seconds)
    return num_frames_covering(count_samples(excerpt), fps)


def stream_sound(
    chunks: Iterator[np.ndarray],
    encoder: AudioEncoder,
    preset: Preset,
    dtype: torch.dtype,
    look_ahead_seconds: float | None = None,
) -> SoundStream:
    """Encode a sound as far as the video needs it.

    Args:
        chunks: mono, at the rate that the encoder reads.
        encoder: the encoder that the weights were trained with.
        preset: the system, with the resolved sampling.
        dtype: number format in which states are kept.
        look_ahead_seconds: how much sound behind a frame the transformers hear and wait for; by default half a second.
    """
    fps, is_whisper = preset.sampling.fps, preset.audio.window == "whisper"
    spans: SpanEncoder
    if isinstance(encoder, LogMelAudioEncoder):
        spans = LogMelSpans(encoder, fps)
    else:
        ahead = LOOK_AHEAD_SECONDS if look_ahead_seconds is None else look_ahead_seconds
        spans = NearbySpans(encoder, WHISPER_RATE_HZ if is_whisper else fps, fps, ahead)
    return SoundStream(
        # Copies: torch computes alike only where tensors lie alike, and it warns of arrays that are read-only.
        chunks=(torch.tensor(chunk) for chunk in chunks),
        spans=spans,
        rows=FrameRows(
            kind=preset.audio.window,
            fps=fps,
            window=preset.audio_window_rows,
            multiple=preset.sampling.num_frames_per_clip if preset.sampling.plan == "sequential" else None,
        ),
        dtype=dtype,
    )
