"""How the work is cut up changes speed and memory, and nothing of the video."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.schema import SchedulerConfig
from portraitanim.diffusion.schedule import make_scheduler
from portraitanim.errors import ConfigError
from portraitanim.pipelines import sampling_run
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from tests.small_networks import conditioning, small_pipeline

NUM_FRAMES = 10


def video(pipe: PortraitAnimationPipeline, given: Any, execution: ExecutionConfig | None = None, **kwargs: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    return torch.cat(list(pipe.stream(given, generator=generator, execution=execution, **kwargs)), dim=1)


@pytest.mark.parametrize("system", ["hallo", "echomimic", "tiny"])
@pytest.mark.parametrize("batch", [2, 3, 100])
def test_frames_decoded_together_are_those_decoded_one_by_one(system: str, batch: int) -> None:
    pipe, given = small_pipeline(system), conditioning(system, NUM_FRAMES)
    sizes: list[int] = []
    pipe.vae.decoder.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    together = video(pipe, given, ExecutionConfig(num_frames_per_decode=batch))
    assert max(sizes) > 1
    # Other kernels for other batches; what they round goes on through the motion frames.
    torch.testing.assert_close(together, video(pipe, given, ExecutionConfig()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [{"guidance_scale": 1.0}, {"guidance_scale": 2.5, "audio_guidance_scale": 3.0}])
@pytest.mark.parametrize("at_once", [2, 3, 100])
def test_windows_read_together_are_those_read_one_by_one(at_once: int, options: dict[str, Any]) -> None:
    pipe = small_pipeline("echomimic", window_shift_per_step=2)
    given = conditioning("echomimic", NUM_FRAMES, batch=2)
    calls: list[int] = []
    pipe.denoising_unet.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    one_by_one = video(pipe, given, **options)
    num_calls = len(calls)
    together = video(pipe, given, ExecutionConfig(num_windows_per_call=at_once), **options)
    assert len(calls) - num_calls < num_calls
    torch.testing.assert_close(together, one_by_one, atol=1e-4, rtol=0)


@pytest.mark.parametrize("system", ["hallo", "tiny"])
def test_windows_of_any_system_can_be_read_together(system: str) -> None:
    """Regional sound, masks, identity and a still condition map lie in the batch as they should."""
    plan = {"plan": "overlapping", "num_overlap_frames": 1, "num_motion_frames": 0, "guidance_scale": 2.0}
    pipe, given = small_pipeline(system), conditioning(system, NUM_FRAMES, batch=2)
    together = video(pipe, given, ExecutionConfig(num_windows_per_call=2), **plan)
    torch.testing.assert_close(together, video(pipe, given, **plan), atol=1e-4, rtol=0)


def test_windows_of_long_videos_are_projected_together(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, given = small_pipeline("echomimic"), conditioning("echomimic", NUM_FRAMES)
    one_by_one = video(pipe, given)
    monkeypatch.setattr(sampling_run, "_MAX_FRAMES_PROJECTED_AT_ONCE", 1)
    together = video(pipe, given, ExecutionConfig(num_windows_per_call=2))
    torch.testing.assert_close(together, one_by_one, atol=1e-4, rtol=0)


@pytest.mark.parametrize("system", ["hallo", "echomimic", "tiny"])
def test_working_ahead_makes_the_same_video(system: str) -> None:
    pipe, given = small_pipeline(system), conditioning(system, NUM_FRAMES)
    assert torch.equal(video(pipe, given, ExecutionConfig(work_ahead=True)), video(pipe, given, ExecutionConfig()))


@pytest.mark.parametrize("work_ahead", [False, True])
def test_who_chooses_motion_frames_sees_every_clip_and_changes_nothing_by_looking(work_ahead: bool) -> None:
    pipe, given = small_pipeline("tiny"), conditioning("tiny", NUM_FRAMES)
    seen: list[tuple[int, int]] = []

    def last_two(number: int, frames: Tensor) -> Tensor:
        seen.append((number, frames.shape[1]))
        return frames[:, -2:]

    execution = ExecutionConfig(work_ahead=work_ahead)
    assert torch.equal(video(pipe, given, execution, next_motion=last_two), video(pipe, given))
    assert seen == [(0, 4), (1, 4), (2, 4)], "the last clip too: a guard's record is of the whole video"


def test_next_clip_is_made_while_this_one_is_read() -> None:
    pipe, given = small_pipeline("tiny", num_inference_steps=1), conditioning("tiny", 8)
    second_clip_begins = threading.Event()
    clips: list[int] = []

    def begins(module: Any, inputs: Any) -> None:
        clips.append(len(clips))
        if len(clips) == 2:
            second_clip_begins.set()

    pipe.denoising_unet.register_forward_pre_hook(begins)
    frames = pipe.stream(given, execution=ExecutionConfig(work_ahead=True))
    next(frames)
    assert second_clip_begins.wait(timeout=20)
    assert len(list(frames)) == 1


def test_motion_frames_are_decoded_before_the_frames_that_nobody_waits_for() -> None:
    pipe, given = small_pipeline("tiny"), conditioning("tiny", 8)
    order: list[str] = []
    pipe.vae.decoder.register_forward_hook(lambda module, inputs, output: order.append("decode"))
    pipe.vae.encoder.register_forward_hook(lambda module, inputs, output: order.append("encode"))
    list(pipe.stream(given, decode=False))
    assert order == ["encode", "decode", "decode", "encode", "encode"]


def test_reader_who_has_enough_ends_the_work_that_is_ahead() -> None:
    pipe, given = small_pipeline("tiny", num_inference_steps=50), conditioning("tiny", 12)
    steps: list[int] = []

    def count(pipe: Any, step: int, timestep: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        steps.append(step)
        return values

    frames = pipe.stream(given, callback_on_step_end=count, execution=ExecutionConfig(work_ahead=True))
    next(frames)
    frames.close()
    assert len(steps) < 100, "the second clip was made to its end though nobody reads it"
    assert not any("portraitanim-clips" in thread.name for thread in threading.enumerate())


def test_error_in_the_work_ahead_reaches_the_reader() -> None:
    pipe, given = small_pipeline("tiny"), conditioning("tiny", 8)

    def fail(pipe: Any, step: int, timestep: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(pipe.stream(given, callback_on_step_end=fail, execution=ExecutionConfig(work_ahead=True)))


def test_working_ahead_is_refused_where_networks_are_offloaded() -> None:
    pipe = small_pipeline("tiny")
    pipe.vae._hf_hook = object()
    with pytest.raises(ConfigError, match="two networks at once"):
        next(pipe.stream(conditioning("tiny", 4), execution=ExecutionConfig(work_ahead=True)))


@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "euler"])
@pytest.mark.parametrize("system", ["hallo", "echomimic"])
def test_steps_never_wait_for_the_device(system: str, name: Any) -> None:
    """Tensors of the meta device have no values: whatever would wait for one fails."""
    pipe = small_pipeline(system, num_inference_steps=3, guidance_scale=2.0, guidance_interval=(0.0, 0.7))
    pipe.scheduler = make_scheduler(SchedulerConfig(name=name))
    for part in (pipe.denoising_unet, pipe.reference_unet, pipe.condition_encoder, pipe.vae):
        part.to("meta")
    for part in (pipe.identity_projection, pipe.audio_projection):
        if part is not None:
            part.to("meta")
    given = conditioning(system, 8).to(torch.device("meta"))
    latents = torch.empty(1, 8, 4, 4, 4, device="meta")
    made = torch.cat(list(pipe.stream(given, latents=latents, decode=False)), dim=1)
    assert made.shape == latents.shape


@pytest.mark.parametrize("system", ["hallo", "echomimic", "tiny"])
@pytest.mark.parametrize("scales", [{"guidance_scale": 2.0}, {"guidance_scale": 2.5, "audio_guidance_scale": 3.0}])
def test_branches_of_guidance_one_by_one_are_those_of_one_batch(system: str, scales: dict[str, Any]) -> None:
    pipe, given = small_pipeline(system), conditioning(system, NUM_FRAMES, batch=2)
    items: list[int] = []
    pipe.denoising_unet.register_forward_hook(lambda module, inputs, output: items.append(len(output)))
    split = video(pipe, given, ExecutionConfig(branches_one_by_one=True), **scales)
    assert set(items) == {2}, "two portraits, and one branch at a time"
    torch.testing.assert_close(split, video(pipe, given, **scales), atol=1e-4, rtol=0)
