"""Small pictures and sounds made by the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from portraitanim.types import AudioTrack


def tone(seconds: float, rate_hz: int, num_channels: int = 1, hertz: float = 440.0) -> AudioTrack:
    """A sine of level 0.5."""
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return AudioTrack(samples=np.tile(wave.astype(np.float32), (num_channels, 1)), sample_rate_hz=rate_hz)


def write_wav(path: Path, track: AudioTrack, **options: str) -> Path:
    soundfile.write(path, track.samples.T, track.sample_rate_hz, **options)
    return path


def smooth_picture(height: int, width: int, shift: int = 0) -> np.ndarray:
    """uint8 (3, height, width) with slow changes, so that colour at half resolution loses little."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [0.5 + 0.4 * np.sin(3 * x + shift / 9), 0.5 + 0.4 * np.cos(3 * y), 0.2 + 0.5 * x * y]
    return np.rint(np.stack(planes) * 255).astype(np.uint8)


def grey_of(image: np.ndarray) -> float:
    return float(image.mean())
