"""A small network is measured for real: stages, operations, and that measuring changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from portraitanim.benchmarking.flops import FlopMeter
from portraitanim.benchmarking.random_weights import random_animator, stands_in_for_identity
from portraitanim.benchmarking.report import ScenarioResult
from portraitanim.benchmarking.runner import long_sound, run_scenario
from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.benchmarking.stages import StageClock, scale_flops
from portraitanim.config.schema import Preset
from portraitanim.media.audio import load_audio
from portraitanim.media.video import iter_video
from portraitanim.media.video_writer import VideoWriter
from portraitanim.pipelines.animator import Animator
from tests.examples import PORTRAIT, SPEECH
from tests.small_weights import SIZE_PX, small_weights

NUM_FRAMES = 10
"""Two and a half clips of the small network."""


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    return small_weights(tmp_path_factory.mktemp("weights"), num_inference_steps=3)


@pytest.fixture(scope="module")
def animator(preset: Preset) -> Animator:
    return random_animator(preset, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def result(animator: Animator) -> ScenarioResult:
    scenario = Scenario(num_frames=NUM_FRAMES, weights="random", num_repeats=3)
    return run_scenario(scenario, lambda _: animator, PORTRAIT, SPEECH, peak_side=128)


def test_what_was_left_open_is_resolved(result: ScenarioResult) -> None:
    scenario = result.scenario
    assert (scenario.size_px, scenario.num_steps, scenario.dtype, scenario.device) == (SIZE_PX, 3, "fp32", "cpu")
    assert (result.num_frames, result.fps, result.weights) == (NUM_FRAMES, 25.0, "random")
    assert len(result.total_seconds.values) == 3


def test_stages_account_for_the_run(result: ScenarioResult) -> None:
    expected = {"audio", "face", "reference", "conditioning", "denoising", "decoding", "encoding", "keeping"}
    assert set(result.stage_seconds) == expected
    for number, total in enumerate(result.total_seconds.values):
        stages = sum(measure.values[number] for measure in result.stage_seconds.values())
        # On a CPU nothing of these overlaps; what lies between the stages of so small a network is no small part.
        assert 0.4 * total < stages < total


def test_first_frame_comes_before_the_end_and_steady_speed_is_without_the_first_clip(result: ScenarioResult) -> None:
    assert result.steady_fps is not None
    for total, first, steady in zip(
        result.total_seconds.values, result.first_frame_seconds.values, result.steady_fps.values, strict=True
    ):
        assert 0 < first < total
        assert steady > NUM_FRAMES / total


def test_memory_and_peak_are_measured(result: ScenarioResult) -> None:
    assert 1e8 < result.peak_host_bytes.median < 1e11
    assert result.peak_device_bytes is None
    assert result.peak_flops_per_second > 1e6
    assert result.utilisation is not None
    assert 0 < result.utilisation < 1


def test_operations_of_few_steps_are_scaled_to_those_of_the_whole_run(
    result: ScenarioResult, animator: Animator, tmp_path: Path
) -> None:
    options = replace(result.scenario.animation_options(25.0), drift_guard=False)
    with FlopMeter() as meter:
        clock = StageClock(torch.device("cpu"), meter.read)
        with clock.attached(animator):
            animator.animate(PORTRAIT, SPEECH, output=tmp_path / "whole.mp4", options=options)
    reading = clock.take()
    whole, is_exact = scale_flops(reading.flops, reading.calls)
    assert is_exact
    assert result.flops_are_exact
    assert result.stage_flops == whole
    # Nine calls: three clips of three steps.
    assert sum(count for (stage, _), count in reading.calls.items() if stage == "denoising") == 9


def test_measuring_changes_no_pixel_and_leaves_nothing_behind(
    result: ScenarioResult, animator: Animator, tmp_path: Path
) -> None:
    write = VideoWriter.__dict__["write"]
    options = replace(result.scenario.animation_options(25.0), drift_guard=False, duration_seconds=4 / 25)
    animator.animate(PORTRAIT, SPEECH, output=tmp_path / "plain.mkv", options=options)
    clock = StageClock(torch.device("cpu"))
    with clock.attached(animator):
        assert VideoWriter.__dict__["write"] is not write
        animator.animate(PORTRAIT, SPEECH, output=tmp_path / "timed.mkv", options=options)
    assert VideoWriter.__dict__["write"] is write
    assert not animator.parts.pipeline.denoising_unet._forward_hooks
    plain, timed = (
        np.stack([frame.image for frame in iter_video(tmp_path / name)]) for name in ("plain.mkv", "timed.mkv")
    )
    assert np.array_equal(plain, timed)


def test_clock_is_taken_off_after_an_error(animator: Animator) -> None:
    write = VideoWriter.__dict__["write"]
    with pytest.raises(ZeroDivisionError), StageClock(torch.device("cpu")).attached(animator):
        _ = 1 / 0
    assert VideoWriter.__dict__["write"] is write


def test_sound_is_repeated_until_it_is_long_enough(tmp_path: Path) -> None:
    original = load_audio(SPEECH)
    assert long_sound(SPEECH, 1.0, tmp_path) == SPEECH
    longer = load_audio(long_sound(SPEECH, 12.0, tmp_path))
    assert longer.duration_seconds >= 12.0
    length = original.samples.shape[1]
    assert np.allclose(longer.samples[:, length : 2 * length], original.samples, atol=1e-4)


def test_missing_identity_pack_is_stood_in_for(tmp_path: Path) -> None:
    preset = small_weights(tmp_path, "hallo")
    animator = random_animator(preset, torch.device("cpu"), torch.float32)
    assert stands_in_for_identity(animator)
    assert animator.parts.identity_encoder is not None
    assert animator.parts.identity_encoder.encode(np.zeros((3, 8, 8), np.uint8)).shape == (512,)


@torch.no_grad()
def test_products_convolutions_and_attention_are_counted() -> None:
    query, key = torch.randn(2, 3, 16, 8), torch.randn(2, 3, 10, 8)
    counts = []
    with FlopMeter() as meter:
        for work in (
            lambda: F.linear(torch.randn(3, 4, 5), torch.randn(6, 5)),
            lambda: F.conv2d(torch.randn(1, 4, 8, 8), torch.randn(6, 4, 3, 3), padding=1),
            lambda: F.scaled_dot_product_attention(query, key, key),
            lambda: torch.randn(100) * 2,
        ):
            before = meter.read()
            work()
            counts.append(meter.read() - before)
    assert counts == [2 * 12 * 5 * 6, 2 * 64 * 4 * 6 * 9, 2 * 2 * (2 * 3 * 16 * 10 * 8), 0]


def test_calls_with_more_rows_are_scaled_and_other_shapes_are_estimates() -> None:
    from collections import Counter

    counted = {("decoding", (1, 4, 8, 8)): 100, ("denoising", (2, 4, 4, 8, 8)): 1000}
    calls = Counter({("decoding", (3, 4, 8, 8)): 2, ("denoising", (2, 4, 4, 8, 8)): 5})
    assert scale_flops(counted, calls) == ({"decoding": 600, "denoising": 5000}, True)
    assert scale_flops(counted, Counter({("denoising", (1, 4, 4, 8, 8)): 1})) == ({"denoising": 500}, False)
    assert scale_flops(counted, Counter({("decoding", (1, 4, 16, 8)): 1})) == ({"decoding": 200}, False)
    with pytest.raises(KeyError, match="reference was not counted"):
        scale_flops(counted, Counter({("reference", (1,)): 1}))
