"""Memory is predicted before a video is made, and the fastest way that fits is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from portraitanim.checkpoints.animators import open_animator
from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.memory_size import parse_memory
from portraitanim.config.presets import load_preset
from portraitanim.config.schema import Preset
from portraitanim.errors import ConfigError, OutOfMemoryError
from portraitanim.pipelines.live_bytes import LiveBytes
from portraitanim.pipelines.memory_model import MemoryNeed, predict_memory
from portraitanim.pipelines.memory_plan import MemoryPlan, choose_plan, plan_memory
from portraitanim.pipelines.memory_retry import is_out_of_memory
from tests.examples import PORTRAIT, SPEECH
from tests.small_networks import small_preset
from tests.small_weights import small_weights

KIB = 1024


def need(preset: Preset, *, offload: bool = False, num_frames: int | None = None, **execution: object) -> MemoryNeed:
    return predict_memory(
        preset,
        dtype=torch.float32,
        device_type="cuda",
        execution=ExecutionConfig(**execution),  # type: ignore[arg-type]
        is_offloaded=offload,
        num_frames=num_frames,
    )


def test_tensors_count_while_they_live() -> None:
    known = torch.empty(256, device="meta")
    with LiveBytes([known]) as live:
        first = torch.empty(KIB, device="meta")
        second = first * 2
        del first
        third = second.view(2, -1) + 1
        assert live.peaks[""] == 8 * KIB, "a view is no new memory, and what was dropped is not there"
        del second, third
        known.view(16, 16)
    assert live.peaks[""] == 8 * KIB


@pytest.mark.parametrize("text", ["8G", "8GB", "8 gb", "8000M"])
def test_amounts_are_read(text: str) -> None:
    assert parse_memory(text) == 8e9


@pytest.mark.parametrize("text", ["8", "G", "-1G", "8T", "0G", ""])
def test_amounts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="written as 8G"):
        parse_memory(text)


def test_parameters_are_counted_and_halve_with_the_number_format() -> None:
    preset = small_preset("hallo")
    single = need(preset)
    half = predict_memory(preset, dtype=torch.bfloat16, device_type="cuda", execution=ExecutionConfig())
    for name in ("denoising_unet", "reference_unet"):
        assert half.parameter_bytes[name] == pytest.approx(single.parameter_bytes[name] / 2, rel=0.01)
    assert half.working_bytes < single.working_bytes, "but not by half: made pictures are float32 in any case"


def test_each_way_to_save_saves() -> None:
    hallo = small_preset("hallo", guidance_scale=2.0)
    batch = need(hallo)
    split = need(hallo, branches_one_by_one=True)
    assert split.working_bytes_of["denoising_unet"] < batch.working_bytes_of["denoising_unet"]
    assert need(hallo, num_frames_per_decode=4).working_bytes_of["vae"] > batch.working_bytes_of["vae"]
    assert need(hallo, offload=True).total_bytes < batch.total_bytes
    windows = small_preset("echomimic")
    two, one = need(windows, num_windows_per_call=2), need(windows)
    assert two.working_bytes_of["denoising_unet"] > one.working_bytes_of["denoising_unet"]


def test_closed_loop_grows_with_the_video_and_the_open_plan_does_not() -> None:
    closed = small_preset("echomimic")
    short, long = need(closed, num_frames=12), need(closed, num_frames=2000)
    assert long.working_bytes > 1.5 * short.working_bytes
    opened = replace(closed, sampling=replace(closed.sampling, plan="open"))
    assert need(opened, num_frames=12) == need(opened, num_frames=400)


def test_fastest_way_that_fits_is_taken() -> None:
    preset = small_preset("hallo", guidance_scale=2.0)
    options = {"device_type": "cuda", "dtypes": [torch.bfloat16], "may_offload": True}
    ample = plan_memory(preset, 10**12, **options)  # type: ignore[arg-type]
    totals = [plan.need.total_bytes for plan in ample]
    assert ample[0].execution.work_ahead
    assert totals == sorted(totals, reverse=True)
    assert plan_memory(preset, totals[2], **options) == ample[2:]  # type: ignore[arg-type]
    with pytest.raises(OutOfMemoryError, match=r"the least is \d+ MB.*Raise --max-vram"):
        plan_memory(preset, totals[-1] - 1, **options)  # type: ignore[arg-type]


def test_what_was_chosen_is_kept() -> None:
    chosen = ExecutionConfig(num_frames_per_decode=2)
    plan, smaller = choose_plan(small_preset("tiny"), "64G", device="cpu", dtype="fp32", execution=chosen)
    assert (plan.execution, plan.dtype, smaller) == (chosen, torch.float32, [])
    assert "fp32" in plan.describe()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("not enough memory of mine"), False),
    ],
)
def test_lack_of_memory_is_known(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_run_that_lacks_memory_is_tried_once_more_with_less(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small_weights(tmp_path / "weights")
    animator = open_animator(str(tmp_path / "weights"), device="cpu", dtype="fp32", cache=False)
    taken = need(animator.preset)
    one = MemoryPlan(dtype=torch.float32, is_offloaded=False, execution=ExecutionConfig(), need=taken)
    animator.parts.execution = ExecutionConfig(num_frames_per_decode=4)
    animator.parts.smaller_plans = [one]

    def refuse(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")

    animator.parts.pipeline.vae.decoder.register_forward_pre_hook(refuse)
    result = animator.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", duration_seconds=0.3, drift_guard=False)
    assert result.num_frames == 8
    assert result.num_restored_clips == 1, "what was finished is not made again"
    assert "Once more, with less" in caplog.text
    animator.parts.execution = ExecutionConfig(num_frames_per_decode=4)
    with pytest.raises(RuntimeError, match="can't allocate"):
        animator.animate(PORTRAIT, SPEECH, output=tmp_path / "more.mp4", duration_seconds=0.3, drift_guard=False)


@pytest.mark.slow
def test_full_size_hallo_at_512_pixels_fits_into_nine_gigabytes_and_into_six_with_offload() -> None:
    execution = ExecutionConfig(branches_one_by_one=True)
    options = {"dtype": torch.bfloat16, "device_type": "cuda", "execution": execution}
    preset = load_preset("hallo")
    assert preset.sampling.size_px == 512
    assert predict_memory(preset, is_offloaded=True, **options).total_bytes < 6e9  # type: ignore[arg-type]
    assert predict_memory(preset, **options).total_bytes < 9e9  # type: ignore[arg-type]
    one_batch = {**options, "execution": ExecutionConfig()}
    assert predict_memory(preset, **one_batch).total_bytes < 9e9  # type: ignore[arg-type]


def test_conditions_of_the_clips_count() -> None:
    """Landmark drawings and moved portraits of two clips are pictures, and there while networks work."""
    preset = small_preset("tiny", size_px=64)
    pictures = 2 * preset.sampling.num_frames_per_clip * 2 * 3 * 64 * 64 * 4
    assert need(preset).working_bytes_of["reference_unet"] > pictures


def test_attention_by_products_holds_scores_on_a_processor_alone() -> None:
    preset = small_preset("tiny", size_px=256)
    held = {
        device: predict_memory(
            preset, dtype=torch.bfloat16, device_type=device, execution=ExecutionConfig()
        ).working_bytes_of["denoising_unet"]
        for device in ("cpu", "cuda")
    }
    assert held["cpu"] > held["cuda"] + 2**22
