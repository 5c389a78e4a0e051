# ruff: noqa: RUF001 (phonetic signs are meant)
"""Mouth shapes over time from phonemes: each pulls the mouth to its target, neighbours blend (coarticulation)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from portraitanim.data.synthesis.spoken_text import Phoneme


class Viseme(NamedTuple):
    """The mouth of one speech sound.

    Attributes:
        opening: gap between the inner lips in face widths.
        width: change of the mouth's width, as a share of it.
        pout: lips pushed forward, in [0, 1].
        weight: how much it insists against its neighbours.
        closure: 1 where the lips must meet, whatever the neighbours say.
    """

    opening: float
    width: float = 0.0
    pout: float = 0.0
    weight: float = 1.0
    closure: float = 0.0


_REST = Viseme(0.0, weight=0.9)
_TABLE: dict[str, Viseme] = {
    **dict.fromkeys("aɑæɐʌä", Viseme(0.110, 0.02, 0.0, 1.2)),
    **dict.fromkeys("ɛeε", Viseme(0.072, 0.08, 0.0, 1.1)),
    **dict.fromkeys("əɜɚɵɘ", Viseme(0.055, 0.0, 0.1, 0.7)),
    **dict.fromkeys("iɪɨᵻ", Viseme(0.040, 0.13, 0.0, 1.1)),
    **dict.fromkeys("oɔɒ", Viseme(0.080, -0.15, 0.6, 1.2)),
    **dict.fromkeys("uʊʉɯɤ", Viseme(0.038, -0.24, 1.0, 1.2)),
    **dict.fromkeys("yøœʏ", Viseme(0.045, -0.20, 0.9, 1.2)),
    **dict.fromkeys("pbmβɓɸ", Viseme(0.0, 0.0, 0.1, 1.3, 1.0)),
    **dict.fromkeys("fvʋɱ", Viseme(0.012, 0.02, 0.0, 1.5)),
    **dict.fromkeys("θð", Viseme(0.030, 0.03, 0.0, 0.8)),
    **dict.fromkeys("tdnszɾɲcɟʈɖɳ", Viseme(0.026, 0.05, 0.0, 0.7)),
    **dict.fromkeys("lɫrɽɭɬ", Viseme(0.042, 0.02, 0.0, 0.6)),
    **dict.fromkeys("ʃʒɕʑʂʐ", Viseme(0.034, -0.13, 0.8, 1.1)),
    **dict.fromkeys("kɡgŋxɣqhʁχɦʔ", Viseme(0.042, 0.0, 0.0, 0.35)),
    **dict.fromkeys("ɹɻ", Viseme(0.036, -0.12, 0.5, 0.8)),
    **dict.fromkeys("wɥʍ", Viseme(0.020, -0.26, 1.0, 1.2)),
    **dict.fromkeys("jʎçʝ", Viseme(0.030, 0.09, 0.0, 0.8)),
}

_VOWELS = frozenset("aɑæɐʌäɛeεəɜɚɵɘiɪɨᵻoɔɒuʊʉɯɤyøœʏ")

_ANTICIPATION_SECONDS = 0.02
"""The mouth is in place a little before its sound is heard."""

_REACH_SHARE, _MIN_REACH_SECONDS = 0.62, 0.042
"""A sound's pull falls to 1/e at this share of its duration from its middle, and no sooner than this."""

_CLOSURE_SECONDS = 0.028
"""Half the time for which lips are shut around the middle of p, b or m, at least."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MouthTrack:
    """The mouth over time, each ``(frames,)``.

    Attributes:
        opening: gap between the inner lips in face widths.
        width: change of the mouth's width, as a share.
        pout: in [0, 1].
    """

    opening: np.ndarray
    width: np.ndarray
    pout: np.ndarray


def is_vowel(phoneme: Phoneme) -> bool:
    """Whether a sound can be held with an open mouth."""
    return any(sign in _VOWELS for sign in phoneme.symbol)


def single_sounds(phonemes: Sequence[Phoneme]) -> list[tuple[Viseme, float, float]]:
    """Split diphthongs and affricates into their parts: viseme, start and end in seconds.

    Length, stress, tone and nasal marks shape no mouth and are passed over.
    """
    sounds = []
    for phoneme in phonemes:
        parts = [_TABLE[sign] for sign in phoneme.symbol if sign in _TABLE] or [_REST]
        step = (phoneme.end_seconds - phoneme.start_seconds) / len(parts)
        for index, viseme in enumerate(parts):
            start = phoneme.start_seconds + index * step
            sounds.append((viseme, start, start + step))
    return sounds


def mouth_track(phonemes: Sequence[Phoneme], num_frames: int, fps: float, effort: np.ndarray) -> MouthTrack:
    """Blend the visemes with falling dominance around the middle of each sound (Cohen and Massaro 1993).

    Args:
        phonemes: in order.
        num_frames: of the video.
        fps: frames per second.
        effort: ``(frames,)``, factor on openings: loud and clear speech opens the mouth more.

    Returns:
        The track; before the first and after the last phoneme the mouth rests.
    """
    sounds = single_sounds(phonemes)
    begin = sounds[0][1] if sounds else 0.0
    end = sounds[-1][2] if sounds else 0.0
    sounds = [(_REST, begin - 2.0, begin), *sounds, (_REST, end, max(end, num_frames / fps) + 2.0)]
    opening, width, pout, weight, closure = np.array([viseme for viseme, _, _ in sounds]).T
    starts, ends = np.array([sound[1:] for sound in sounds]).T
    seconds = (np.arange(num_frames) + 0.5) / fps + _ANTICIPATION_SECONDS
    middle, half = (starts + ends) / 2, (ends - starts) / 2
    # Long sounds hold a plateau: distance counts from their inner half.
    outside = np.maximum(np.abs(seconds[:, None] - middle) - 0.5 * half, 0)
    reach = np.clip(_REACH_SHARE * half, _MIN_REACH_SECONDS, 0.09)
    pull = weight * np.exp(-((outside / reach) ** 1.4)) + 1e-9
    pull /= pull.sum(1, keepdims=True)
    shut = np.exp(-((np.maximum(np.abs(seconds[:, None] - middle) - _CLOSURE_SECONDS, 0) / 0.022) ** 2))
    closed = (shut * closure).max(1)
    return MouthTrack(opening=pull @ opening * effort * (1 - closed), width=pull @ width, pout=pull @ pout)


def loudness_effort(samples: np.ndarray, sample_rate_hz: int, num_frames: int, fps: float) -> np.ndarray:
    """How much more than usual a speaker opens the mouth, from the loudness: about 0.7 to 1.3, ``(frames,)``."""
    edges = np.round(np.arange(num_frames + 1) * sample_rate_hz / fps).astype(int)
    padded = np.pad(samples, (0, max(0, edges[-1] - len(samples))))
    power = np.array([np.mean(padded[a:b].astype(np.float64) ** 2) for a, b in itertools.pairwise(edges)])
    smooth = np.convolve(np.pad(power, 3, mode="edge"), np.full(7, 1 / 7), mode="valid")
    decibels = 10 * np.log10(smooth + 1e-8)
    below_loudest = np.clip((decibels - np.percentile(decibels, 95)) / 18, -1, 0.3)
    effort: np.ndarray = 1.15 + 0.5 * below_loudest
    return effort
