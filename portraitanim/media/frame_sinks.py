"""Where encoded frames go: one video file by PyAV, or a folder of PNG pictures."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any, Protocol

import av
import numpy as np
from av.filter import Graph
from PIL import Image, PngImagePlugin

from portraitanim.media.pixels import BT709, PixelConverter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from portraitanim.media.audio_feed import AudioFeed
    from portraitanim.media.video_formats import VideoFormat

_AUDIO_BITS_PER_CHANNEL = 96_000
_MAX_MOVIE_TIMESCALE = 10_000_000


class FrameSink(Protocol):
    """Takes frames in order; all have one size."""

    def write(self, pixels: np.ndarray) -> None:
        """Encode one uint8 ``(height, width, 3)`` frame."""

    def finish(self) -> None:
        """Encode what is left and close the file."""

    def abort(self) -> None:
        """Close the file as it is; never raises."""


class PngFolder:
    """Writes ``frame_000000.png``, ``frame_000001.png`` ... without loss."""

    def __init__(self, folder: Path, metadata: Mapping[str, str], xmp: str | None) -> None:
        self._folder = folder
        self._num_frames = 0
        self._info = PngImagePlugin.PngInfo()
        for key, value in metadata.items():
            self._info.add_itxt(key, value)
        if xmp:
            self._info.add_itxt("XML:com.adobe.xmp", xmp)
        folder.mkdir()

    def write(self, pixels: np.ndarray) -> None:
        """See `FrameSink.write`."""
        Image.fromarray(pixels).save(self._folder / f"frame_{self._num_frames:06d}.png", pnginfo=self._info)
        self._num_frames += 1

    def finish(self) -> None:
        """See `FrameSink.finish`."""

    def abort(self) -> None:
        """See `FrameSink.abort`."""


class ContainerFile:
    """Encodes picture and sound into one file in one pass; sound never runs ahead of the picture."""

    def __init__(
        self,
        path: Path,
        chosen: VideoFormat,
        fps: Fraction,
        size: tuple[int, int],
        *,
        crf: int | None = None,
        metadata: Mapping[str, str] | None = None,
        feed: AudioFeed | None = None,
    ) -> None:
        self._fps = fps
        self._feed = feed
        self._format = chosen
        self._converter = PixelConverter()
        self._num_frames = 0
        self._num_samples = 0
        options = dict(chosen.container_options)
        if chosen.container in ("mp4", "mov"):
            # The length of each track is kept in this unit: with 1/1000 s, sound would end up to 1 ms too early.
            exact = lcm(fps.numerator, feed.sample_rate_hz if feed else 1)
            options["movie_timescale"] = str(exact if exact <= _MAX_MOVIE_TIMESCALE else fps.numerator)
        self._container = av.open(f"file:{path}", "w", format=chosen.container, options=options)
        self._container.metadata.update(metadata or {})
        self._video = self._add_video(size, crf)
        self._audio = None if feed is None else self._add_audio(feed)
        self._palette = _palette_graph(size, 1 / fps) if chosen.container == "gif" else None

    def write(self, pixels: np.ndarray) -> None:
        """See `FrameSink.write`."""
        if self._palette is None:
            frame = self._converter.from_rgb(pixels, self._format.pixel_format)
            self._stamp(frame)
            self._container.mux(self._video.encode(frame))
        else:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            self._stamp(frame)
            self._palette.push(frame)
            self._encode_paletted()
        self._num_frames += 1
        self._encode_sound(last=False)

    def finish(self) -> None:
        """See `FrameSink.finish`."""
        if self._palette is not None:
            self._palette.push(None)
            self._encode_paletted()
        self._encode_sound(last=True)
        self._container.mux(self._video.encode(None))
        if self._audio is not None:
            self._container.mux(self._audio.encode(None))
        self._container.close()

    def abort(self) -> None:
        """See `FrameSink.abort`."""
        with suppress(Exception):
            self._container.close()

    def _add_video(self, size: tuple[int, int], crf: int | None) -> Any:
        options = dict(self._format.codec_options)
        if crf is not None:
            options["crf"] = str(crf)
        stream = self._container.add_stream(self._format.video_codec, rate=self._fps, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = self._format.pixel_format
        context = stream.codec_context
        # GIF keeps time in hundredths of a second.
        context.time_base = 1 / self._fps if self._format.container != "gif" else Fraction(1, 100)
        if self._format.pixel_format.startswith("yuv"):
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = 1  # limited, as `PixelConverter.from_rgb` gives
        return stream

    def _add_audio(self, feed: AudioFeed) -> Any:
        layout = "mono" if feed.num_channels == 1 else "stereo"
        stream = self._container.add_stream(self._format.audio_codec, rate=feed.sample_rate_hz, layout=layout)
        context = stream.codec_context
        context.format = "flt" if self._format.audio_codec == "libopus" else "fltp"
        context.bit_rate = _AUDIO_BITS_PER_CHANNEL * feed.num_channels
        context.time_base = Fraction(1, feed.sample_rate_hz)
        context.open()  # the length of the codec's blocks is known only then
        return stream

    def _stamp(self, frame: Any) -> None:
        frame.pts, frame.time_base = self._num_frames, 1 / self._fps

    def _encode_paletted(self) -> None:
        for frame in _pull_all(self._palette):
            self._container.mux(self._video.encode(frame))

    def _encode_sound(self, *, last: bool) -> None:
        """Encode the codec's whole blocks up to the time of the picture; all when the picture is done."""
        if self._audio is None or self._feed is None:
            return
        rate_hz = self._feed.sample_rate_hz
        wanted = round(self._num_frames * rate_hz / self._fps)
        block = self._audio.codec_context.frame_size or 1024
        while wanted - self._num_samples >= (1 if last else block):
            count = min(block, wanted - self._num_samples)
            if not last and not self._feed.has(count):
                return  # sound that still arrives catches up later
            samples = self._feed.take(count)
            audio_format = self._audio.codec_context.format
            if not audio_format.is_planar:
                samples = samples.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples),
                format=audio_format.name,
                layout=self._audio.codec_context.layout.name,
            )
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, self._num_samples, Fraction(1, rate_hz)
            self._num_samples += frame.samples
            self._container.mux(self._audio.encode(frame))


def _palette_graph(size: tuple[int, int], time_base: Fraction) -> Any:
    """Give each frame a palette of its own, since one for all would need all frames in memory."""
    graph = Graph()
    source = graph.add_buffer(width=size[1], height=size[0], format=av.VideoFormat("rgb24"), time_base=time_base)
    split = graph.add("split")
    palette = graph.add("palettegen", "stats_mode=single")
    apply = graph.add("paletteuse", "new=1:dither=sierra2_4a")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(apply, 1, 0)
    palette.link_to(apply, 0, 1)
    apply.link_to(sink)
    graph.configure()
    return graph


def _pull_all(graph: Any) -> Iterator[Any]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield frame
