from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portraitanim import AnimationOptions, open_animator
from portraitanim.face.landmark_groups import LIP_PAIRS
from portraitanim.media.audio import load_audio, save_audio, to_mono
from portraitanim.pipelines.animation_inputs import InputReader
from portraitanim.pipelines.animator import Animator
from portraitanim.pipelines.conditioning import AnimationConditioning
from portraitanim.progress import SilentProgress
from portraitanim.types import AudioTrack
from tests.examples import PORTRAIT, SPEECH

SETTLED = 6
"""Frames after which the mouth has left the picture's."""


@pytest.fixture(scope="module")
def animator() -> Animator:
    """The bundled weights."""
    return open_animator("tiny", device="cpu", dtype="fp32", cache=False)


@contextmanager
def conditioning(animator: Animator, sound: Path, **options: Any) -> Iterator[AnimationConditioning]:
    chosen = AnimationOptions(**options)
    with InputReader(animator.parts, animator.plan(sound, None, chosen), chosen, SilentProgress()) as reader:
        yield reader.read(PORTRAIT, sound, None).conditioning


def openings(animator: Animator, sound: Path, frames: range, **options: Any) -> np.ndarray:
    """Gap of the lips in face widths."""
    with conditioning(animator, sound, **options) as made:
        assert made.motion is not None
        points = made.motion.landmarks(frames)
    upper, lower = np.array(LIP_PAIRS).T
    width = np.linalg.norm(points[:, 454] - points[:, 234], axis=-1)
    return np.linalg.norm(points[:, lower] - points[:, upper], axis=-1).max(-1) / width


def test_lips_open_with_speech_and_as_far_as_the_lip_weight_says(animator: Animator) -> None:
    frames = range(SETTLED, 100)
    plain, still, wide = (
        openings(animator, SPEECH, frames, lip_weight=weight, duration_seconds=4.5) for weight in (1.0, 0.0, 1.5)
    )
    assert plain.std() > 0.02
    assert plain.min() < 0.01
    assert still.max() < 0.005
    assert wide.mean() > 1.3 * plain.mean()


def test_lips_are_shut_in_silence(animator: Animator, tmp_path: Path) -> None:
    silence = tmp_path / "silence.wav"
    save_audio(AudioTrack(samples=np.zeros((1, 32000), np.float32), sample_rate_hz=16000), silence)
    assert openings(animator, silence, range(SETTLED, 40)).max() < 0.01


def test_lips_move_when_the_sound_does(animator: Animator, tmp_path: Path) -> None:
    late = tmp_path / "late.wav"
    speech = to_mono(load_audio(SPEECH, 16000)).samples[:, :48000]
    save_audio(AudioTrack(samples=np.pad(speech, ((0, 0), (6400, 0))), sample_rate_hz=16000), late)
    first = openings(animator, SPEECH, range(20, 60))
    second = openings(animator, late, range(30, 70))
    assert np.corrcoef(first, second)[0, 1] > 0.98


def test_mouth_is_drawn_and_any_frames_can_be_asked_for(animator: Animator) -> None:
    with conditioning(animator, SPEECH, duration_seconds=2.0) as made:
        assert "mouth" in made.parts
        assert made.motion is not None
        whole = made.motion.landmarks(range(30))
        np.testing.assert_allclose(made.motion.landmarks([7, 21]), whole[[7, 21]], atol=1e-3)


def test_without_idle_motion_nothing_is_drawn(animator: Animator) -> None:
    with conditioning(animator, SPEECH, duration_seconds=1.0, idle_motion=False) as made:
        assert made.motion is None
        assert made.parts == ()
