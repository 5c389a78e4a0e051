"""Sound and picture stay together, and memory stays flat, however long the video is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from portraitanim.audio.log_mel import LogMelAudioEncoder
from portraitanim.media.audio import iter_audio, load_audio, save_audio
from portraitanim.media.video import iter_video
from portraitanim.pipelines.animator import Animator
from portraitanim.pipelines.animator_parts import AnimatorParts
from portraitanim.types import AudioTrack, Conditioning
from tests.examples import PORTRAIT, ROOT, SPEECH
from tests.small_weights import small_weights

FPS = 25
RATE_HZ = 16000


class FlashingPipeline:
    """Stands for the networks: a frame is white where its sound is loud, else black."""

    device = torch.device("cpu")
    denoising_unet = SimpleNamespace(dtype=torch.float32)
    scheduler: Any = None

    def set_progress_bar_config(self, **options: Any) -> None:
        del options

    def register_to_config(self, **values: Any) -> None:
        del values

    def stream(self, conditioning: Conditioning, **options: Any) -> Iterator[torch.Tensor]:
        for start in range(0, conditioning.num_frames, 16):
            frames = range(start, min(start + 16, conditioning.num_frames))
            # The middle of the window is the frame's own sound; -1 is silence.
            windows = conditioning.window(frames).audio_windows[0]
            own = windows[:, windows.shape[1] // 2].mean((1, 2))
            yield (own > -0.5).float()[None, :, None, None, None].expand(1, -1, 3, 64, 64)


def click_track(path: Path, seconds: float, clicks: list[float]) -> None:
    samples = np.zeros(round(seconds * RATE_HZ), np.float32)
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, round(0.04 * RATE_HZ)).astype(np.float32)
    for click in clicks:
        first = round(click * RATE_HZ)
        samples[first : first + len(noise)] = noise
    save_audio(AudioTrack(samples=samples[None], sample_rate_hz=RATE_HZ), path)


def first_flash_and_click(path: Path, start_seconds: float) -> tuple[float, float]:
    """When the picture gets white and the sound loud, in seconds after ``start_seconds``."""
    bright = [frame.image.mean() > 128 for frame in iter_video(path, start_seconds=start_seconds, duration_seconds=2)]
    track = load_audio(path, start_seconds=start_seconds, duration_seconds=2)
    loud = np.abs(track.samples[0]) > 0.2
    return int(np.argmax(bright)) / FPS, int(np.argmax(loud)) / track.sample_rate_hz


def check_sync(tmp_path: Path, seconds: float) -> None:
    late = seconds - 1.0
    sound, output = tmp_path / "clicks.flac", tmp_path / "clicks.mp4"
    click_track(sound, seconds, [1.0, late])
    from portraitanim.config.presets import load_preset

    parts = AnimatorParts(
        pipeline=FlashingPipeline(),  # type: ignore[arg-type]
        preset=load_preset("tiny", {"sampling": {"size_px": 64}}),
        audio_encoder=LogMelAudioEncoder(),
    )
    result = Animator(parts).animate(PORTRAIT, sound, output=output, drift_guard=False)
    assert result.num_frames == round(seconds * FPS)
    for start in (0.0, late - 1.0):
        flash, click = first_flash_and_click(output, start)
        assert flash == pytest.approx(1.0, abs=0.5 / FPS)
        assert click == pytest.approx(1.0, abs=0.5 / FPS), "the sound must not run away from the picture"


def test_click_and_flash_agree_at_start_and_end(tmp_path: Path) -> None:
    check_sync(tmp_path, 12.0)


@pytest.mark.slow
def test_click_and_flash_agree_after_ten_minutes(tmp_path: Path) -> None:
    check_sync(tmp_path, 600.0)


_MEASURE = """
import json, sys
from portraitanim.checkpoints.animators import open_animator
weights, portrait, sound, output = sys.argv[1:]
result = open_animator(weights, device="cpu", dtype="fp32").animate(portrait, sound, output=output)
print(json.dumps(result.to_dict()))
"""


@pytest.mark.slow
def test_memory_is_flat(tmp_path: Path) -> None:
    small_weights(tmp_path / "weights")
    speech = np.concatenate([chunk.samples for chunk in iter_audio(SPEECH)], axis=1)

    def measured(seconds: int) -> dict[str, Any]:
        samples = np.resize(speech, (1, seconds * RATE_HZ))
        sound = tmp_path / f"{seconds}.flac"
        save_audio(AudioTrack(samples=samples, sample_rate_hz=RATE_HZ), sound)
        words = [str(tmp_path / "weights"), str(PORTRAIT), str(sound), str(tmp_path / f"{seconds}.mp4")]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, *words], cwd=ROOT, capture_output=True, text=True, check=True
        )
        values: dict[str, Any] = json.loads(done.stdout)
        return values

    short, long = measured(10), measured(600)
    assert long["num_frames"] == 60 * short["num_frames"]
    assert long["peak_host_bytes"] < 1.05 * short["peak_host_bytes"]
