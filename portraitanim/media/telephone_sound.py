"""Reads the sound files of telephone systems, which have no header: their name alone tells the format."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soxr

from portraitanim.errors import MediaError
from portraitanim.media.files import existing_file
from portraitanim.types import AudioTrack

TELEPHONE_ENDINGS = (".g722", ".gsm")


def load_telephone_sound(path: Path, sample_rate_hz: int) -> AudioTrack:
    """Read a whole file of G.722 (16 kHz) or GSM (8 kHz), one channel, at another rate.

    Raises:
        MediaError: absent, empty, or not of the format that its name tells.
    """
    path = existing_file(path, "sound")
    if path.suffix not in TELEPHONE_ENDINGS:
        raise MediaError(f"{path} should end in {' or '.join(TELEPHONE_ENDINGS)}. Read it with load_audio.")
    try:
        with av.open(f"file:{path}", format=path.suffix.removeprefix(".")) as container:
            frames = list(container.decode(audio=0))
    except (av.FFmpegError, IndexError) as error:
        raise MediaError(f"{path} cannot be read as {path.suffix.removeprefix('.')} ({error}).") from error
    if not frames:
        raise MediaError(f"{path} holds no sound.")
    samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(np.float32) / 32768
    samples = np.asarray(soxr.resample(samples, frames[0].sample_rate, sample_rate_hz), np.float32)
    return AudioTrack(samples=samples[None], sample_rate_hz=sample_rate_hz)
