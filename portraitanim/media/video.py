"""Video in: what a file holds, and its frames one by one, upright, in RGB, at the rate that is asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from portraitanim.errors import InputError, MediaError
from portraitanim.media.containers import (
    MAX_FRAME_PIXELS,
    audio_stream,
    av_reason,
    decode,
    open_container,
    promised_seconds,
    video_stream,
    zero_seconds,
)
from portraitanim.media.frame_rate import exact_fps
from portraitanim.media.frame_timing import constant_rate, mean_rate, own_frames, shown_spans
from portraitanim.media.pixels import PixelConverter, display_matrix, display_size, upright
from portraitanim.types import VideoFrames

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video file holds.

    Attributes:
        width: of the upright picture with square pixels, in pixels.
        height: likewise.
        fps: mean frame rate; single frames may lie elsewhere when the rate varies.
        duration_seconds: as the file states it, or ``None``.
        num_frames: as the file states it, or ``None``.
        codec: name of the video codec.
        has_audio: whether there is a sound track.
        audio_sample_rate_hz: rate of the sound track, or ``None``.
        audio_channels: channels of the sound track, or ``None``.
        metadata: title, comment and the like, keys in lower case.
    """

    width: int
    height: int
    fps: Fraction
    duration_seconds: float | None
    num_frames: int | None
    codec: str
    has_audio: bool
    audio_sample_rate_hz: int | None
    audio_channels: int | None
    metadata: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class TimedFrame:
    """One picture and when it is shown.

    Attributes:
        image: uint8 ``(3, height, width)`` RGB.
        seconds: time since the start of the video, or since ``start_seconds`` where one was given.
    """

    image: np.ndarray
    seconds: float


def probe_video(path: str | Path) -> VideoInfo:
    """Read what a video holds; the first frame is decoded, so a damaged file is found here.

    Raises:
        MediaError: absent, damaged, without picture or too large.
    """
    with open_container(path, "video") as container:
        stream = _checked_stream(container, Path(path))
        first = next(decode(container, stream, Path(path)))
        width, height = _checked_size(first, stream, Path(path))
        matrix = display_matrix(first)
        if matrix is not None and matrix[0] == 0:
            width, height = height, width
        audio = audio_stream(container)
        return VideoInfo(
            width=width,
            height=height,
            fps=mean_rate(stream),
            duration_seconds=promised_seconds(container, stream),
            num_frames=stream.frames or None,
            codec=stream.codec_context.name,
            has_audio=audio is not None,
            audio_sample_rate_hz=audio.sample_rate if audio is not None else None,
            audio_channels=audio.channels if audio is not None else None,
            metadata={key.lower(): value for key, value in container.metadata.items()},
        )


def iter_video(
    path: str | Path,
    fps: float | Fraction | None = None,
    *,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
) -> Iterator[TimedFrame]:
    """Decode a video frame by frame in flat memory.

    Args:
        path: any video file.
        fps: constant rate to resample to: each moment ``k / fps`` shows the source frame nearest in time, so that
            variable frame rates keep their timing. ``None`` gives the source's own frames.
        start_seconds: where to start.
        duration_seconds: how much to read; ``None`` reads to the end.

    Yields:
        Upright frames; every one is an array of its own.

    Raises:
        InputError: a rate, start or duration that makes no sense.
        MediaError: absent, damaged, without picture or too large; at the first frame where it cannot be opened.
    """
    if start_seconds < 0 or (duration_seconds is not None and duration_seconds <= 0):
        raise InputError(f"Expected start from 0 s and duration above 0 s, got {start_seconds}, {duration_seconds}.")
    rate = None if fps is None else exact_fps(fps)
    start = Fraction(start_seconds).limit_denominator(1_000_000)
    stop = None if duration_seconds is None else start + Fraction(duration_seconds).limit_denominator(1_000_000)
    path = Path(path)
    with open_container(path, "video") as container:
        stream = _checked_stream(container, path)
        zero = zero_seconds(container)
        if start > 0:
            _seek(container, stream, zero + start)
        shown = shown_spans(decode(container, stream, path, promised_seconds(container, stream)), zero, stream, path)
        picked = own_frames(shown, start, stop) if rate is None else constant_rate(shown, rate, start, stop)
        painter = _Painter(path, stream)
        seconds: Fraction | None = None
        for frame, seconds in picked:
            yield TimedFrame(image=painter.paint(frame), seconds=float(seconds))
        if seconds is None:
            raise MediaError(f"{path} has no frame from {start_seconds:g} s on. Use an earlier --start.")
        if duration_seconds is not None and seconds + 2 / (rate or mean_rate(stream)) < duration_seconds:
            logger.warning(
                "%s ends before the %.2f s asked for; its last frame is at %.2f s.",
                path,
                duration_seconds,
                seconds,
            )


