"""States of a sound that is still arriving: which samples each needs, and how some are computed without the rest.

The log-mel encoder looks 25 ms wide: its states are those of the whole sound. The two transformers are not made so.
wav2vec 2.0 levels the whole utterance, has a norm over all of it behind its first convolution, and all steps attend to
one another. Whisper reads segments of 30 s at once and measures loudness against the loudest moment of the file. For
them, a bounded stretch of sound around the wanted states is encoded as if it were all: the states differ from those of
the whole file, the more the less lies around them.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch

from portraitanim.audio.log_mel import LogMelAudioEncoder, mel_span
from portraitanim.audio.waveform import SAMPLE_RATE_HZ
from portraitanim.errors import InputError

LOOK_AHEAD_SECONDS = 0.5
"""Sound behind the wanted states that the transformers hear: a syllable or two."""

LOOK_BACK_SECONDS = 8.0
"""Sound before the wanted states that they hear; it costs time, no delay."""


class SpanEncoder(Protocol):
    """Gives some states of a sound from a stretch of it."""

    def span(self, rows: range) -> tuple[int, int]:
        """First sample that these states read, and the one behind the last."""
        ...

    def encode(self, samples: torch.Tensor, first_sample: int, rows: range, num_rows: int | None) -> torch.Tensor:
        """States ``(rows, layers, width)``.

        Args:
            samples: float32 ``(samples,)`` at 16 kHz, from ``first_sample`` to the end of `span`, or of the sound.
            first_sample: at most the first of `span`.
            rows: which states.
            num_rows: states of the whole sound, where its end is known; those behind it hear silence.
        """
        ...


class LogMelSpans:
    """`SpanEncoder` of `LogMelAudioEncoder`: the states of the whole sound."""

    def __init__(self, encoder: LogMelAudioEncoder, fps: float) -> None:
        self._encoder, self._fps = encoder, fps

    def span(self, rows: range) -> tuple[int, int]:
        """See `SpanEncoder`."""
        return mel_span(rows, self._fps)

    def encode(self, samples: torch.Tensor, first_sample: int, rows: range, num_rows: int | None) -> torch.Tensor:
        """See `SpanEncoder`."""
        return self._encoder.encode_rows(samples, first_sample, rows, self._fps, num_rows)


class NearbySpans:
    """`SpanEncoder` of wav2vec 2.0 and Whisper: what they make of the sound nearby alone.

    Args:
        encoder: of `portraitanim.audio.encoders`.
        rate_hz: its states per second: the video rate for wav2vec 2.0, 50 for Whisper.
        fps: video frames per second.
        look_ahead_seconds: sound behind the states that is heard, and waited for.
        look_back_seconds: sound before them.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(
        self,
        encoder: Any,
        rate_hz: float,
        fps: float,
        look_ahead_seconds: float = LOOK_AHEAD_SECONDS,
        look_back_seconds: float = LOOK_BACK_SECONDS,
    ) -> None:
        for name, value in (("look_ahead_seconds", look_ahead_seconds), ("look_back_seconds", look_back_seconds)):
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must be a number from 0 on, got {value}.")
        self._encoder, self._rate_hz, self._fps = encoder, rate_hz, fps
        self._ahead = round(look_ahead_seconds * SAMPLE_RATE_HZ)
        self._back_rows = math.ceil(look_back_seconds * rate_hz)

    def span(self, rows: range) -> tuple[int, int]:
        """See `SpanEncoder`."""
        return self._sample(max(0, rows.start - self._back_rows)), self._sample(rows.stop) + self._ahead

    def encode(self, samples: torch.Tensor, first_sample: int, rows: range, num_rows: int | None) -> torch.Tensor:
        """See `SpanEncoder`."""
        first_row = max(0, rows.start - self._back_rows)
        start, stop = self.span(rows)
        heard = samples[start - first_sample : stop - first_sample]
        wanted = rows.stop - first_row
        # Silence fills the last clip, as for whole files; Whisper's windows never reach behind the sound.
        is_short = self._rate_hz == self._fps and len(heard) < self._sample(wanted)
        states = self._encoder.encode(heard, self._fps, wanted if is_short else None).states
        return states[rows.start - first_row : wanted]

    def _sample(self, row: int) -> int:
        return round(row * SAMPLE_RATE_HZ / self._rate_hz)
