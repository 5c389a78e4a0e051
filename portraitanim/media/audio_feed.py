"""The sound of a video that is being written: drawn as the picture advances, cut or padded to its length."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from portraitanim.errors import InputError
from portraitanim.media.audio import iter_audio, resample, resample_blocks, to_mono
from portraitanim.media.audio_reader import AudioReader
from portraitanim.media.live_sound import LiveSound
from portraitanim.types import AudioTrack

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

logger = logging.getLogger(__name__)

_FALLBACK_RATE_HZ = 48_000
_MAX_CHANNELS = 2
_CHUNK_SECONDS = 0.5
_NOTABLE_PADDING_SECONDS = 0.1


class AudioFeed:
    """Sound in order, as much as is asked for; silence follows when it ends.

    Files are read as they are needed and at their own rate, where the encoder has it. Sound that still arrives is taken
    as far as it was read by others.

    Attributes:
        sample_rate_hz: rate of what `take` gives.
        num_channels: 1 or 2; sound of more channels is mixed to one.
    """

    def __init__(
        self, audio: AudioTrack | LiveSound | str | Path, rates_hz: Collection[int], start_seconds: float = 0.0
    ) -> None:
        """Open the sound, so that a bad file is found before any picture is made.

        Args:
            audio: a track, a file with sound, or sound that still arrives.
            rates_hz: rates that the encoder takes.
            start_seconds: where in the sound to start.

        Raises:
            InputError: a start below 0 or behind the end.
            MediaError: the file has no usable sound.
        """
        self._live = audio if isinstance(audio, LiveSound) else None
        if isinstance(audio, AudioTrack):
            own_rate_hz, own_channels = audio.sample_rate_hz, audio.samples.shape[0]
        elif isinstance(audio, LiveSound):
            own_rate_hz, own_channels = audio.sample_rate_hz, audio.num_channels
        else:
            with AudioReader(audio) as reader:
                own_rate_hz, own_channels = reader.sample_rate_hz, reader.num_channels
        self.sample_rate_hz = own_rate_hz if own_rate_hz in rates_hz else _FALLBACK_RATE_HZ
        self.num_channels = own_channels if own_channels <= _MAX_CHANNELS else 1
        if own_channels > _MAX_CHANNELS:
            logger.warning("The sound has %d channels; they are mixed to one.", own_channels)
        if isinstance(audio, AudioTrack):
            self._chunks = _track_chunks(audio, self.sample_rate_hz, start_seconds)
        elif isinstance(audio, LiveSound):
            audio.is_kept = True
            self._chunks = _live_chunks(audio, self.sample_rate_hz)
        else:
            self._chunks = iter_audio(audio, self.sample_rate_hz, _CHUNK_SECONDS, start_seconds=start_seconds)
        self._buffer = np.zeros((self.num_channels, 0), np.float32)
        self._num_padded = 0
        self._fill(1)

    def has(self, num_samples: int) -> bool:
        """Whether so many samples can be taken now; only sound that still arrives may lack them."""
        self._fill(num_samples)
        return self._live is None or self._live.has_ended or self._buffer.shape[1] >= num_samples

    def take(self, num_samples: int) -> np.ndarray:
        """The next ``(num_channels, num_samples)`` float32 samples in [-1, 1]."""
        self._fill(num_samples)
        missing = num_samples - self._buffer.shape[1]
        if missing > 0:
            self._num_padded += missing
            self._buffer = np.pad(self._buffer, ((0, 0), (0, missing)))
        taken, self._buffer = self._buffer[:, :num_samples], self._buffer[:, num_samples:]
        return np.clip(taken, -1.0, 1.0)

    def close(self) -> None:
        """Let go of the file, and say how much silence was added."""
        if self._num_padded > _NOTABLE_PADDING_SECONDS * self.sample_rate_hz:
            seconds = self._num_padded / self.sample_rate_hz
            logger.warning("The sound is %.2f s shorter than the video; silence follows it.", seconds)
        self._num_padded = 0
        self._chunks.close()

    def _fill(self, num_samples: int) -> None:
        waiting = [self._buffer]
        num_waiting = self._buffer.shape[1]
        while num_waiting < num_samples:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            if not chunk.samples.shape[1] and self._live is not None and not self._live.has_ended:
                break
            samples = (chunk if chunk.samples.shape[0] == self.num_channels else to_mono(chunk)).samples
            waiting.append(samples)
            num_waiting += samples.shape[1]
        self._buffer = np.concatenate(waiting, axis=1)


def _live_chunks(sound: LiveSound, rate_hz: int) -> Generator[AudioTrack]:
    """What was read of a sound; empty tracks where nothing was, until it ends."""

    def blocks() -> Generator[np.ndarray]:
        while True:
            # Asked in this order: what is read last comes before the end.
            ended, block = sound.has_ended, sound.take_read()
            if block is None and ended:
                return
            yield np.zeros((sound.num_channels, 0), np.float32) if block is None else block

    for samples in resample_blocks(blocks(), sound.sample_rate_hz, rate_hz, sound.num_channels):
        yield AudioTrack(samples=np.ascontiguousarray(samples), sample_rate_hz=rate_hz)


def _track_chunks(track: AudioTrack, rate_hz: int, start_seconds: float) -> Generator[AudioTrack]:
    start = round(start_seconds * track.sample_rate_hz)
    if not 0 <= start < track.samples.shape[1]:
        raise InputError(f"The sound lasts {track.duration_seconds:.2f} s; it cannot start at {start_seconds:g} s.")
    yield resample(AudioTrack(samples=track.samples[:, start:], sample_rate_hz=track.sample_rate_hz), rate_hz)