def read_video(path: str | Path, max_frames: int, fps: float | Fraction | None = None) -> VideoFrames:
    """Decode the first frames of a video into memory.

    Args:
        path: any video file.
        max_frames: at most so many are read, with a word in the log when the video has more.
        fps: constant rate to resample to; ``None`` keeps the source's frames and states their mean rate.

    Raises:
        InputError: ``max_frames`` below 1.
        MediaError: as `iter_video`.
    """
    if max_frames < 1:
        raise InputError(f"max_frames must be at least 1, got {max_frames}.")
    rate = probe_video(path).fps if fps is None else exact_fps(fps)
    images: list[np.ndarray] = []
    for frame in iter_video(path, fps):
        if len(images) == max_frames:
            logger.info("%s has more than %d frames; the rest is not read.", path, max_frames)
            break
        images.append(frame.image)
    return VideoFrames(data=np.stack(images), fps=float(rate))


class _Painter:
    """Turns decoded frames into arrays of the size of the first one."""

    def __init__(self, path: Path, stream: Any) -> None:
        self._path = path
        self._stream = stream
        self._converter = PixelConverter()
        self._size: tuple[int, int] | None = None

    def paint(self, frame: Any) -> np.ndarray:
        if self._size is None:
            self._size = _checked_size(frame, self._stream, self._path)
            transfer = _HDR_TRANSFERS.get(int(getattr(frame, "color_trc", 0)))
            if transfer:
                logger.warning("%s is an HDR video (%s); its colours will look flat.", self._path, transfer)
        try:
            pixels = self._converter.to_rgb(frame, *self._size)
        except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
            raise MediaError(
                f"{self._path}: a frame cannot be converted ({av_reason(error)}). Export it as H.264 MP4."
            ) from error
        return np.array(upright(pixels, display_matrix(frame)).transpose(2, 0, 1), order="C")


def _checked_stream(container: Any, path: Path) -> Any:
    stream = video_stream(container)
    if stream is None:
        raise MediaError(f"{path} has no moving picture. Expected a video: give another file.")
    context = stream.codec_context
    if context is None:
        raise MediaError(f"{path} uses a video codec that is not read here. Export it as H.264 MP4.")
    if context.width * context.height > MAX_FRAME_PIXELS:
        raise MediaError(_too_large(path, context.width, context.height))
    stream.thread_type = "AUTO"
    context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}  # holds for changes of size inside the stream too
    return stream


def _checked_size(frame: Any, stream: Any, path: Path) -> tuple[int, int]:
    width, height = display_size(frame, stream.sample_aspect_ratio)
    if width * height > MAX_FRAME_PIXELS:
        raise MediaError(_too_large(path, width, height))
    return width, height


def _too_large(path: Path, width: int, height: int) -> str:
    return f"{path} is too large: {width} x {height}, at most 8K (7680 x 4320) is read. Scale it down first."


def _seek(container: Any, stream: Any, seconds: Fraction) -> None:
    try:
        container.seek(int(seconds / stream.time_base), stream=stream, backward=True)
    except (av.FFmpegError, OSError, ValueError, OverflowError):
        logger.debug("No seeking in this file; it is decoded from its start.")
