"""Speech of real people with the time of every sound: recordings that were aligned with their texts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from portraitanim.data.synthesis.backgrounds import read_sound
from portraitanim.data.synthesis.espeak import espeak_synthesizer
from portraitanim.data.synthesis.phone_alignment import ALIGNED_RATE_HZ, Alignment, PhoneAligner
from portraitanim.data.synthesis.recordings import Recording
from portraitanim.data.synthesis.spoken_text import Phoneme, SpokenText
from portraitanim.errors import InputError, PortraitAnimError
from portraitanim.media.files import whole_file

logger = logging.getLogger(__name__)

_MARGIN_SECONDS = 0.15
"""So much of what comes before and after the speech is kept."""

_SOUNDS_PER_SECOND = (3.0, 24.0)
"""Slower or faster than any speaker: the text is another."""

_SHORTEST_SECONDS, _HURRIED_SHARE = 0.035, 0.35
"""A sound that is not heard gets the least time that the aligner gives, 0.03 s: with many such, the text is another."""

_WORST_SHARE = 0.08
"""Of each voice's recordings, so many sound least like their texts; some were read from older texts."""

_MAX_SECONDS = 12.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Voice:
    """The aligned recordings of one voice.

    Attributes:
        name: of the voice.
        spoken: its recordings, at 16 kHz, without long silence around the speech.
    """

    name: str
    spoken: tuple[SpokenText, ...]

    @property
    def seconds(self) -> float:
        """All recordings together."""
        return sum(len(each.samples) / each.sample_rate_hz for each in self.spoken)


def align_voices(recordings: Iterable[Recording], report: Callable[[str], None] = logger.info) -> list[Voice]:
    """Find the sounds of all recordings; those that do not fit their texts are left out, and counted in the report.

    Raises:
        PortraitAnimError: espeak-ng or pocketsphinx is not installed.
        InputError: no recording fits its text.
    """
    aligner, pronounce = PhoneAligner(), espeak_synthesizer().pronounce
    found: dict[str, list[tuple[float, SpokenText]]] = {}
    tried: dict[str, int] = {}
    for recording in recordings:
        tried[recording.voice] = tried.get(recording.voice, 0) + 1
        try:
            samples = read_sound(recording.path, ALIGNED_RATE_HZ)
        except PortraitAnimError as error:
            logger.warning("%s is left out: %s", recording.path, error)
            continue
        words = pronounce(recording.text, recording.language)
        if not any(words) or len(samples) > _MAX_SECONDS * ALIGNED_RATE_HZ:
            continue
        alignment = aligner.align(samples, words)
        if alignment is not None and _plausible(alignment):
            found.setdefault(recording.voice, []).append((alignment.score, _trimmed(samples, alignment)))
    voices = []
    for name, scored in found.items():
        threshold = np.quantile([score for score, _ in scored], _WORST_SHARE)
        voice = Voice(name=name, spoken=tuple(spoken for score, spoken in scored if score >= threshold))
        report(f"{name}: {len(voice.spoken)} of {tried[name]} recordings, {voice.seconds / 60:.1f} minutes")
        voices.append(voice)
    if not voices:
        raise InputError("No recording fits its text. Look whether the texts belong to the recordings.")
    return voices


def save_voice(voice: Voice, folder: Path) -> Path:
    """Write ``VOICE.npz`` (samples in 16 bits), which `load_voices` reads."""
    sounds = [(number, phoneme) for number, each in enumerate(voice.spoken) for phoneme in each.phonemes]
    path = folder / f"{voice.name}.npz"
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            samples=np.concatenate([np.round(each.samples * 32767).astype(np.int16) for each in voice.spoken]),
            lengths=np.array([len(each.samples) for each in voice.spoken]),
            owners=np.array([number for number, _ in sounds]),
            symbols=np.array([phoneme.symbol for _, phoneme in sounds]),
            times=np.array([(phoneme.start_seconds, phoneme.end_seconds) for _, phoneme in sounds]),
        )
    return path


