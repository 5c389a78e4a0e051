# ruff: noqa: RUF001 (phonetic signs are meant)
"""Recorded voices: which recordings there are, when each sound is heard, and how speech is drawn from them."""

from __future__ import annotations

import ctypes.util
import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from portraitanim.data.synthesis.backgrounds import Backgrounds
from portraitanim.data.synthesis.espeak import espeak_synthesizer
from portraitanim.data.synthesis.flite import speak_with_flite
from portraitanim.data.synthesis.phone_alignment import PhoneAligner, english_phones
from portraitanim.data.synthesis.recorded_speech import RecordedSpeech, Voice, align_voices, load_voices, save_voice
from portraitanim.data.synthesis.recordings import Recording, asterisk_recordings, tuxpaint_recordings
from portraitanim.data.synthesis.sound_variation import stretched
from portraitanim.data.synthesis.speech_set import spoken_clips
from portraitanim.data.synthesis.spoken_text import Phoneme, SpokenText
from portraitanim.errors import InputError, PortraitAnimError

needs_espeak = pytest.mark.skipif(
    ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed (apt-get install espeak-ng)"
)
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed (apt-get install flite)")
needs_pocketsphinx = pytest.mark.skipif(
    importlib.util.find_spec("pocketsphinx") is None, reason="pocketsphinx is not installed (pip install pocketsphinx)"
)


def tone(seconds: float, hertz: float = 300.0, rate_hz: int = 16000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate_hz, (samples * 32767).astype(np.int16))


def made_up_voice(name: str, num_recordings: int = 3) -> Voice:
    """Each recording is a second: a pause of 0.2 s, then an open vowel."""
    vowel = np.concatenate([np.zeros(3200, np.float32), tone(0.8)])
    phonemes = (
        Phoneme(symbol="", start_seconds=0.0, end_seconds=0.2),
        Phoneme(symbol="a", start_seconds=0.2, end_seconds=1.0),
    )
    spoken = SpokenText(samples=vowel, sample_rate_hz=16000, phonemes=phonemes)
    return Voice(name=name, spoken=(spoken,) * num_recordings)


def test_stamps_are_found_with_the_text_of_their_language(tmp_path: Path) -> None:
    (tmp_path / "frog.txt").write_text("A frog.\nfr.utf8=Une grenouille.\nbe.utf8=Жаба.\nes.utf8=\n", encoding="utf-8")
    for name in ("frog_desc.ogg", "frog_desc_fr.ogg", "frog_desc_be.ogg", "frog_desc_es.ogg", "frog.ogg"):
        (tmp_path / name).touch()
    found = {(each.voice, each.text, each.language) for each in tuxpaint_recordings(tmp_path)}
    assert found == {("tuxpaint-en", "A frog.", "en-us"), ("tuxpaint-fr", "Une grenouille.", "fr")}


def test_asterisk_numbers_are_taken_once_and_in_the_better_format(tmp_path: Path) -> None:
    digits = tmp_path / "it_IT_m_Carlo" / "digits"
    digits.mkdir(parents=True)
    for name in ("12.wav", "12.g722", "12.gsm", "3.gsm", "day-0.wav"):
        (digits / name).touch()
    found = [(each.path.name, each.text, each.language) for each in asterisk_recordings(tmp_path)]
    assert found == [("12.g722", "12", "it"), ("3.gsm", "3", "it")]


@pytest.mark.parametrize("find", [tuxpaint_recordings, asterisk_recordings])
def test_folder_without_recordings_names_the_package(find, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="apt-get install"):
        list(find(tmp_path))


@pytest.mark.parametrize(
    ("sound", "phones"),
    [("ˈaɪ", "AY"), ("tʃ", "CH"), ("ts", "T S"), ("ɛ̃", "EH"), ("ʁ", "R"), ("ʔ", ""), ("uː", "UW"), ("ˈɔa", "AO AA")],
)
def test_sounds_are_sought_as_the_nearest_english_ones(sound: str, phones: str) -> None:
    assert english_phones(sound) == phones.split()


def test_missing_aligner_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(PortraitAnimError, match="pip install pocketsphinx"):
        PhoneAligner()


