"""Random speech with its phonemes: sentences of common words and of made-up ones, in many voices."""

from __future__ import annotations

import shutil

import numpy as np

from portraitanim.data.synthesis.espeak import EspeakSynthesizer, Voice
from portraitanim.data.synthesis.flite import FLITE_VOICES, speak_with_flite
from portraitanim.data.synthesis.spoken_text import SpokenText

_WORDS = (
    "people time about water morning house mother father music paper beautiful summer winter because between "
    "moment problem problem number maybe family money member bottle people happy apple open visit five seven "
    "evening river famous often office coffee travel voice love above over never ever have give move leave "
    "world work word would woman window always away away quick question quiet queen swim sweet tower flower "
    "shoe should sugar show fish push wash change chair teacher picture nature jump judge orange bridge vision "
    "thing think thank three through both mouth south teeth this that these other weather together breathe "
    "look book good food moon soon room blue true you few new music use huge cute school fruit juice group "
    "go no so home phone road boat coat slow low know open over old cold gold boy voice enjoy point noise "
    "day say way make take name place rain train wait great eight they my sky fly high light night right time "
    "eye car far start dark heart father star hard large bar yard park cat man hand black back happy family bad "
    "red head bread said friend end tell well help best west see tree green sea eat read feel sleep week people "
    "big sit milk city busy give live still little bring spring sing king long song strong wrong young hung "
    "dog hot stop not box watch water want law saw talk walk fall ball tall more door four horse short north "
    "sun cup love come some mother brother money run fun much such bus butter but hello yes please sorry today "
    "yesterday tomorrow tonight remember forget believe understand amazing wonderful important different "
    "information development government probably possibly absolutely everybody somebody nobody maybe baby bubble"
).split()
_SMALL_WORDS = "the a and of to in is was for on with as at by from or but if we he she they it my your his her".split()

_LANGUAGES = (
    *("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "de", "fr", "es", "it", "pt-br", "pl", "nl", "sv", "ro"),
    *("cs", "tr", "fi", "hu", "id", "sw", "da", "cmn"),
)
_VARIANTS = (
    *("", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+m8", "+f1", "+f2", "+f3", "+f4", "+f5"),
    *("+klatt", "+klatt2", "+klatt3", "+klatt4", "+Andy", "+Annie", "+linda", "+max", "+steph", "+michel", "+adam"),
    *("+belinda", "+john", "+victor", "+paul", "+Alicia", "+rob", "+ed", "+Denis", "+anika"),
)
_ONSETS = "b p m f v w t d n s l r k g h z sh ch y bl pr st tr fl sp br pl".split()
_VOWELS = "a e i o u a e i o u ai ou ei".split()
_CODAS = ["", "", "", "n", "m", "s", "l", "r", "t", "p", "f"]


class SpeechSource:
    """Draws speech. Uses flite's recorded voices beside espeak-ng's where flite is installed.

    Args:
        flite_share: how often flite speaks, where it is there.
    """

    def __init__(self, flite_share: float = 0.4) -> None:
        self._espeak = EspeakSynthesizer()
        self._flite_share = flite_share if shutil.which("flite") else 0.0

    def draw(self, seconds: float, rng: np.random.Generator) -> tuple[SpokenText, str]:
        """Speech of about this length, and a word on who speaks."""
        num_words = max(2, round(seconds * rng.uniform(1.7, 2.6)))
        if rng.random() < self._flite_share:
            voice = str(rng.choice(FLITE_VOICES))
            return speak_with_flite(_english(num_words, rng), voice, float(rng.uniform(0.75, 1.3))), f"flite {voice}"
        language = "en-us" if rng.random() < 0.35 else str(rng.choice(_LANGUAGES))
        invented = not language.startswith("en") or rng.random() < 0.3
        text = _invented(num_words, language, rng) if invented else _english(num_words, rng)
        voice_name = language + str(rng.choice(_VARIANTS))
        voice = Voice(
            name=voice_name,
            words_per_minute=int(rng.integers(115, 215)),
            pitch=int(rng.integers(15, 85)),
            pitch_range=int(rng.integers(25, 90)),
        )
        return self._espeak.speak(text, voice), f"espeak-ng {voice_name}"


def _english(num_words: int, rng: np.random.Generator) -> str:
    words = [str(rng.choice(_SMALL_WORDS if rng.random() < 0.25 else _WORDS)) for _ in range(num_words)]
    return _with_pauses(words, rng)


def _invented(num_words: int, language: str, rng: np.random.Generator) -> str:
    def word() -> str:
        syllables = range(rng.integers(1, 4))
        text = "".join(str(rng.choice(_ONSETS)) + str(rng.choice(_VOWELS)) + str(rng.choice(_CODAS)) for _ in syllables)
        return text + str(rng.integers(1, 5)) if language == "cmn" else text

    if language == "cmn":  # espeak-ng reads pinyin, one syllable with its tone at a time
        return _with_pauses([_pinyin(rng) for _ in range(2 * num_words)], rng)
    return _with_pauses([word() for _ in range(num_words)], rng)


def _pinyin(rng: np.random.Generator) -> str:
    onset = rng.choice("b p m f d t n l g k h zh ch sh".split())
    rhyme = rng.choice("a ai an ang ao ou ong u uo".split() if onset not in ("b", "p", "m", "f") else ["a", "o", "u"])
    return f"{onset}{rhyme}{rng.integers(1, 5)}"


def _with_pauses(words: list[str], rng: np.random.Generator) -> str:
    marks = rng.choice(["", ",", "."], len(words), p=[0.84, 0.11, 0.05])
    return " ".join(word + str(mark) for word, mark in zip(words, marks, strict=True)).rstrip(",.") + "."