def load_voices(folder: Path, without: Sequence[str] = (), *, only: str | None = None) -> list[Voice]:
    """The voices of a folder.

    Args:
        folder: of files of `save_voice`.
        without: names of voices to leave out, for tests with unheard voices.
        only: the name of the one voice to read.

    Raises:
        InputError: a name is not there, or no voice is left.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if unknown := {*without, *([] if only is None else [only])} - set(paths):
        raise InputError(f"{folder} has no voice {', '.join(sorted(unknown))}; it has {', '.join(paths) or 'none'}.")
    voices = [_load_voice(path) for name, path in paths.items() if name not in without and only in (None, name)]
    if not voices:
        raise InputError(f"{folder} has no voice besides those left out. Make some with examples/synthesize_speech.py.")
    return voices


class RecordedSpeech:
    """Draws speech of real voices: recordings of one voice after another, with pauses.

    Args:
        voices: each is drawn by the square root of its length, so that a small one is heard too.
    """

    def __init__(self, voices: Sequence[Voice]) -> None:
        if not voices:
            raise InputError("Recorded speech needs at least one voice.")
        self._voices = tuple(voices)
        shares = np.sqrt([voice.seconds for voice in voices])
        self._shares = shares / shares.sum()

    def draw(self, seconds: float, rng: np.random.Generator) -> tuple[SpokenText, str]:
        """Speech of about this length, and a word on who speaks."""
        voice = self._voices[rng.choice(len(self._voices), p=self._shares)]
        pieces: list[np.ndarray] = []
        phonemes: list[Phoneme] = []
        start = 0.0
        while start < seconds:
            spoken = voice.spoken[rng.integers(len(voice.spoken))]
            level = np.sqrt(np.mean(spoken.samples**2)) + 1e-6
            # Recordings of one voice were not all made at one level.
            pieces.append(spoken.samples * (0.05 / level * 10 ** (rng.normal(0, 1.5) / 20)))
            phonemes += [_later(phoneme, start) for phoneme in spoken.phonemes]
            start += len(spoken.samples) / ALIGNED_RATE_HZ
            pause = round((rng.exponential(0.5) if rng.random() < 0.4 else 0.0) * ALIGNED_RATE_HZ)
            if pause:
                pieces.append(np.zeros(pause, np.float32))
                phonemes.append(Phoneme(symbol="", start_seconds=start, end_seconds=start + pause / ALIGNED_RATE_HZ))
                start += pause / ALIGNED_RATE_HZ
        samples = np.concatenate(pieces).astype(np.float32)
        return SpokenText(samples=samples, sample_rate_hz=ALIGNED_RATE_HZ, phonemes=tuple(phonemes)), voice.name


def _plausible(alignment: Alignment) -> bool:
    spoken = [phoneme.end_seconds - phoneme.start_seconds for phoneme in alignment.phonemes if phoneme.symbol]
    hurried = np.mean(np.array(spoken) < _SHORTEST_SECONDS)
    rate = len(spoken) / max(sum(spoken), 0.01)
    return bool(_SOUNDS_PER_SECOND[0] < rate < _SOUNDS_PER_SECOND[1] and hurried < _HURRIED_SHARE)


def _trimmed(samples: np.ndarray, alignment: Alignment) -> SpokenText:
    """Without the silence around the speech, but for a margin."""
    spoken = [phoneme for phoneme in alignment.phonemes if phoneme.symbol]
    first = max(0, round((spoken[0].start_seconds - _MARGIN_SECONDS) * ALIGNED_RATE_HZ))
    last = min(len(samples), round((spoken[-1].end_seconds + _MARGIN_SECONDS) * ALIGNED_RATE_HZ))
    shift, end = first / ALIGNED_RATE_HZ, (last - first) / ALIGNED_RATE_HZ
    moved = [_later(phoneme, -shift) for phoneme in alignment.phonemes]
    inside = tuple(
        Phoneme(
            symbol=phoneme.symbol,
            start_seconds=max(0.0, phoneme.start_seconds),
            end_seconds=min(end, phoneme.end_seconds),
        )
        for phoneme in moved
        if phoneme.end_seconds > 0 and phoneme.start_seconds < end
    )
    return SpokenText(samples=samples[first:last], sample_rate_hz=ALIGNED_RATE_HZ, phonemes=inside)


def _later(phoneme: Phoneme, seconds: float) -> Phoneme:
    return Phoneme(
        symbol=phoneme.symbol,
        start_seconds=phoneme.start_seconds + seconds,
        end_seconds=phoneme.end_seconds + seconds,
    )


def _load_voice(path: Path) -> Voice:
    with np.load(path) as stored:
        samples = stored["samples"].astype(np.float32) / 32767
        ends = np.cumsum(stored["lengths"])
        sounds: list[list[Phoneme]] = [[] for _ in ends]
        for owner, symbol, (start, end) in zip(stored["owners"], stored["symbols"], stored["times"], strict=True):
            sounds[owner].append(Phoneme(symbol=str(symbol), start_seconds=float(start), end_seconds=float(end)))
    spoken = [
        SpokenText(samples=piece, sample_rate_hz=ALIGNED_RATE_HZ, phonemes=tuple(phonemes))
        for piece, phonemes in zip(np.split(samples, ends[:-1]), sounds, strict=True)
    ]
    return Voice(name=path.stem, spoken=tuple(spoken))
