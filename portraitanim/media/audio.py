"""Sound as an `AudioTrack`: load, stream, mix to mono, resample, save."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from portraitanim.errors import InputError, MediaError
from portraitanim.media.audio_reader import AudioReader
from portraitanim.media.files import whole_file
from portraitanim.types import AudioTrack

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

logger = logging.getLogger(__name__)

_QUALITY = "HQ"  # soxr's 20-bit quality: its errors lie far below those of speech encoders
_SAVED_SUFFIXES = (".wav", ".flac")


def load_audio(
    path: str | Path,
    sample_rate_hz: int | None = None,
    *,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
) -> AudioTrack:
    """Read a whole sound file, or the sound track of a video.

    Args:
        path: wav, flac, ogg, mp3, m4a, or any video with sound.
        sample_rate_hz: resample to this rate; ``None`` keeps the file's own.
        start_seconds: where to start.
        duration_seconds: how much to read; ``None`` reads to the end.

    Returns:
        All channels. Lossy files may overshoot [-1, 1] a little, as their decoders do.

    Raises:
        InputError: a rate, start or duration that makes no sense.
        MediaError: absent, damaged, without sound, empty, or with samples that are not numbers.
    """
    chunks = list(iter_audio(path, sample_rate_hz, start_seconds=start_seconds, duration_seconds=duration_seconds))
    return AudioTrack(
        samples=np.concatenate([chunk.samples for chunk in chunks], axis=1),
        sample_rate_hz=chunks[0].sample_rate_hz,
    )


def iter_audio(
    path: str | Path,
    sample_rate_hz: int | None = None,
    chunk_seconds: float = 1.0,
    *,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
) -> Generator[AudioTrack]:
    """Read sound chunk by chunk in flat memory; joined, the chunks equal what `load_audio` returns.

    Args:
        path: wav, flac, ogg, mp3, m4a, or any video with sound.
        sample_rate_hz: resample to this rate; ``None`` keeps the file's own.
        chunk_seconds: length of every chunk but the last.
        start_seconds: where to start.
        duration_seconds: how much to read; ``None`` reads to the end.

    Yields:
        Chunks with all channels.

    Raises:
        InputError: a rate, start or duration that makes no sense.
        MediaError: as `load_audio`; at the first chunk where the file cannot be opened.
    """
    if chunk_seconds <= 0 or start_seconds < 0 or (duration_seconds is not None and duration_seconds <= 0):
        raise InputError(
            f"Expected chunk and duration above 0 s and start from 0 s, got chunk {chunk_seconds}, "
            f"start {start_seconds}, duration {duration_seconds}."
        )
    with AudioReader(path) as reader:
        rate_hz = sample_rate_hz or reader.sample_rate_hz
        blocks = _excerpt(reader, Path(path), start_seconds, duration_seconds)
        blocks = resample_blocks(blocks, reader.sample_rate_hz, rate_hz, reader.num_channels)
        for samples in _regrouped(blocks, max(1, round(chunk_seconds * rate_hz))):
            yield AudioTrack(samples=samples, sample_rate_hz=rate_hz)


def to_mono(track: AudioTrack) -> AudioTrack:
    """Mix all channels to one by their mean, and warn when they cancel each other."""
    if track.samples.shape[0] == 1:
        return track
    mixed = track.samples.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
    before, after = float(np.square(track.samples).mean()), float(np.square(mixed).mean())
    if before > 1e-6 and after < before * 0.01:  # louder than -60 dBFS, and 20 dB lost
        logger.warning("The channels of this sound cancel each other when mixed to mono; use one of them.")
    return AudioTrack(samples=mixed, sample_rate_hz=track.sample_rate_hz)


def resample(track: AudioTrack, sample_rate_hz: int) -> AudioTrack:
    """Change the sample rate with soxr; the first sample keeps its time.

    Raises:
        InputError: a rate below 1.
    """
    if sample_rate_hz == track.sample_rate_hz:
        return track
    blocks = resample_blocks(iter([track.samples]), track.sample_rate_hz, sample_rate_hz, track.samples.shape[0])
    return AudioTrack(samples=np.concatenate(list(blocks), axis=1), sample_rate_hz=sample_rate_hz)


def resample_blocks(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int, num_channels: int) -> Iterator[np.ndarray]:
    """Resample a stream of ``(channels, samples)`` blocks; where they are cut does not change the result.

    Raises:
        InputError: a rate below 1.
    """
    if to_hz < 1:
        raise InputError(f"A sample rate must be at least 1 Hz, got {to_hz}.")
    if from_hz == to_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_hz, to_hz, num_channels, dtype="float32", quality=_QUALITY)
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block.T), last=False).reshape(-1, num_channels).T
    rest = stream.resample_chunk(np.zeros((0, num_channels), np.float32), last=True)
    yield rest.reshape(-1, num_channels).T


def save_audio(track: AudioTrack, path: str | Path) -> None:
    """Write 16-bit WAV or FLAC; the file appears only when it is whole.

    Raises:
        MediaError: another suffix, or the system refuses to write.
    """
    if Path(path).suffix.lower() not in _SAVED_SUFFIXES:
        raise MediaError(f"Cannot write sound to {path}. Use a name that ends in {' or '.join(_SAVED_SUFFIXES)}.")
    with whole_file(path) as partial:
        try:
            soundfile.write(partial, track.samples.T, track.sample_rate_hz, subtype="PCM_16")
        except soundfile.SoundFileError as error:
            raise MediaError(f"Cannot write {path}: {error}. Free some space or choose another name.") from error


def _excerpt(
    reader: AudioReader, path: Path, start_seconds: float, duration_seconds: float | None
) -> Iterator[np.ndarray]:
    rate_hz = reader.sample_rate_hz
    start = round(start_seconds * rate_hz)
    stop = None if duration_seconds is None else start + round(duration_seconds * rate_hz)
    position = 0
    for block in reader.blocks():
        first, position = position, position + block.shape[1]
        wanted = block[:, max(0, start - first) : None if stop is None else max(0, stop - first)]
        if wanted.shape[1]:
            yield wanted
        if stop is not None and position >= stop:
            return
    if position <= start:
        raise MediaError(
            f"{path} lasts {position / rate_hz:.2f} s; nothing is left at {start_seconds:g} s. Use an earlier --start."
        )
    if stop is not None:
        logger.warning("%s ends at %.2f s, before the %.2f s asked for.", path, position / rate_hz, stop / rate_hz)


def _regrouped(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Cut a stream of blocks into pieces of ``size`` samples; the last may be shorter."""
    waiting: list[np.ndarray] = []
    num_waiting = 0
    num_pieces = 0
    for block in blocks:
        waiting.append(block)
        num_waiting += block.shape[1]
        if num_waiting < size:
            continue
        joined = np.concatenate(waiting, axis=1)
        num_whole = num_waiting // size
        for piece in np.split(joined[:, : num_whole * size], num_whole, axis=1):
            yield np.ascontiguousarray(piece)
        num_pieces += num_whole
        waiting = [joined[:, num_whole * size :]]
        num_waiting -= num_whole * size
    if num_waiting or not num_pieces:
        yield np.ascontiguousarray(np.concatenate(waiting, axis=1))
