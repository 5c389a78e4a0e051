"""Loudness, clipping and silence of a recording."""

from __future__ import annotations

import math

import numpy as np
import pytest

from portraitanim.media.audio_levels import measure_levels
from portraitanim.types import AudioTrack
from tests.unit.media.generated_media import tone


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_loudness_of_the_reference_tone(rate_hz: int) -> None:
    # BS.1770-4: a full-scale 997 Hz sine in one channel reads -3.01 LKFS; ours is half as high, 6.02 dB less.
    assert measure_levels(tone(2.0, rate_hz, hertz=997.0)).loudness_lufs == pytest.approx(-9.03, abs=0.05)
    assert measure_levels(tone(2.0, rate_hz, 2, hertz=997.0)).loudness_lufs == pytest.approx(-6.02, abs=0.05)


def test_long_silence_does_not_lower_the_loudness() -> None:
    speech = tone(2.0, 16_000).samples
    gapped = np.concatenate([speech, np.zeros((1, 160_000), np.float32)], axis=1)
    whole = measure_levels(AudioTrack(samples=speech, sample_rate_hz=16_000)).loudness_lufs
    loudness = measure_levels(AudioTrack(samples=gapped, sample_rate_hz=16_000)).loudness_lufs
    # Within the blocks that lie half over the edge.
    assert loudness == pytest.approx(whole, abs=0.6)


def test_levels_of_a_tone_between_silences() -> None:
    silence = np.zeros((1, 8_000), np.float32)
    samples = np.concatenate([silence, tone(1.0, 16_000).samples, silence, silence], axis=1)
    levels = measure_levels(AudioTrack(samples=samples, sample_rate_hz=16_000))
    assert levels.peak == pytest.approx(0.5, abs=1e-3)
    assert levels.leading_silence_seconds == pytest.approx(0.5, abs=0.01)  # frames of 10 ms
    assert levels.trailing_silence_seconds == pytest.approx(1.0, abs=0.01)
    assert levels.silent_fraction == pytest.approx(0.6, abs=0.01)
    assert levels.clipped_fraction == 0
    assert levels.rms_dbfs == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)) + 10 * math.log10(0.4), abs=0.01)


def test_clipping_is_counted() -> None:
    samples = np.clip(tone(1.0, 16_000).samples * 4, -1, 1)
    # |sin| > 1/2 for two thirds of the time.
    levels = measure_levels(AudioTrack(samples=samples, sample_rate_hz=16_000))
    assert levels.clipped_fraction == pytest.approx(2 / 3, abs=0.01)


def test_silence_has_no_level() -> None:
    levels = measure_levels(AudioTrack(samples=np.zeros((2, 8_000), np.float32), sample_rate_hz=8_000))
    assert levels.rms_dbfs == levels.loudness_lufs == -math.inf
    assert levels.leading_silence_seconds == levels.trailing_silence_seconds == 1.0
    assert levels.silent_fraction == 1.0
