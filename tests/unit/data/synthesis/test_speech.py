# ruff: noqa: RUF001 (phonetic signs are meant)
from __future__ import annotations

import ctypes.util
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.data.synthesis.espeak import EspeakSynthesizer, Voice, espeak_synthesizer
from portraitanim.data.synthesis.flite import FLITE_VOICES, speak_with_flite
from portraitanim.data.synthesis.sound_variation import drawn_out, quiet_sound, stretched, varied_sound, with_vibrato
from portraitanim.data.synthesis.spoken_text import Phoneme, SpokenText
from portraitanim.data.synthesis.visemes import loudness_effort, mouth_track
from portraitanim.errors import PortraitAnimError

needs_espeak = pytest.mark.skipif(
    ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed (apt-get install espeak-ng)"
)
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed (apt-get install flite)")


def said(*symbols: str, seconds: float = 0.16) -> list[Phoneme]:
    return [
        Phoneme(symbol=symbol, start_seconds=index * seconds, end_seconds=(index + 1) * seconds)
        for index, symbol in enumerate(symbols)
    ]


def opening_at(symbols: tuple[str, ...], index: int, effort: float = 1.0) -> float:
    track = mouth_track(said(*symbols), 4 * len(symbols), 25.0, np.full(4 * len(symbols), effort))
    return float(track.opening[4 * index + 1 : 4 * index + 3].mean())


@pytest.mark.parametrize("lips", ["p", "b", "m"])
def test_lips_meet_for_labials_between_open_vowels(lips: str) -> None:
    assert opening_at(("a", lips, "a"), 1) < 0.008 < 0.06 < opening_at(("a", lips, "a"), 0)


def test_open_vowels_open_more_than_close_ones_and_silence_shuts() -> None:
    shapes = ("", "a", "ɛ", "i", "")
    openings = [opening_at(shapes, index) for index in range(5)]
    assert openings[1] > openings[2] > openings[3] > 0.02
    assert max(openings[0], openings[4]) < 0.02


def test_rounded_vowels_narrow_the_mouth_and_spread_ones_widen_it() -> None:
    track = mouth_track(said("u", "i"), 8, 25.0, np.ones(8))
    assert track.width[1] < -0.1 < 0.05 < track.width[6]
    assert track.pout[1] > 0.6


def test_diphthong_moves_through_both_its_vowels() -> None:
    track = mouth_track(said("aɪ", seconds=0.32), 8, 25.0, np.ones(8))
    assert track.opening[2] > track.opening[6] + 0.03


def test_effort_opens_the_mouth_more() -> None:
    assert opening_at(("a",), 0, effort=1.3) == pytest.approx(1.3 * opening_at(("a",), 0), rel=1e-6)


@given(st.lists(st.sampled_from(["", "a", "p", "u", "ʃ", "aɪ", "ˈ", "?"]), min_size=0, max_size=12))
def test_openings_stay_between_shut_and_the_widest_vowel(symbols: list[str]) -> None:
    track = mouth_track(said(*symbols), 30, 25.0, np.ones(30))
    assert (track.opening >= 0).all()
    assert (track.opening <= 0.111).all()


def test_loud_frames_take_more_effort_than_soft_ones() -> None:
    tone = np.sin(np.arange(32000) * 0.2).astype(np.float32)
    tone[:16000] *= 0.05
    effort = loudness_effort(tone, 16000, 50, 25.0)
    assert effort.shape == (50,)
    assert effort[30:].min() > effort[:18].max() + 0.2


@pytest.fixture(scope="module")
def espeak() -> EspeakSynthesizer:
    return espeak_synthesizer()


