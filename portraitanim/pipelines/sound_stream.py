"""The sound of a video, encoded as it arrives: nothing is read before a frame needs it, nothing is kept behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from portraitanim.audio.frame_windows import ROWS_AFTER, ROWS_BEFORE, WHISPER_RATE_HZ, num_whisper_frames
from portraitanim.audio.streaming import SpanEncoder
from portraitanim.audio.waveform import SAMPLE_RATE_HZ, check_waveform, num_frames_covering, padded_count
from portraitanim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FrameRows:
    """Which states a frame reads, and how many frames a sound makes.

    Attributes:
        kind: ``audio.window`` of the preset: ``centred`` or ``whisper``.
        fps: frames per second.
        window: states per frame of centred windows.
        multiple: silence fills the video up to a multiple of so many frames, or ``None``.
    """

    kind: str
    fps: float
    window: int
    multiple: int | None

    def of(self, frame: int) -> range:
        """States that a frame reads, those before the beginning and behind the end included."""
        if self.kind == "whisper":
            own = int(frame * WHISPER_RATE_HZ / self.fps)
            return range(own - ROWS_BEFORE, own + ROWS_AFTER + 1)
        return range(frame - self.window // 2, frame + self.window // 2 + 1)

    def num_rows(self, num_samples: int) -> int:
        """States of a whole sound."""
        if self.kind == "whisper":
            return num_samples * WHISPER_RATE_HZ // SAMPLE_RATE_HZ
        return padded_count(num_frames_covering(num_samples, self.fps), self.multiple)

    def num_frames(self, num_samples: int) -> int:
        """Frames that the networks make for a whole sound."""
        rows = self.num_rows(num_samples)
        return num_whisper_frames(rows, self.fps) if self.kind == "whisper" and rows else rows

    def num_sounding(self, num_samples: int) -> int:
        """Those of them that belong to the sound."""
        seconds = num_samples / SAMPLE_RATE_HZ
        return min(self.num_frames(num_samples), max(1, math.ceil(round(seconds * self.fps, 6))))


@dataclass(kw_only=True)
class SoundStream:
    """States of a sound that is read chunk by chunk, as far as the frames need it.

    Attributes:
        chunks: mono float32 ``(samples,)`` at 16 kHz, read no further than asked for.
        spans: computes states.
        rows: which states a frame reads.
        dtype: number format in which states are kept.
        num_samples: samples that were read so far.
        has_ended: whether that is all.
    """

    chunks: Iterator[torch.Tensor]
    spans: SpanEncoder
    rows: FrameRows
    dtype: torch.dtype
    num_samples: int = 0
    has_ended: bool = False
    _waiting: list[torch.Tensor] = field(default_factory=list)
    _first_sample: int = 0
    _states: torch.Tensor | None = None
    _first_row: int = 0
    _next_row: int = 0

    @property
    def num_frames(self) -> int:
        """Frames that the networks make; reads the sound to its end."""
        self._read_while(lambda: True)
        return self.rows.num_frames(self.num_samples)

    def frames_until(self, stop: int) -> int:
        """See `portraitanim.types.Conditioning`.

        Raises:
            InputError: the sound is empty or damaged.
        """
        self._read_while(lambda: self.num_samples < self.spans.span(range(self._next_row, self._rows_for(stop)))[1])
        self._encode(self._rows_for(stop))
        return min(stop, self.rows.num_frames(self.num_samples)) if self.has_ended else stop

    def goes_on(self, frame: int) -> bool:
        """See `portraitanim.types.Conditioning`."""
        self._read_while(lambda: self.rows.num_frames(self.num_samples) <= frame)
        return frame < self.rows.num_frames(self.num_samples)

    def sounding_until(self, stop: int) -> int:
        """How many frames before ``stop``, which were made already, belong to the sound."""
        return min(stop, self.rows.num_sounding(self.num_samples)) if self.has_ended else stop

    def release(self, first_frame: int) -> None:
        """See `portraitanim.types.Conditioning`."""
        first_row = min(self.rows.of(first_frame).start, self._next_row)
        if self._states is not None and first_row > self._first_row:
            # A copy: a view would keep all of it.
            self._states, self._first_row = self._states[first_row - self._first_row :].clone(), first_row

    def windows(self, frames: Sequence[int]) -> torch.Tensor:
        """``(1, frames, rows, layers, width)``; frames behind the end see the end.

        Raises:
            InputError: a frame that was released is asked for.
        """
        known = self.frames_until(max(frames) + 1)
        last_row = self._next_row - 1
        wanted = torch.tensor([list(self.rows.of(min(frame, known - 1))) for frame in frames]).clamp(0, last_row)
        if self._states is None or int(wanted.min()) < self._first_row:
            raise InputError(f"The sound of frame {min(frames)} was released. Ask for frames in their order.")
        return self._states[wanted - self._first_row][None]

    def _rows_for(self, stop: int) -> int:
        """How many states the frames before ``stop`` read."""
        if self.has_ended:
            stop = min(stop, self.rows.num_frames(self.num_samples))
            return min(self.rows.num_rows(self.num_samples), self.rows.of(stop - 1).stop)
        return self.rows.of(stop - 1).stop

    def _read_while(self, is_missing: Callable[[], bool]) -> None:
        while not self.has_ended and is_missing():
            chunk = next(self.chunks, None)
            if chunk is None:
                self.has_ended = True
                if not self.rows.num_rows(self.num_samples):
                    raise InputError(f"The sound has {self.num_samples} samples: nothing can be made of it.")
            elif len(chunk):
                check_waveform(chunk)
                self._waiting.append(chunk)
                self.num_samples += len(chunk)

    def _encode(self, num_rows: int) -> None:
        """Compute the states before ``num_rows`` that are not there yet, and drop what no later one needs."""
        if num_rows <= self._next_row:
            return
        samples = torch.cat(self._waiting) if self._waiting else torch.zeros(0)
        wanted = range(self._next_row, num_rows)
        total = self.rows.num_rows(self.num_samples) if self.has_ended else None
        made = self.spans.encode(samples, self._first_sample, wanted, total).cpu().to(self.dtype)
        self._states = made if self._states is None else torch.cat([self._states, made])
        self._next_row = num_rows
        first = min(self.spans.span(range(num_rows, num_rows + 1))[0], self.num_samples)
        self._waiting = [samples[first - self._first_sample :].clone()]
        self._first_sample = first
