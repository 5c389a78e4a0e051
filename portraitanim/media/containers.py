"""Open and decode media containers safely: local files, known formats, and damage never passes silently."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from portraitanim.errors import MediaError
from portraitanim.media.files import existing_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

# Play lists (HLS, DASH, concat, SDP) are left out on purpose: a downloaded "video" could otherwise make the
# decoder read other files or call servers.
READABLE_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,mxf,dv,ivf,nut,rm,"
    "h264,hevc,mp3,aac,flac,wav,w64,aiff,au,caf,amr,ac3,eac3,dts,wv,ape,tta,voc"
)
MAX_FRAME_PIXELS = 7680 * 4320
"""Largest video frame decoded (8K)."""

_MAX_BAD_PACKETS = 50
_SHORTFALL_SECONDS = 0.5


@contextmanager
def open_container(path: str | Path, kind: str) -> Iterator[Any]:
    """Open a sound or video file for reading.

    Args:
        path: a local file.
        kind: what it should be, for messages ("sound", "video").

    Yields:
        A PyAV input container.

    Raises:
        MediaError: absent, damaged, or of a format that is not read here.
    """
    path = existing_file(path, kind)
    try:
        container = av.open(
            f"file:{path}",
            metadata_errors="replace",
            options={"protocol_whitelist": "file", "format_whitelist": READABLE_CONTAINERS},
        )
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise MediaError(
            f"{path} cannot be read as {kind} ({av_reason(error)}). It is damaged, cut short or of an "
            "unknown format: export it again, for example as MP4, or as WAV for sound."
        ) from error
    with container:
        yield container


def video_stream(container: Any) -> Any | None:
    """The first moving picture; cover art of a song is none."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    return None


def audio_stream(container: Any) -> Any | None:
    """The main sound track, or ``None`` when there is none whose codec is known."""
    stream = container.streams.best("audio")
    return None if stream is None or stream.codec_context is None else stream


def zero_seconds(container: Any) -> Fraction:
    """Time stamp at which a file's own clock starts: that of its picture, else of the whole file.

    Sound and picture measured from the same zero stay in sync when both are read.
    """
    video = video_stream(container)
    if video is not None and video.start_time is not None and video.time_base:
        return video.start_time * Fraction(video.time_base)
    return Fraction(container.start_time or 0, av.time_base)


def decode(container: Any, stream: Any, path: Path, expected_seconds: float | None = None) -> Iterator[Any]:
    """Decode one stream, passing over damaged packets and saying so in the log.

    Args:
        container: an open container.
        stream: one of its streams.
        path: for messages.
        expected_seconds: length that the file promises; a shortfall is logged. ``None`` does not check.

    Yields:
        PyAV frames in presentation order.

    Raises:
        MediaError: more is damaged than whole, or nothing could be decoded.
    """
    num_frames = num_bad = 0
    last = 0.0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            frames = [] if packet is None else packet.decode()
        except av.EOFError:
            packet, frames = None, []
        except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
            num_bad += 1
            if num_bad > _MAX_BAD_PACKETS and num_bad > num_frames:
                raise MediaError(
                    f"{path} is damaged: {num_bad} of its packets cannot be decoded ({av_reason(error)}). "
                    "Export or download it again."
                ) from error
            continue
        for frame in frames:
            num_frames += 1
            last = _end_seconds(frame, stream, last)
            yield frame
        if packet is None:
            break
    if num_frames == 0:
        raise MediaError(f"{path} is damaged: no {stream.type} could be decoded. Export it again.")
    if num_bad:
        logger.warning("%s: %d damaged packets of the %s were passed over.", path, num_bad, stream.type)
    if expected_seconds is not None and expected_seconds - last > _SHORTFALL_SECONDS:
        told, kind = expected_seconds, stream.type
        logger.warning("%s promises %.1f s of %s but holds %.1f s; it may be cut short.", path, told, kind, last)


def promised_seconds(container: Any, stream: Any) -> float | None:
    """Length of a stream as the file states it, or ``None`` when it states none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def av_reason(error: BaseException) -> str:
    """What FFmpeg has to say, without numbers and file names."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)[:200]


def _end_seconds(frame: Any, stream: Any, last: float) -> float:
    if frame.pts is None or not frame.time_base:
        return last
    start = float((frame.pts - (stream.start_time or 0)) * frame.time_base)
    return max(last, start + float((frame.duration or 0) * frame.time_base))