def check_phonemes(spoken: SpokenText) -> None:
    """Phonemes follow each other without overlap, and vowels sound louder than pauses."""
    for one, two in zip(spoken.phonemes, spoken.phonemes[1:], strict=False):
        assert one.start_seconds < one.end_seconds <= two.start_seconds + 1e-6

    def level(wanted: set[str]) -> float:
        rate = spoken.sample_rate_hz
        parts = [
            spoken.samples[int(p.start_seconds * rate) : int(p.end_seconds * rate)]
            for p in spoken.phonemes
            if set(p.symbol) <= wanted and bool(p.symbol) == bool(wanted)
        ]
        return float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))

    assert level(set("aæʌɑɐːeɪɛioʊuɔ")) > 5 * level(set())
    assert any(p.symbol.startswith("m") for p in spoken.phonemes)


@needs_espeak
def test_espeak_times_its_phonemes(espeak: EspeakSynthesizer) -> None:
    spoken = espeak.speak("My mother, a baker, came home. Maybe.", Voice(name="en-us+f3", words_per_minute=150))
    check_phonemes(spoken)
    assert spoken.phonemes[-1].end_seconds == pytest.approx(len(spoken.samples) / spoken.sample_rate_hz, abs=0.1)


@needs_espeak
def test_unknown_voice_names_the_voice(espeak: EspeakSynthesizer) -> None:
    with pytest.raises(PortraitAnimError, match="klingon-xx"):
        espeak.speak("hello", Voice(name="klingon-xx"))


@needs_flite
def test_flite_times_its_phonemes() -> None:
    check_phonemes(speak_with_flite("My mother, a baker, came home.", FLITE_VOICES[1], 1.0))


def test_variation_keeps_time_and_stays_in_range() -> None:
    rng = np.random.default_rng(0)
    burst = np.zeros(16000, np.float32)
    burst[8000:8800] = np.sin(np.arange(800) * 0.4)
    for _ in range(12):
        sound = varied_sound(burst, 16000, rng)
        assert sound.shape == burst.shape
        assert np.abs(sound).max() <= 1
        power = np.convolve(sound.astype(np.float64) ** 2, np.ones(400), mode="same")
        assert 7800 < power.argmax() < 9400


def test_quiet_is_quiet() -> None:
    rng = np.random.default_rng(0)
    assert max(float(np.sqrt(np.mean(quiet_sound(16000, 16000, rng) ** 2))) for _ in range(20)) < 0.06


def test_slower_speech_is_longer_and_deeper() -> None:
    tone = np.sin(2 * np.pi * 400 * np.arange(16000) / 16000).astype(np.float32)
    slow = stretched(tone, 1.25)
    assert len(slow) == pytest.approx(20000, abs=2)
    spectrum = np.abs(np.fft.rfft(slow))
    assert np.fft.rfftfreq(len(slow), 1 / 16000)[spectrum.argmax()] == pytest.approx(320, abs=2)


def test_drawn_out_speech_is_longer_at_its_pitch() -> None:
    tone = np.zeros(16000, np.float32)
    tone[6000:10000] = np.sin(2 * np.pi * 400 * np.arange(4000) / 16000)
    slow = drawn_out(tone, 16000, np.array([0.0, 1.0]), np.array([0.0, 2.0]))
    assert len(slow) == 32000
    sounding = np.flatnonzero(np.abs(slow) > 0.3)
    assert sounding[0] == pytest.approx(12000, abs=400)
    assert sounding[-1] == pytest.approx(20000, abs=400)
    spectrum = np.abs(np.fft.rfft(slow[12800:19200]))
    assert np.fft.rfftfreq(6400, 1 / 16000)[spectrum.argmax()] == pytest.approx(400, abs=4)


def test_vibrato_moves_the_pitch_and_hardly_the_time() -> None:
    burst = np.zeros(16000, np.float32)
    burst[8000:8800] = np.sin(np.arange(800) * 0.4)
    sung = with_vibrato(burst, 16000, 0.03, 5.0)
    sounding = np.flatnonzero(np.abs(sung) > 0.3)
    assert sounding[0] == pytest.approx(8000, abs=32)
    assert sounding[-1] == pytest.approx(8800, abs=32)