@needs_espeak
def test_espeak_pronounces_word_by_word() -> None:
    words = espeak_synthesizer().pronounce("A frog, my map.", "en-us")
    assert len(words) == 4
    assert words[3][0] == "m"
    assert words[3][-1] == "p"


@needs_espeak
@needs_flite
@needs_pocketsphinx
def test_sounds_of_a_recorded_voice_are_found_to_a_frame_of_video() -> None:
    text = "My mother, a baker, came home."
    spoken = speak_with_flite(text, "slt", 1.0)
    samples = stretched(spoken.samples, 16000 / spoken.sample_rate_hz)
    alignment = PhoneAligner().align(samples, espeak_synthesizer().pronounce(text, "en-us"))
    assert alignment is not None
    for one, two in zip(alignment.phonemes, alignment.phonemes[1:], strict=False):
        assert one.start_seconds < one.end_seconds == two.start_seconds

    def starts(phonemes: tuple[Phoneme, ...]) -> list[float]:
        return [each.start_seconds for each in phonemes if each.symbol in ("m", "b", "p", "k")]

    np.testing.assert_allclose(starts(alignment.phonemes), starts(spoken.phonemes), atol=0.04)


@needs_espeak
@needs_pocketsphinx
def test_recordings_of_another_text_are_left_out(tmp_path: Path) -> None:
    write_wav(tmp_path / "hum.wav", tone(0.3))
    text = "A very long text that nobody could read in so short a time."
    with pytest.raises(InputError, match="No recording fits"):
        align_voices([Recording(voice="hum", path=tmp_path / "hum.wav", text=text, language="en-us")])


def test_voices_are_read_as_they_were_written(tmp_path: Path) -> None:
    save_voice(made_up_voice("one"), tmp_path)
    save_voice(made_up_voice("two", 2), tmp_path)
    one, two = load_voices(tmp_path)
    assert (one.name, len(one.spoken), len(two.spoken)) == ("one", 3, 2)
    assert one.spoken[1].phonemes == made_up_voice("one").spoken[1].phonemes
    np.testing.assert_allclose(one.spoken[2].samples, made_up_voice("one").spoken[2].samples, atol=1e-4)
    assert [voice.name for voice in load_voices(tmp_path, ["one"])] == ["two"]
    assert [voice.name for voice in load_voices(tmp_path, only="one")] == ["one"]


def test_unknown_voice_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    save_voice(made_up_voice("one"), tmp_path)
    with pytest.raises(InputError, match="no voice two; it has one"):
        load_voices(tmp_path, ["two"])


def test_drawn_speech_is_loud_where_its_sounds_are() -> None:
    spoken, speaker = RecordedSpeech([made_up_voice("one")]).draw(6.0, np.random.default_rng(0))
    assert speaker == "one"
    assert len(spoken.samples) >= 6 * 16000
    for phoneme in spoken.phonemes:
        first, last = (round(moment * 16000) for moment in (phoneme.start_seconds, phoneme.end_seconds))
        level = np.abs(spoken.samples[first + 80 : last - 80]).mean()
        assert (level > 0.01) == bool(phoneme.symbol)
    assert all(
        one.end_seconds == pytest.approx(two.start_seconds, abs=1e-3)
        for one, two in zip(spoken.phonemes, spoken.phonemes[1:], strict=False)
    )


def test_backgrounds_have_unit_level_and_repeat_when_short(tmp_path: Path) -> None:
    write_wav(tmp_path / "short.wav", tone(0.1))
    piece = Backgrounds([tmp_path], 16000).draw(16000, np.random.default_rng(0))
    assert piece.shape == (16000,)
    assert piece.std() == pytest.approx(1.0, abs=0.01)


def test_folder_without_background_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sound file"):
        Backgrounds([tmp_path], 16000)


def test_clips_of_background_alone_keep_the_mouth_shut(tmp_path: Path) -> None:
    write_wav(tmp_path / "hiss.wav", np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32))
    source = RecordedSpeech([made_up_voice("one")])
    clips = list(spoken_clips(source, 40, 50, 0, Backgrounds([tmp_path], 16000)))
    shut = [clip for clip in clips if not clip.mouth.any()]
    assert 0 < len(shut) < 12
    assert any(clip.states.mean() > -0.8 for clip in shut)
    assert all(clip.mouth[:, 0].max() > 0.03 for clip in clips if clip.mouth.any())
