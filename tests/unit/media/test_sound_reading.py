"""Sound of any format, whole or in chunks, at any rate."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitanim.errors import InputError, MediaError
from portraitanim.media.audio import iter_audio, load_audio, resample, save_audio, to_mono
from portraitanim.types import AudioTrack
from tests.unit.media.generated_media import tone, write_wav


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_16"}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
    ],
)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_formats_of_soundfile(tmp_path: Path, name: str, options: dict[str, str], num_channels: int) -> None:
    wanted = tone(1.0, 44_100, num_channels)
    got = load_audio(write_wav(tmp_path / name, wanted, **options))
    assert got.sample_rate_hz == 44_100
    assert got.samples.shape == wanted.samples.shape
    middle = slice(4_000, 40_000)  # lossy codecs smear the hard edges of the tone
    error = np.abs(got.samples[:, middle] - wanted.samples[:, middle]).max()
    assert error < (0.03 if name in ("a.ogg", "a.mp3") else 2 / 32768)


@pytest.mark.parametrize("name", ["a.m4a", "a.mkv", "a.mp4"])
def test_formats_that_need_pyav(encode_file: Callable[..., Path], name: str) -> None:
    wanted = tone(1.0, 44_100, 2)
    got = load_audio(encode_file(name, "aac", wanted))
    middle = slice(4_000, 40_000)
    assert np.abs(got.samples[:, middle] - wanted.samples[:, middle]).max() < 0.03  # AAC at its default rate
    if name != "a.mkv":  # Matroska does not say where the encoder's padding starts
        assert got.samples.shape == wanted.samples.shape


def test_sound_of_a_video_starts_with_its_picture(encode_file: Callable[..., Path]) -> None:
    path = encode_file("late.mp4", "aac", tone(0.5, 48_000), delay_seconds=0.2, num_frames=25)
    loud = np.flatnonzero(np.abs(load_audio(path).samples[0]) > 0.1)
    assert abs(loud[0] / 48_000 - 0.2) < 0.005  # the encoder's pre-echo


@settings(max_examples=20)
@given(
    chunk_seconds=st.floats(0.003, 0.7),
    rates=st.sampled_from([(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (16_000, 16_000), (22_050, 44_100)]),
    seconds=st.floats(0.01, 1.2),
)
def test_chunks_joined_equal_load_and_resample(
    tmp_path_factory: pytest.TempPathFactory, chunk_seconds: float, rates: tuple[int, int], seconds: float
) -> None:
    track = tone(seconds, rates[0], 2)
    path = write_wav(tmp_path_factory.mktemp("chunks") / "a.wav", track, subtype="FLOAT")
    chunks = list(iter_audio(path, rates[1], chunk_seconds))
    joined = np.concatenate([chunk.samples for chunk in chunks], axis=1)
    assert np.array_equal(joined, load_audio(path, rates[1]).samples)
    assert np.array_equal(joined, resample(load_audio(path), rates[1]).samples)
    lengths = {chunk.samples.shape[1] for chunk in chunks[:-1]}
    assert lengths <= {max(1, round(chunk_seconds * rates[1]))}


def test_resampling_keeps_time_and_level() -> None:
    track = tone(2.0, 44_100)
    got = resample(track, 16_000)
    wanted = tone(2.0, 16_000)
    assert got.samples.shape == wanted.samples.shape
    assert np.abs(got.samples - wanted.samples)[:, 500:-500].max() < 1e-4  # soxr HQ, away from the hard edges


def test_excerpts_are_exact(tmp_path: Path) -> None:
    track = AudioTrack(samples=np.linspace(-1, 1, 16_000, dtype=np.float32)[None], sample_rate_hz=8_000)
    path = write_wav(tmp_path / "a.wav", track, subtype="FLOAT")
    part = load_audio(path, start_seconds=0.5, duration_seconds=0.25)
    assert np.array_equal(part.samples, track.samples[:, 4_000:6_000])
    with pytest.raises(MediaError, match="--start"):
        load_audio(path, start_seconds=2.0)
    with pytest.raises(InputError):
        load_audio(path, start_seconds=-1.0)


def test_short_excerpt_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_wav(tmp_path / "a.wav", tone(1.0, 8_000))
    with caplog.at_level(logging.WARNING):
        assert load_audio(path, duration_seconds=3.0).duration_seconds == 1.0
    assert "before the 3.00 s" in caplog.text


def test_mono_is_the_mean_of_all_channels(caplog: pytest.LogCaptureFixture) -> None:
    samples = np.array([[0.5, 1.0], [0.1, 0.0]], np.float32)
    assert np.allclose(to_mono(AudioTrack(samples=samples, sample_rate_hz=8_000)).samples, [[0.3, 0.5]])
    opposite = tone(0.1, 8_000, 2).samples * np.array([[1.0], [-1.0]], np.float32)
    to_mono(AudioTrack(samples=opposite, sample_rate_hz=8_000))
    assert "cancel" in caplog.text


def test_samples_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    track = tone(1.0, 8_000)
    track.samples[0, 4_000] = np.nan
    with pytest.raises(MediaError, match="not numbers"):
        load_audio(write_wav(tmp_path / "a.wav", track, subtype="FLOAT"))


def test_integers_stored_as_floats_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.1, 8_000).samples.T * 32768, 8_000, subtype="FLOAT")
    with pytest.raises(MediaError, match="full scale"):
        load_audio(tmp_path / "a.wav")


def test_messages_say_what_is_wrong(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1)), 8_000)
    (tmp_path / "text.mp3").write_text("hello")
    for name, said in {
        "absent.wav": "does not exist",
        ".": "folder",
        "none.wav": "no sound",
        "text.mp3": "cannot be read as sound",
    }.items():
        with pytest.raises(MediaError, match=said):
            load_audio(tmp_path / name)


def test_video_without_sound_is_named_so(real_media: Path) -> None:
    with pytest.raises(MediaError, match="video without sound"):
        load_audio(real_media / "talking" / "echomimic_a_silent.mp4")


def test_play_lists_are_not_followed(tmp_path: Path) -> None:
    write_wav(tmp_path / "secret.wav", tone(1.0, 8_000))
    (tmp_path / "a.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path / 'secret.wav'}\n")
    (tmp_path / "b.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{tmp_path}/secret.wav\n")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(MediaError, match="cannot be read"):
            load_audio(tmp_path / name)


def test_cut_off_wav_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_wav(tmp_path / "a.wav", tone(1.0, 8_000))
    path.write_bytes(path.read_bytes()[:8_044])
    assert load_audio(path).duration_seconds == 0.5
    assert "cut short" in caplog.text


def test_saved_sound_reads_back(tmp_path: Path) -> None:
    track = tone(0.5, 16_000, 2)
    save_audio(track, tmp_path / "a.flac")
    assert np.abs(load_audio(tmp_path / "a.flac").samples - track.samples).max() <= 1 / 32768
    with pytest.raises(MediaError, match="Cannot write sound"):
        save_audio(track, tmp_path / "a.mp3")


def test_all_real_sounds_load(real_media: Path) -> None:
    for path in sorted((real_media / "speech").iterdir()):
        track = load_audio(path, 16_000)
        assert track.sample_rate_hz == 16_000
        assert track.duration_seconds > 2
    talking = load_audio(real_media / "talking" / "liveportrait_d12.mp4")
    assert abs(talking.duration_seconds - 7.313) < 0.001  # as its header says
