from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitanim.errors import MissingWeightsError, ShapeError
from portraitanim.findings import CheckReport
from portraitanim.media import speech_detection
from portraitanim.media.audio import load_audio, resample, save_audio
from portraitanim.media.audio_levels import LevelMeter, measure_levels
from portraitanim.media.sound_check import check_sound
from portraitanim.media.speech_detection import WINDOW_SAMPLES, SpeechDetector
from portraitanim.types import AudioTrack
from tests.unit.media.generated_media import tone

# What a person should hear of the sound of each talking video; None: it has none at all. These are four films with
# music, three whose track is empty, and one clean recording.
TALKING = {
    "liveportrait_d10.mp4": ("yes with care", {"speech", "speech above background"}),
    "liveportrait_d11.mp4": ("yes", set()),
    "liveportrait_d12.mp4": ("yes with care", {"speech", "speech above background"}),
    "liveportrait_d18.mp4": ("no", {"loudness", "speech"}),
    "liveportrait_d19.mp4": ("no", {"loudness", "speech"}),
    "liveportrait_d20.mp4": ("yes", set()),
    "liveportrait_d3.mp4": ("no", {"loudness", "speech"}),
    "liveportrait_d6.mp4": ("yes with care", {"speech", "speech above background"}),
}


def concerns(report: CheckReport) -> set[str]:
    return {finding.name for finding in report.concerns}


@pytest.fixture
def speech(real_media: Path) -> AudioTrack:
    return load_audio(real_media / "speech" / "echomimic_mei.wav", 16_000)


def changed(track: AudioTrack, samples: np.ndarray) -> AudioTrack:
    return AudioTrack(samples=samples.astype(np.float32), sample_rate_hz=track.sample_rate_hz)


def test_every_speech_file_is_fit(real_media: Path) -> None:
    reports = {path.name: check_sound(path) for path in sorted((real_media / "speech").iterdir())}
    assert {name: (report.overall, concerns(report)) for name, report in reports.items()} == {
        name: ("yes", set()) for name in reports
    }
    assert len(reports) == 11


def test_sound_of_films_is_judged_as_people_hear_it(real_media: Path) -> None:
    reports = {name: check_sound(real_media / "talking" / name) for name in TALKING}
    assert {name: (report.overall, concerns(report)) for name, report in reports.items()} == TALKING


@pytest.mark.parametrize("track", [tone(3.0, 16_000), tone(3.0, 44_100, 2)])
def test_tone_is_not_taken_for_speech(track: AudioTrack) -> None:
    report = check_sound(track)
    assert report.overall == "no"
    assert report["speech"].verdict == "bad"
    assert "Nobody is heard" in report["speech"].advice
    assert report["speech above background"].verdict == "not measured"


def test_silence_is_refused_and_is_valid_json() -> None:
    report = check_sound(AudioTrack(samples=np.zeros((1, 32_000), np.float32), sample_rate_hz=16_000))
    assert report.overall == "no"
    text = json.dumps(report.to_dict(), allow_nan=False)
    levels = {finding["name"]: finding["value"] for finding in json.loads(text)["findings"]}
    assert levels["loudness"] is None
    assert levels["duration"] == 2.0


def test_quiet_speech_is_noticed(speech: AudioTrack) -> None:
    report = check_sound(changed(speech, speech.samples * 0.03))
    assert concerns(report) == {"loudness"}
    assert report["loudness"].verdict == "warn"


def test_overdriven_speech_is_noticed(speech: AudioTrack) -> None:
    report = check_sound(changed(speech, np.clip(speech.samples * 15, -1, 1)))
    assert "clipping" in concerns(report)
    assert report["speech"].verdict == "ok"


def test_long_silence_around_speech_is_noticed(speech: AudioTrack) -> None:
    silence = np.zeros((1, 48_000), np.float32)
    report = check_sound(changed(speech, np.concatenate([silence, speech.samples, silence], axis=1)))
    assert concerns(report) == {"leading silence", "trailing silence"}
    assert report["leading silence"].value == pytest.approx(3.2, abs=0.1)  # the file begins with 0.19 s of its own


