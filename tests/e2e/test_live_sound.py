"""Frames while the sound still arrives, from Python and from stdin."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from portraitanim.checkpoints.animators import open_animator
from portraitanim.cli.app import run
from portraitanim.config.animation import AnimationOptions
from portraitanim.errors import ConfigError, InputError, MediaError
from portraitanim.media.audio import load_audio
from portraitanim.media.live_sound import LiveSound
from portraitanim.media.video import probe_video
from portraitanim.pipelines.animator import Animator
from tests.examples import PORTRAIT, SPEECH

RATE_HZ = 16000


@pytest.fixture(scope="module")
def tiny(weights: Path) -> Animator:
    return open_animator(str(weights / "tiny"), device="cpu", dtype="fp32", cache=False)


@pytest.fixture(scope="module")
def echomimic(weights: Path) -> Animator:
    return open_animator(str(weights / "echomimic"), device="cpu", dtype="fp32", cache=False)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """A second of 16-bit speech."""
    samples = load_audio(SPEECH, RATE_HZ, duration_seconds=1.0).samples[0]
    return (samples * 32767).round().astype(np.int16)


class Microphone:
    """Gives sound in small chunks, and takes down how far it was asked for."""

    def __init__(self, samples: np.ndarray, size: int = 160) -> None:
        self._samples, self._size = samples, size
        self.seconds = 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._samples), self._size):
            chunk = self._samples[start : start + self._size]
            self.seconds += len(chunk) / RATE_HZ
            yield chunk


def test_frames_are_those_of_the_file_and_come_before_the_sound_goes_on(
    tiny: Animator, speech: np.ndarray, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", speech, RATE_HZ)
    whole = np.stack(list(tiny.stream(PORTRAIT, tmp_path / "a.wav")))
    microphone = Microphone(speech)
    made = []
    for number, frame in enumerate(tiny.stream_live(PORTRAIT, microphone, RATE_HZ)):
        made.append(frame)
        clip_end = (number // 4 + 1) * 4
        # A clip of four frames, two frames that the last of them hears, and 17.5 ms of transform and chunk.
        assert microphone.seconds <= (clip_end + 2) / 25 + 0.018
    assert np.array_equal(np.stack(made), whole), "bit for bit"
    assert len(whole) == 25


def test_tensors_and_other_rates_are_read(tiny: Animator, speech: np.ndarray) -> None:
    stereo = torch.from_numpy(np.repeat(speech, 3)[None].repeat(2, axis=0).astype(np.float32) / 32768)
    frames = list(tiny.stream_live(PORTRAIT, stereo[:, :24_000].split(1000, dim=1), 48_000))
    assert len(frames) == 13


def test_windows_of_echomimic_run_on_with_the_sound(echomimic: Animator, speech: np.ndarray) -> None:
    microphone = Microphone(np.tile(speech, 2))
    frames = echomimic.stream_live(PORTRAIT, microphone, RATE_HZ)
    next(frames)
    assert microphone.seconds < 0.6, "of two seconds"
    assert len(list(frames)) == 47


def test_sound_without_a_rate_is_refused(tiny: Animator, speech: np.ndarray) -> None:
    with pytest.raises(InputError, match="sample_rate_hz"):
        tiny.stream_live(PORTRAIT, [speech])


def test_look_ahead_is_refused_where_it_has_no_effect(tiny: Animator, speech: np.ndarray) -> None:
    options = AnimationOptions(look_ahead_seconds=1.0)
    with pytest.raises(ConfigError, match="look-ahead has no effect"):
        list(tiny.stream_live(PORTRAIT, [speech], RATE_HZ, options=options))
    with pytest.raises(ConfigError, match="look-ahead has no effect"):
        list(tiny.stream(PORTRAIT, SPEECH, options=options))


@pytest.mark.parametrize("chunk", [np.zeros((2, 3, 4)), np.array(["a"]), np.full(100, np.nan), np.full(100, 3e4)])
def test_chunks_that_are_no_sound_are_refused(chunk: np.ndarray) -> None:
    with pytest.raises(MediaError, match="Chunk 0"):
        list(LiveSound([chunk], RATE_HZ).mono(RATE_HZ))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
def test_wav_streams_of_all_integer_widths_are_read(subtype: str, speech: np.ndarray) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.stack([speech, speech], axis=1), RATE_HZ, format="WAV", subtype=subtype)
    heard = np.concatenate(list(LiveSound.from_wav(io.BytesIO(file.getvalue())).mono(RATE_HZ)))
    np.testing.assert_allclose(heard, speech / 32768, atol=1 / 100 if subtype == "PCM_U8" else 1e-6)


def test_what_is_no_wav_is_refused() -> None:
    with pytest.raises(MediaError, match="WAV stream"):
        LiveSound.from_wav(io.BytesIO(b"ID3 and so on"))


def call(words: list[Any], data: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    with pytest.raises(SystemExit) as stopped:
        run(["animate", *map(str, words)])
    return int(stopped.value.code or 0)


def test_stdin_becomes_a_video_with_its_sound(
    weights: Path,
    speech: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "live.mp4"
    words = [PORTRAIT, "-", "--output", output, "--weights", weights / "tiny", "--device", "cpu", "--dtype", "fp32"]
    code = call([*words, "--raw-pcm", RATE_HZ, "--json"], speech.tobytes(), monkeypatch)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert json.loads(captured.out)["num_frames"] == 25
    info = probe_video(output)
    assert info.has_audio
    sound = load_audio(output, RATE_HZ).samples[0]
    assert len(sound) == pytest.approx(RATE_HZ, abs=700)
    assert np.corrcoef(sound[:15_000], speech[:15_000])[0, 1] > 0.95
    assert not list(tmp_path.glob("*.work"))


def test_stdin_refuses_what_needs_the_whole_sound(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [PORTRAIT, "-", "-o", tmp_path / "a.mp4", "--weights", weights / "tiny", "--raw-pcm", RATE_HZ]
    for option in ("--resume", "--preview", "--check", "--separate-vocals"):
        assert call([*words, option], b"", monkeypatch) == 2
        assert option in capsys.readouterr().err
