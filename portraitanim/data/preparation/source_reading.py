"""Pictures and sound of a source: the stretch and the part of the picture that its list means."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile

from portraitanim.audio.separation import RATE_HZ, VocalSeparator
from portraitanim.data.preparation.sources import SourceClip
from portraitanim.data.preparation.speech import SAMPLE_RATE_HZ
from portraitanim.errors import MediaError
from portraitanim.media.audio import iter_audio, resample, to_mono
from portraitanim.media.files import whole_file
from portraitanim.media.video import iter_video, probe_video
from portraitanim.types import AudioTrack

logger = logging.getLogger(__name__)


def frames_of(
    source: SourceClip, fps: float, start_frame: int = 0, num_frames: int | None = None
) -> Iterator[np.ndarray]:
    """Frames of a source at the dataset's rate, cropped to its box."""
    assert source.video is not None
    length = None if source.end_seconds is None else source.end_seconds - source.start_seconds
    if num_frames is not None:
        length = num_frames / fps
    start = source.start_seconds + start_frame / fps
    frames = iter_video(source.video, fps, start_seconds=start, duration_seconds=length)
    for frame in islice(frames, num_frames):
        if source.box is None:
            yield frame.image
        else:
            box = source.box.in_picture(*frame.image.shape[1:])
            yield np.ascontiguousarray(frame.image[:, box.top : box.bottom, box.left : box.right])


def extract_sound(source: SourceClip, path: Path) -> bool:
    """Keep a source's sound as mono FLAC at 16 kHz; false where there is none at these times.

    Raises:
        MediaError: the sound is damaged, or the file cannot be written.
    """
    assert source.video is not None
    if not probe_video(source.video).has_audio:
        return False
    length = None if source.end_seconds is None else source.end_seconds - source.start_seconds
    chunks = iter_audio(source.video, SAMPLE_RATE_HZ, 10.0, start_seconds=source.start_seconds, duration_seconds=length)
    first = next(_until_the_end(chunks, source), None)
    if first is None:
        return False
    try:
        with (
            whole_file(path) as partial,
            soundfile.SoundFile(partial, "w", SAMPLE_RATE_HZ, 1, "PCM_16", format="FLAC") as file,
        ):
            file.write(to_mono(first).samples[0])
            for chunk in chunks:
                file.write(to_mono(chunk).samples[0])
    except soundfile.SoundFileError as error:  # of writing: the source is read by PyAV
        raise MediaError(
            f"Cannot write {path}: {error} Is the disk full? Free space or choose another --output."
        ) from error
    return True


def voice_of(source: SourceClip, start_seconds: float, num_samples: int, separator: VocalSeparator) -> np.ndarray:
    """The voice in a part of a source's sound, without music and noise.

    Args:
        source: must have sound.
        start_seconds: from the beginning of the source.
        num_samples: how many, at 16 kHz.
        separator: reads the source's own sound, at its full band.

    Returns:
        float32 ``(num_samples,)``; zeros where the sound has ended.
    """
    assert source.video is not None
    chunks = iter_audio(
        source.video,
        RATE_HZ,
        start_seconds=source.start_seconds + start_seconds,
        duration_seconds=num_samples / SAMPLE_RATE_HZ,
    )
    try:
        stereo = [chunk if chunk.samples.shape[0] <= 2 else to_mono(chunk) for chunk in chunks]
    except MediaError as error:
        logger.warning("%s", error)  # the sound ends before this part begins
        return np.zeros(num_samples, np.float32)
    voice = [to_mono(piece).samples for piece in separator.stream(stereo)]
    track = AudioTrack(samples=np.concatenate(voice, axis=1), sample_rate_hz=RATE_HZ)
    samples = resample(track, SAMPLE_RATE_HZ).samples[0, :num_samples]
    return np.pad(samples, (0, num_samples - len(samples)))


def _until_the_end(chunks: Iterator, source: SourceClip) -> Iterator:
    try:
        yield next(chunks)
    except MediaError as error:
        if source.start_seconds == 0:
            raise
        logger.warning("%s", error)  # the sound ends before this clip begins
