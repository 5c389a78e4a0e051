"""Synthetic speech with the time of every phoneme, whichever program made it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Phoneme:
    """One speech sound.

    Attributes:
        symbol: in IPA, empty for a pause.
        start_seconds: when it begins.
        end_seconds: when the next begins.
    """

    symbol: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class SpokenText:
    """Sound of a text.

    Attributes:
        samples: float32 ``(samples,)`` in [-1, 1].
        sample_rate_hz: of the samples.
        phonemes: in order, without gaps.
    """

    samples: np.ndarray
    sample_rate_hz: int
    phonemes: tuple[Phoneme, ...]
