"""Recorded sound in which nobody speaks: music, noises. Lips must not move by it, alone or behind a voice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from portraitanim.errors import InputError
from portraitanim.media.audio import load_audio, to_mono
from portraitanim.media.telephone_sound import TELEPHONE_ENDINGS, load_telephone_sound

_ENDINGS = (".wav", ".ogg", ".flac", ".mp3", *TELEPHONE_ENDINGS)


class Backgrounds:
    """Draws pieces of sound files.

    Args:
        folders: of music and noises; every file in them without a voice.
        sample_rate_hz: of what is drawn.
        max_seconds: so much of each file is read.

    Raises:
        InputError: a folder has no sound file.
    """

    def __init__(self, folders: Sequence[Path], sample_rate_hz: int, max_seconds: float = 60.0) -> None:
        self._sounds: list[np.ndarray] = []
        for folder in folders:
            paths = [path for path in sorted(folder.rglob("*")) if path.suffix in _ENDINGS]
            if not paths:
                raise InputError(f"{folder} has no sound file ({', '.join(_ENDINGS)}).")
            for path in paths:
                sound = read_sound(path, sample_rate_hz)[: round(max_seconds * sample_rate_hz)]
                if np.abs(sound).max() > 1e-3:
                    self._sounds.append(np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16))
        lengths = np.array([len(sound) for sound in self._sounds], np.float64)
        self._shares = np.sqrt(lengths) / np.sqrt(lengths).sum()

    def draw(self, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        """A piece of so many samples, of unit level; short sounds are heard again and again."""
        sound = self._sounds[rng.choice(len(self._sounds), p=self._shares)].astype(np.float64)
        if len(sound) < num_samples:
            sound = np.tile(sound, -(-num_samples // len(sound)))
        first = rng.integers(len(sound) - num_samples + 1)
        piece = sound[first : first + num_samples]
        return np.asarray(piece / (piece.std() + 1.0))


def read_sound(path: Path, sample_rate_hz: int) -> np.ndarray:
    """One channel of a sound file, also of a telephone's: float32 ``(samples,)``."""
    load = load_telephone_sound if path.suffix in TELEPHONE_ENDINGS else load_audio
    return to_mono(load(path, sample_rate_hz)).samples[0]
