"""Read sound of any format in blocks at its own rate, in flat memory."""

from __future__ import annotations

import itertools
import logging
from contextlib import ExitStack
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from portraitanim.errors import MediaError
from portraitanim.media.containers import (
    audio_stream,
    decode,
    open_container,
    promised_seconds,
    video_stream,
    zero_seconds,
)
from portraitanim.media.files import existing_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

logger = logging.getLogger(__name__)

_RATE_LIMITS_HZ = (1_000, 768_000)
_MAX_CHANNELS = 64
MAX_LEVEL = 8.0  # 18 dB over full scale: decoders and mixers overshoot a little, integers stored as floats a lot
_GAP_SECONDS = 0.04  # one frame at 25 fps; smaller steps in time stamps are rounding of the container
_LONGEST_GAP_SECONDS = 600
_CODEC_PADDING_SAMPLES = 4096  # an encoder's last block is at most this long


class AudioReader:
    """An open sound file, or the sound track of a video.

    soundfile reads first, PyAV what soundfile cannot (m4a, video, odd headers). The sound of a video starts where its
    picture starts: silence is put in front of a late track and into gaps of the time stamps.

    Attributes:
        sample_rate_hz: the file's own rate.
        num_channels: the file's own channels.
    """

    sample_rate_hz: int
    num_channels: int

    def __init__(self, path: str | Path) -> None:
        self._path = existing_file(path, "sound")
        self._stack = ExitStack()
        try:
            if not self._open_with_soundfile():
                self._open_with_av()
            self._check_format()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks of float32 ``(num_channels, samples)``, about a second or less each; call once.

        Raises:
            MediaError: the file is damaged, or has samples that are not numbers or far above full scale.
        """
        num_samples = 0
        for block in self._blocks:
            self._check_samples(block, num_samples)
            num_samples += block.shape[1]
            yield block
        if num_samples == 0:
            raise MediaError(f"{self._path} holds no sound (0 samples). Expected a recording.")

    def _open_with_soundfile(self) -> bool:
        try:
            file = self._stack.enter_context(soundfile.SoundFile(self._path))
        except (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError):
            return False  # PyAV has the last word, and the better message
        if "(should be" in file.extra_info:  # libsndfile notes here that the header and the file disagree
            logger.warning("%s is not as long as its header says; it may be cut short.", self._path)
        self.sample_rate_hz, self.num_channels = file.samplerate, file.channels
        self._blocks = self._soundfile_blocks(file)
        return True

    def _soundfile_blocks(self, file: Any) -> Iterator[np.ndarray]:
        size = min(max(self.sample_rate_hz, 1), 48_000)
        while True:
            try:
                block = file.read(size, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, OSError, RuntimeError, ValueError, MemoryError) as error:
                raise MediaError(
                    f"{self._path} is damaged ({error}). Expected whole sound: export or download it again."
                ) from error
            if not len(block):
                return
            yield np.ascontiguousarray(block.T)

    def _open_with_av(self) -> None:
        container = self._stack.enter_context(open_container(self._path, "sound"))
        stream = audio_stream(container)
        if stream is None:
            what = "a file without sound" if video_stream(container) is None else "a video without sound"
            if container.streams.audio:
                what = "a file whose sound is in an unknown codec"
            raise MediaError(f"{self._path} is {what}. Expected a sound track: give another file.")
        frames = decode(container, stream, self._path, promised_seconds(container, stream))
        first = next(frames)  # the header may state another rate than the decoder gives (HE-AAC)
        self.sample_rate_hz, self.num_channels = first.sample_rate, first.layout.nb_channels
        zero = zero_seconds(container) if video_stream(container) is not None else None
        self._blocks = self._av_blocks(first, frames, zero, _exact_end(container, stream, self.sample_rate_hz))

    def _av_blocks(
        self, first: Any, frames: Iterator[Any], zero: Fraction | None, end: int | None
    ) -> Iterator[np.ndarray]:
        position = 0
        for index, frame in enumerate(itertools.chain([first], frames)):
            if (frame.sample_rate, frame.layout.nb_channels) != (self.sample_rate_hz, self.num_channels):
                raise MediaError(
                    f"{self._path} changes its sound format after {position / self.sample_rate_hz:.1f} s. "
                    "Expected one rate and one number of channels: convert it to WAV first."
                )
            block = _float_samples(frame)
            if frame.pts is not None and frame.time_base:
                start = frame.pts * Fraction(frame.time_base)
                zero = start if zero is None else zero
                gap = round((start - zero) * self.sample_rate_hz) - position
                if index == 0 and gap < 0:
                    block = block[:, -gap:]
                elif gap > 0 and (index == 0 or gap > _GAP_SECONDS * self.sample_rate_hz):
                    yield from self._silence(gap, position)
                    position += gap
            if end is not None and 0 < position + block.shape[1] - end <= _CODEC_PADDING_SAMPLES:
                block = block[:, : max(0, end - position)]
            position += block.shape[1]
            yield block

    def _silence(self, num_samples: int, position: int) -> Iterator[np.ndarray]:
        at, seconds = position / self.sample_rate_hz, num_samples / self.sample_rate_hz
        if seconds > _LONGEST_GAP_SECONDS:
            raise MediaError(
                f"{self._path} has a gap of {seconds:.0f} s in its sound at {at:.1f} s. Expected whole "
                f"sound with gaps below {_LONGEST_GAP_SECONDS} s: export it again."
            )
        logger.info("%s: %.3f s of silence fill a gap in the sound at %.3f s.", self._path, seconds, at)
        for start in range(0, num_samples, self.sample_rate_hz):
            length = min(self.sample_rate_hz, num_samples - start)
            yield np.zeros((self.num_channels, length), np.float32)

    def _check_format(self) -> None:
        low, high = _RATE_LIMITS_HZ
        if not low <= self.sample_rate_hz <= high or not 1 <= self.num_channels <= _MAX_CHANNELS:
            raise MediaError(
                f"{self._path} claims {self.num_channels} channels at {self.sample_rate_hz} Hz. "
                f"Expected 1 to {_MAX_CHANNELS} channels at {low} to {high} Hz: export it again."
            )

    def _check_samples(self, block: np.ndarray, position: int) -> None:
        peak = float(np.abs(block).max(initial=0.0))
        if peak <= MAX_LEVEL:  # false for NaN as well
            return
        at = position / self.sample_rate_hz
        got = f"a level of {peak:g} times full scale" if np.isfinite(peak) else "samples that are not numbers"
        raise MediaError(f"{self._path} has {got} near {at:.1f} s. Expected samples in -1..1: export it as 16-bit WAV.")


def _exact_end(container: Any, stream: Any, rate_hz: int) -> int | None:
    """Samples of an MP4 track, whose length is exact; the decoder gives the encoder's padding too."""
    if "mp4" in container.format.name and stream.duration and stream.time_base:
        return round(stream.duration * stream.time_base * rate_hz)
    return None


def _float_samples(frame: Any) -> np.ndarray:
    """Samples of one decoded frame as float32 ``(channels, samples)``."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return np.ascontiguousarray((samples.astype(np.float32) - 128.0) / 128.0)
    if np.issubdtype(samples.dtype, np.integer):
        full_scale = float(np.iinfo(samples.dtype).max) + 1.0
        return np.ascontiguousarray(samples.astype(np.float64) / full_scale, dtype=np.float32)
    return np.ascontiguousarray(samples, dtype=np.float32)
