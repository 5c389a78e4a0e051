"""Sound that arrives while a video of it is being made."""

from __future__ import annotations

import wave
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO, cast

import numpy as np

from portraitanim.errors import InputError, MediaError
from portraitanim.media.audio import resample_blocks, to_mono
from portraitanim.media.audio_reader import MAX_LEVEL
from portraitanim.types import AudioTrack

_BLOCK_SECONDS = 0.04
_FULL_SCALE = {1: 128.0, 2: 32768.0, 4: 2147483648.0}


class LiveSound:
    """Chunks of sound, read no further than the video needs them.

    Whoever encodes the sound reads it by `mono`; what was read waits for the video file, which takes it by `take_read`,
    maybe in another thread, and never reads by itself.

    Args:
        chunks: arrays or tensors of any length, ``(samples,)`` or ``(channels, samples)``: floating point in [-1, 1],
            or 16-bit or 32-bit integers.
        sample_rate_hz: of the chunks.

    Example:
        >>> sound = LiveSound(microphone_blocks(), 48_000)  # doctest: +SKIP
    """

    def __init__(self, chunks: Iterable[Any], sample_rate_hz: int) -> None:
        if sample_rate_hz < 1_000:
            raise InputError(f"The rate of a sound must be at least 1000 Hz, got {sample_rate_hz}.")
        self.sample_rate_hz = sample_rate_hz
        self.is_kept = False
        self._blocks = _checked(iter(chunks))
        self._first: np.ndarray | None = None
        self._read: deque[np.ndarray] = deque()
        self.has_ended = False

    @classmethod
    def of(cls, sound: LiveSound | Iterable[Any] | BinaryIO, sample_rate_hz: int | None = None) -> LiveSound:
        """From what a caller has: chunks, which need a rate, or a stream of bytes with a WAV file.

        Raises:
            InputError: chunks without a rate.
            MediaError: the stream is no WAV file.
        """
        if isinstance(sound, LiveSound):
            return sound
        if hasattr(sound, "read"):
            return cls.from_wav(cast("BinaryIO", sound))
        if sample_rate_hz is None:
            raise InputError("Chunks of sound do not say how fast they are: give sample_rate_hz.")
        return cls(sound, sample_rate_hz)

    @classmethod
    def from_wav(cls, stream: BinaryIO) -> LiveSound:
        """From a WAV file with integer samples that is still being written, such as a pipe.

        Raises:
            MediaError: not such a file.
        """
        try:
            reader = wave.open(stream)  # noqa: SIM115 - the stream is the caller's, and stays open
        except (wave.Error, EOFError) as error:
            why = str(error) or "it is empty"
            raise MediaError(
                f"This sound is not a WAV stream of integer samples ({why}). Make it one: ffmpeg -i SOUND -f wav -"
            ) from error
        size = max(1, round(reader.getframerate() * _BLOCK_SECONDS))
        data = iter(lambda: reader.readframes(size), b"")
        samples = (_from_bytes(block, reader.getsampwidth(), reader.getnchannels()) for block in data)
        return cls(samples, reader.getframerate())

    @classmethod
    def from_pcm(cls, stream: BinaryIO, sample_rate_hz: int, num_channels: int = 1) -> LiveSound:
        """From raw 16-bit little-endian samples, channels beside one another."""
        size = max(1, round(sample_rate_hz * _BLOCK_SECONDS)) * 2 * num_channels
        data = iter(lambda: stream.read(size), b"")
        return cls((_from_bytes(block, 2, num_channels) for block in data), sample_rate_hz)

    @property
    def num_channels(self) -> int:
        """Channels of the sound; waits for its first chunk.

        Raises:
            MediaError: there is none.
        """
        if self._first is None:
            self._first = next(self._blocks, None)
            if self._first is None:
                raise MediaError("The sound ended before its first sample. Expected chunks of sound.")
            self._blocks = chain([self._first], self._blocks)
        return self._first.shape[0]

    def mono(self, sample_rate_hz: int, duration_seconds: float | None = None) -> Generator[np.ndarray]:
        """Read on: float32 ``(samples,)`` at another rate. The resampler holds back about 20 ms.

        Raises:
            MediaError: a chunk that is no sound, or another number of channels than the first.
        """
        tracks = (AudioTrack(samples=block, sample_rate_hz=self.sample_rate_hz) for block in self._on())
        blocks: Iterator[np.ndarray] = (to_mono(track).samples for track in tracks)
        if duration_seconds is not None:
            blocks = _limited(blocks, round(duration_seconds * self.sample_rate_hz))
        for block in resample_blocks(blocks, self.sample_rate_hz, sample_rate_hz, 1):
            yield block[0]
        self.has_ended = True

    def take_read(self) -> np.ndarray | None:
        """The next block ``(channels, samples)`` that `mono` has read, or ``None`` where there is none yet."""
        return self._read.popleft() if self._read else None

    def _on(self) -> Iterator[np.ndarray]:
        num_channels = self.num_channels
        for block in self._blocks:
            if block.shape[0] != num_channels:
                raise MediaError(f"A chunk of sound has {block.shape[0]} channels, the first had {num_channels}.")
            if self.is_kept:
                self._read.append(block)
            yield block


def _limited(blocks: Iterable[np.ndarray], num_samples: int) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block[:, :num_samples]
        num_samples -= block.shape[1]
        if num_samples <= 0:
            return


def _checked(chunks: Iterator[Any]) -> Iterator[np.ndarray]:
    """Chunks as float32 ``(channels, samples)``."""
    for number, chunk in enumerate(chunks):
        samples = np.asarray(chunk)
        samples = samples[None] if samples.ndim == 1 else samples
        if samples.ndim != 2 or samples.dtype.kind not in "fi" or samples.dtype == np.int8:
            raise MediaError(
                f"Chunk {number} of the sound is {samples.dtype} {samples.shape}. Expected (samples,) or (channels, "
                "samples) of floating point in [-1, 1] or of 16-bit or 32-bit integers."
            )
        if samples.dtype.kind == "i":
            samples = samples / (float(np.iinfo(samples.dtype).max) + 1.0)
        block = np.array(samples, np.float32, order="C")
        if not np.abs(block).max(initial=0.0) <= MAX_LEVEL:  # false for NaN as well
            raise MediaError(f"Chunk {number} of the sound is far above full scale or not numbers. Expected [-1, 1].")
        yield block


def _from_bytes(data: bytes, width: int, num_channels: int) -> np.ndarray:
    """Little-endian integer samples of 1 (unsigned), 2, 3 or 4 bytes as float32 ``(channels, samples)``."""
    data = data[: len(data) // (width * num_channels) * width * num_channels]
    if width == 1:
        values = np.frombuffer(data, np.uint8).astype(np.float32) - 128.0
    elif width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values, width = wide.view("<i4")[:, 0].astype(np.float64), 4
    else:
        values = np.frombuffer(data, f"<i{width}").astype(np.float64)
    return np.asarray(values / _FULL_SCALE[width], np.float32).reshape(-1, num_channels).T