def test_music_behind_speech_is_noticed(speech: AudioTrack) -> None:
    time = np.arange(speech.samples.shape[1]) / 16_000
    chord = sum(np.sin(2 * np.pi * hertz * time) for hertz in (220, 277.2, 329.6, 440)) / 4
    beat = 0.6 + 0.4 * np.sign(np.sin(2 * np.pi * 2 * time))
    report = check_sound(changed(speech, np.clip(speech.samples * 0.5 + 0.25 * chord * beat, -1, 1)))
    assert "speech above background" in concerns(report)
    assert "--separate-vocals" in report["speech above background"].advice


def test_telephone_sound_is_noticed(speech: AudioTrack) -> None:
    report = check_sound(resample(speech, 8_000))
    assert "sample rate" in concerns(report)
    assert report["speech"].verdict == "ok"


def test_file_and_track_are_judged_alike(speech: AudioTrack, tmp_path: Path) -> None:
    save_audio(speech, tmp_path / "speech.wav")
    from_file, from_track = check_sound(tmp_path / "speech.wav"), check_sound(speech)
    for one, other in zip(from_file.findings, from_track.findings, strict=True):
        assert (one.name, one.verdict) == (other.name, other.verdict)
        assert one.value == pytest.approx(other.value, abs=0.5)  # the file is rounded to 16 bits


def test_excerpt_of_a_file_is_judged(real_media: Path) -> None:
    path = real_media / "speech" / "hallo_1.wav"
    report = check_sound(path, start_seconds=1.0, duration_seconds=3.0)
    assert report["duration"].value == pytest.approx(3.0)


def test_memory_does_not_grow_with_the_sound(tmp_path: Path) -> None:
    peaks = []
    for seconds in (20, 80):
        save_audio(tone(seconds, 16_000), tmp_path / "tone.wav")
        tracemalloc.start()
        check_sound(tmp_path / "tone.wav")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The sound itself is 3.8 MB longer, and a piece of it takes half a megabyte.
    assert peaks[1] < peaks[0] + 500_000


@settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(0, 30_000), max_size=5),
    rate_hz=st.sampled_from([8_000, 11_025, 22_050, 48_000]),
    num_samples=st.integers(0, 30_000),
)
def test_levels_do_not_depend_on_the_pieces(cuts: list[int], rate_hz: int, num_samples: int) -> None:
    samples = np.random.default_rng(num_samples).normal(size=(2, num_samples)).astype(np.float32) * 0.3
    samples[:, : num_samples // 3] *= 1e-4
    meter = LevelMeter(rate_hz, 2)
    for piece in np.split(samples, sorted(min(cut, num_samples) for cut in cuts), axis=1):
        meter.add(piece)
    whole, pieces = measure_levels(AudioTrack(samples=samples, sample_rate_hz=rate_hz)), meter.result()
    for name, value in vars(whole).items():
        assert getattr(pieces, name) == pytest.approx(value, rel=1e-9), name


@settings(max_examples=10)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=6))
def test_speech_does_not_depend_on_the_pieces(cuts: list[int]) -> None:
    samples = np.random.default_rng(0).normal(size=20_000).astype(np.float32) * 0.2
    detector = SpeechDetector()
    stream = detector.stream()
    pieces = np.concatenate([stream.add(piece) for piece in np.split(samples, sorted(cuts))])
    np.testing.assert_allclose(pieces, detector.probabilities(samples), atol=1e-5)


def test_speech_probabilities_are_those_of_the_published_step_by_step_network(
    real_media: Path, speech: AudioTrack
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(real_media.parent / "weights" / "silero_vad.onnx"), providers=["CPUExecutionProvider"]
    )
    samples = speech.samples[0, : 60 * WINDOW_SAMPLES]
    state, context, expected = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32), []
    for window in samples.reshape(-1, 1, WINDOW_SAMPLES):
        inputs = {"input": np.concatenate([context, window], 1), "state": state, "sr": np.array(16_000)}
        probability, state = session.run(None, inputs)
        context = window[:, -64:]
        expected.append(probability.item())
    assert max(expected) > 0.9
    np.testing.assert_allclose(SpeechDetector().probabilities(samples), expected, atol=1e-4)


def test_missing_network_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_detection, "_NETWORK", "absent.onnx")
    with pytest.raises(MissingWeightsError, match="pip install"):
        SpeechDetector()


def test_stereo_is_refused_by_the_detector() -> None:
    with pytest.raises(ShapeError, match=r"float32 \(samples,\)"):
        SpeechDetector().stream().add(np.zeros((2, 512), np.float32))
