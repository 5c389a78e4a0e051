"""Random speech with its phonemes: sentences of common words and of made-up ones, in many voices."""

from __future__ import annotations

import shutil
from typing import Protocol

import numpy as np

from portraitanim.data.synthesis.espeak import Voice, espeak_synthesizer
from portraitanim.data.synthesis.flite import FLITE_VOICES, speak_with_flite
from portraitanim.data.synthesis.speech_words import (
    CODAS,
    LANGUAGES,
    ONSETS,
    PINYIN_LABIAL_RHYMES,
    PINYIN_ONSETS,
    PINYIN_RHYMES,
    SMALL_WORDS,
    VARIANTS,
    VOWELS,
    WORDS,
)
from portraitanim.data.synthesis.spoken_text import SpokenText


class DrawsSpeech(Protocol):
    """Where speech comes from: synthesizers (`SpeechSource`) or recordings (`recorded_speech.RecordedSpeech`)."""

    def draw(self, seconds: float, rng: np.random.Generator) -> tuple[SpokenText, str]:
        """Speech of about this length, and a word on who speaks."""


class SpeechSource:
    """Draws speech. Uses flite's recorded voices beside espeak-ng's where flite is installed.

    Args:
        flite_share: how often flite speaks, where it is there.
    """

    def __init__(self, flite_share: float = 0.4) -> None:
        self._espeak = espeak_synthesizer()
        self._flite_share = flite_share if shutil.which("flite") else 0.0

    def draw(self, seconds: float, rng: np.random.Generator) -> tuple[SpokenText, str]:
        """Speech of about this length, and a word on who speaks."""
        num_words = max(2, round(seconds * rng.uniform(1.7, 2.6)))
        if rng.random() < self._flite_share:
            speaker = str(rng.choice(FLITE_VOICES))
            spoken = speak_with_flite(_english(num_words, rng), speaker, float(rng.uniform(0.75, 1.3)))
            return spoken, f"flite {speaker}"
        language = "en-us" if rng.random() < 0.35 else str(rng.choice(LANGUAGES))
        invented = not language.startswith("en") or rng.random() < 0.3
        text = _invented(num_words, language, rng) if invented else _english(num_words, rng)
        voice_name = language + str(rng.choice(VARIANTS))
        voice = Voice(
            name=voice_name,
            words_per_minute=int(rng.integers(115, 215)),
            pitch=int(rng.integers(15, 85)),
            pitch_range=int(rng.integers(25, 90)),
        )
        return self._espeak.speak(text, voice), f"espeak-ng {voice_name}"


def _english(num_words: int, rng: np.random.Generator) -> str:
    words = [str(rng.choice(SMALL_WORDS if rng.random() < 0.25 else WORDS)) for _ in range(num_words)]
    return _with_pauses(words, rng)


def _invented(num_words: int, language: str, rng: np.random.Generator) -> str:
    def word() -> str:
        syllables = range(rng.integers(1, 4))
        return "".join(str(rng.choice(ONSETS)) + str(rng.choice(VOWELS)) + str(rng.choice(CODAS)) for _ in syllables)

    if language == "cmn":  # espeak-ng reads pinyin, one syllable with its tone at a time
        return _with_pauses([_pinyin(rng) for _ in range(2 * num_words)], rng)
    return _with_pauses([word() for _ in range(num_words)], rng)


def _pinyin(rng: np.random.Generator) -> str:
    onset = str(rng.choice(PINYIN_ONSETS))
    rhyme = rng.choice(PINYIN_LABIAL_RHYMES if onset in ("b", "p", "m", "f") else PINYIN_RHYMES)
    return f"{onset}{rhyme}{rng.integers(1, 5)}"


def _with_pauses(words: list[str], rng: np.random.Generator) -> str:
    marks = rng.choice(["", ",", "."], len(words), p=[0.84, 0.11, 0.05])
    return " ".join(word + str(mark) for word, mark in zip(words, marks, strict=True)).rstrip(",.") + "."
