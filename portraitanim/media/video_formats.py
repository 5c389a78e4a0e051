"""Which video files can be written, and how each is encoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import av

from portraitanim.errors import InputError, MediaError

if TYPE_CHECKING:
    from collections.abc import Mapping

# What MOV and MP4 store under a standard name; others would be lost without a word.
_MOV_KEYS = frozenset({"title", "artist", "album", "comment", "copyright", "date", "genre"})
_MP4_KEYS = _MOV_KEYS | {"description", "keywords"}


@dataclass(frozen=True, kw_only=True)
class VideoFormat:
    """One kind of video file.

    Attributes:
        container: FFmpeg's name of the file format; empty for a folder of pictures.
        video_codec: encoder of the picture.
        pixel_format: what the encoder reads.
        audio_codec: encoder of the sound, or ``None`` where the format has no sound.
        default_crf: constant quality, lower is better; ``None`` where the codec has no such setting.
        max_crf: the coarsest quality.
        codec_options: further settings of the encoder.
        container_options: settings of the file format.
        metadata_keys: the keys that the format stores; ``None`` stores any.
        holds_xmp: whether an XMP packet can be put in.
    """

    container: str
    video_codec: str
    pixel_format: str
    audio_codec: str | None = None
    default_crf: int | None = None
    max_crf: int = 51
    codec_options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    metadata_keys: frozenset[str] | None = None
    holds_xmp: bool = False


def _h264(container: str, **options: object) -> VideoFormat:
    return VideoFormat(
        container=container,
        video_codec="libx264",
        pixel_format="yuv420p",
        audio_codec="aac",
        default_crf=18,
        codec_options={"preset": "medium"},
        **options,  # type: ignore[arg-type]
    )


_FASTSTART = {"movflags": "+faststart"}

VIDEO_FORMATS: Mapping[str, VideoFormat] = {
    ".mp4": _h264("mp4", container_options=_FASTSTART, metadata_keys=_MP4_KEYS, holds_xmp=True),
    ".m4v": _h264("mp4", container_options=_FASTSTART, metadata_keys=_MP4_KEYS, holds_xmp=True),
    ".mov": _h264("mov", container_options=_FASTSTART, metadata_keys=_MOV_KEYS, holds_xmp=True),
    ".mkv": _h264("matroska"),
    ".webm": VideoFormat(
        container="webm",
        video_codec="libvpx-vp9",
        pixel_format="yuv420p",
        audio_codec="libopus",
        default_crf=28,
        max_crf=63,
        # Without "b" 0 the bit rate, not the quality, would be held.
        codec_options={"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    ),
    ".gif": VideoFormat(
        container="gif",
        video_codec="gif",
        pixel_format="pal8",
        container_options={"loop": "0"},
        metadata_keys=frozenset({"comment"}),
        holds_xmp=True,
    ),
    "": VideoFormat(container="", video_codec="png", pixel_format="rgb24", holds_xmp=True),
}
"""Formats by suffix; no suffix is a folder of PNG pictures."""


def video_format(path: str | Path) -> VideoFormat:
    """The format that a name asks for.

    Raises:
        MediaError: unknown suffix, or this build of PyAV has no encoder for it.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in VIDEO_FORMATS:
        known = ", ".join(name for name in VIDEO_FORMATS if name)
        raise MediaError(
            f"Cannot write {path}: unknown suffix {suffix!r}. Use {known}, or a name without suffix for a "
            "folder of PNG pictures."
        )
    chosen = VIDEO_FORMATS[suffix]
    for codec in (chosen.video_codec, chosen.audio_codec):
        if codec is not None and codec not in av.codecs_available:
            raise MediaError(f"Cannot write {path}: this PyAV has no {codec} encoder. Use .mp4, or install av by pip.")
    return chosen


def check_metadata(chosen: VideoFormat, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Refuse keys that the format would lose.

    Raises:
        InputError: such a key, or a value that is no text.
    """
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str) or "\0" in key + value:
            raise InputError(f"Metadata must be text, got {key!r}: {value!r}.")
        if chosen.metadata_keys is not None and key not in chosen.metadata_keys:
            raise InputError(
                f"{Path(path).suffix} files do not store metadata {key!r}. "
                f"Use {', '.join(sorted(chosen.metadata_keys))}."
            )


def chosen_crf(chosen: VideoFormat, path: str | Path, crf: int | None) -> int | None:
    """The quality to encode with.

    Raises:
        InputError: out of range, or the format has no such setting.
    """
    if crf is None:
        return chosen.default_crf
    if chosen.default_crf is None:
        raise InputError(f"crf has no effect on {path}: its format has no such setting. Leave it out.")
    if not 0 <= crf <= chosen.max_crf:
        raise InputError(f"crf must lie in 0..{chosen.max_crf} for {chosen.video_codec}, got {crf}.")
    return crf
