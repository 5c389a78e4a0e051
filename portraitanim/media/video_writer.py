"""Video out: frames are encoded while the next ones are made, and a broken file never gets the final name."""

from __future__ import annotations

import logging
import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from portraitanim.errors import InputError, MediaError, PortraitAnimError, ShapeError
from portraitanim.media.audio_feed import AudioFeed
from portraitanim.media.file_marks import append_gif_marks, append_mp4_xmp
from portraitanim.media.files import discard, partial_path, prepare_output, publish, write_error
from portraitanim.media.frame_rate import exact_fps
from portraitanim.media.frame_sinks import ContainerFile, FrameSink, PngFolder
from portraitanim.media.video_formats import check_metadata, chosen_crf, video_format

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction
    from types import TracebackType

    from portraitanim.media.live_sound import LiveSound
    from portraitanim.types import AudioTrack

logger = logging.getLogger(__name__)

ODD_SIZES = ("pad", "crop", "error")
_QUEUE_FRAMES = 8
_POLL_SECONDS = 0.2
_MAX_GIF_FPS = 50


class VideoWriter:
    """Writes one video with its sound in one pass, in flat memory.

    Use it as a context manager. Frames are encoded by a thread of their own behind a short queue. The file is written
    as ``NAME.partial.SUFFIX`` and renamed when it is complete; an error or Ctrl-C inside the block removes it.

    The suffix chooses the format: mp4, m4v, mov, mkv (H.264, AAC), webm (VP9, Opus), gif, and no suffix for a folder of
    PNG pictures. Colours are bt709 and tagged so. Sound starts with the first frame and is cut, or padded with silence,
    to the length of the picture.

    Example:
        >>> with VideoWriter("out.mp4", 25, audio="speech.mp3") as writer:  # doctest: +SKIP
        ...     for frame in frames:
        ...         writer.write(frame)
    """

    def __init__(
        self,
        path: str | Path,
        fps: float | str | Fraction,
        *,
        audio: AudioTrack | LiveSound | str | Path | None = None,
        audio_start_seconds: float = 0.0,
        crf: int | None = None,
        odd_size: str = "pad",
        metadata: Mapping[str, str] | None = None,
        xmp: str | None = None,
    ) -> None:
        """Check everything that can be checked before the first frame.

        Args:
            path: file to write, or folder for PNG pictures (absent or empty).
            fps: frames per second; 29.97 stands for 30000/1001.
            audio: sound, or a file with sound, which is read as the picture advances; or sound that still arrives,
                which others read.
            audio_start_seconds: where in the sound the video starts.
            crf: quality, lower is better; ``None`` takes the format's default (18 for H.264, 28 for VP9).
            odd_size: H.264 and VP9 in 4:2:0 need even sizes: ``pad`` repeats the last row or column, ``crop``
                drops it, ``error`` refuses.
            metadata: title, comment and the like.
            xmp: an XMP packet, for mp4, mov, gif and PNG.

        Raises:
            InputError: an option that makes no sense, or has no effect in this format.
            MediaError: unknown format, unusable sound, or a place that cannot be written.
        """
        if odd_size not in ODD_SIZES:
            raise InputError(f"odd_size must be one of {', '.join(ODD_SIZES)}, got {odd_size!r}.")
        self.path = Path(path)
        self.fps = exact_fps(fps)
        self.num_frames = 0
        self._format = video_format(path)
        self._crf = chosen_crf(self._format, path, crf)
        self._odd_size = odd_size
        self._metadata = dict(metadata or {})
        self._xmp = xmp
        self._check_options(audio, audio_start_seconds)
        self._partial = self._prepare()
        self._size: tuple[int, int] | None = None
        self._feed: AudioFeed | None = None
        if audio is not None:
            rates = av.Codec(self._format.audio_codec, "w").audio_rates or ()
            self._feed = AudioFeed(audio, rates, audio_start_seconds)
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(_QUEUE_FRAMES)
        self._aborted = threading.Event()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, frames: np.ndarray) -> None:
        """Add one frame or several; returns as soon as there is room in the queue.

        Args:
            frames: ``(3, height, width)`` or ``(frames, 3, height, width)`` RGB, uint8, or floating point in
                [0, 1], which is rounded to the nearest of 256 levels and clipped.

        Raises:
            MediaError: the file cannot be written.
            ShapeError: not a picture, or of another size than the first.
        """
        if self._closed:
            raise InputError(f"{self.path} is closed already; no frame can be added.")
        if frames.ndim == 4:
            for frame in frames:
                self.write(frame)
            return
        pixels = self._pixels(frames)
        if self._thread is None:
            self._start(pixels)
        self._put(pixels)
        self.num_frames += 1

    def close(self) -> None:
        """Finish the file and give it its name. Does nothing when already closed.

        Raises:
            MediaError: no frame was written, or the file cannot be written.
        """
        if self._closed:
            return
        try:
            if self._thread is None:
                raise MediaError(f"No frame was made for {self.path}, so it is not written. Give a longer input.")
            self._put(None)
            while self._thread.is_alive():
                self._thread.join(_POLL_SECONDS)
            self._raise_error()
            self._append_marks()
            if self.path.is_dir():  # an empty one, for pictures; not every system replaces it
                self.path.rmdir()
            publish(self._partial, self.path)
            self._closed = True
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop, and remove the unfinished file. Does nothing when already closed."""
        if not self._closed and self._thread is not None:
            self._aborted.set()
            with suppress(queue.Empty):
                while True:
                    self._queue.get_nowait()
            with suppress(queue.Full):
                self._queue.put_nowait(None)
            self._thread.join()
        if not self._closed:
            discard(self._partial)
        self._closed = True
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def _check_options(self, audio: object, audio_start_seconds: float) -> None:
        if audio is None and audio_start_seconds:
            raise InputError("audio_start_seconds has no effect without audio. Give the audio or leave it out.")
        if audio is not None and self._format.audio_codec is None:
            raise InputError(f"{self.path} cannot hold sound. Use .mp4, .mov, .mkv or .webm, or leave the sound out.")
        if self._xmp is not None and not self._format.holds_xmp:
            raise InputError(f"{self.path.suffix} files hold no XMP. Use .mp4 or .mov, or put it into the metadata.")
        if self._format.container == "gif" and self.fps > _MAX_GIF_FPS:
            raise InputError(f"A GIF shows at most {_MAX_GIF_FPS} frames per second, got {float(self.fps):g}.")
        check_metadata(self._format, self.path, self._metadata)

    def _prepare(self) -> Path:
        """The partial path, clean of what a killed run may have left there."""
        if self._format.container or not self.path.exists():
            prepare_output(self.path)
        elif not self.path.is_dir() or any(self.path.iterdir()):
            raise MediaError(f"Cannot write pictures to {self.path}: it is not an empty folder. Choose a new name.")
        partial = partial_path(self.path)
        discard(partial)
        return partial

    def _pixels(self, frame: np.ndarray) -> np.ndarray:
        """A copy as uint8 ``(height, width, 3)``: the caller may use its array again at once."""
        if frame.ndim != 3 or frame.shape[0] != 3 or 0 in frame.shape:
            raise ShapeError(f"A video frame must be (3, height, width), got {frame.shape}.")
        if frame.dtype.kind == "f":
            if not np.isfinite(frame).all():
                raise ShapeError(f"Frame {self.num_frames} has values that are not numbers. Expected [0, 1].")
            frame = np.rint(np.clip(frame.astype(np.float32) * 255.0, 0.0, 255.0)).astype(np.uint8)
        elif frame.dtype != np.uint8:
            raise ShapeError(f"A video frame must be uint8, or floating point in [0, 1], got {frame.dtype}.")
        if self._size is None:
            self._size = frame.shape[1], frame.shape[2]
        elif frame.shape[1:] != self._size:
            raise ShapeError(f"Frame {self.num_frames} is {frame.shape[1:]}, the frames before it are {self._size}.")
        return np.array(self._even(frame).transpose(1, 2, 0), order="C")

    def _even(self, frame: np.ndarray) -> np.ndarray:
        odd_rows, odd_columns = frame.shape[1] % 2, frame.shape[2] % 2
        if not self._format.pixel_format.startswith("yuv420") or not (odd_rows or odd_columns):
            return frame
        if self._odd_size == "pad":
            return np.pad(frame, ((0, 0), (0, odd_rows), (0, odd_columns)), mode="edge")
        if self._odd_size == "crop" and min(frame.shape[1:]) > 1:
            return frame[:, : frame.shape[1] - odd_rows, : frame.shape[2] - odd_columns]
        raise ShapeError(
            f"{self.path.suffix} needs an even height and width, got {frame.shape[1:]}. "
            "Use odd_size='pad' or another size."
        )

    def _start(self, pixels: np.ndarray) -> None:
        size = (pixels.shape[0], pixels.shape[1])
        self._thread = threading.Thread(target=self._encode, args=(size,), name="video-encoder", daemon=True)
        self._thread.start()

    def _sink(self, size: tuple[int, int]) -> FrameSink:
        if not self._format.container:
            return PngFolder(self._partial, self._metadata, self._xmp)
        metadata = {} if self._format.container == "gif" else self._metadata
        return ContainerFile(
            self._partial, self._format, self.fps, size, crf=self._crf, metadata=metadata, feed=self._feed
        )

    def _encode(self, size: tuple[int, int]) -> None:
        """The thread: takes frames until ``None`` comes, and keeps the error that stopped it."""
        sink: FrameSink | None = None
        try:
            sink = self._sink(size)
            while (pixels := self._queue.get()) is not None and not self._aborted.is_set():
                sink.write(pixels)
            if not self._aborted.is_set():
                sink.finish()
                return
        except BaseException as error:  # raised again by the thread that writes
            self._error = error
        if sink is not None:
            sink.abort()

    def _put(self, pixels: np.ndarray | None) -> None:
        while True:
            self._raise_error()
            try:
                self._queue.put(pixels, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return

    def _raise_error(self) -> None:
        error = self._error
        if error is None:
            return
        if isinstance(error, PortraitAnimError):
            raise error
        raise write_error(self.path, error) from error

    def _append_marks(self) -> None:
        try:
            if self._format.container in ("mp4", "mov") and self._xmp:
                append_mp4_xmp(self._partial, self._xmp)
            if self._format.container == "gif" and (self._xmp or self._metadata):
                append_gif_marks(self._partial, self._metadata.get("comment", ""), self._xmp)
        except OSError as error:
            raise write_error(self.path, error) from error
