"""Behaviour of the pipeline on small random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from torch import Tensor

from portraitanim.config.schema import SchedulerConfig
from portraitanim.diffusion.schedule import make_scheduler
from portraitanim.errors import ConfigError, InputError, ShapeError
from portraitanim.pipelines import sampling_run
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from portraitanim.types import RegionMasks, RegionWeights
from tests.small_networks import IMAGE_SIZE, conditioning, small_pipeline

SYSTEMS = ["hallo", "echomimic", "tiny"]


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return request.param


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_video_has_as_many_frames_as_the_conditioning(system: str) -> None:
    frames = small_pipeline(system)(conditioning(system, 6), generator=seed()).frames
    assert frames.shape == (1, 6, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert 0 <= frames.min() <= frames.max() <= 1


def test_same_seed_gives_the_same_video_and_another_seed_another(system: str) -> None:
    pipe, given = small_pipeline(system), conditioning(system, 4)
    first = pipe(given, generator=seed(1)).frames
    assert torch.equal(first, pipe(given, generator=seed(1)).frames)
    assert not torch.allclose(first, pipe(given, generator=seed(2)).frames, atol=1e-3)


def test_streamed_frames_are_the_frames_of_the_call(system: str) -> None:
    pipe, given = small_pipeline(system), conditioning(system, 6)
    pieces = list(pipe.stream(given, generator=seed()))
    assert len(pieces) > 1
    assert torch.equal(torch.cat(pieces, dim=1), pipe(given, generator=seed()).frames)


def test_beginning_of_a_sequential_video_does_not_depend_on_its_length() -> None:
    pipe = small_pipeline("hallo")
    given = conditioning("hallo", 8)
    long = pipe(given, generator=seed()).frames
    short = pipe(given.window(range(4)), generator=seed()).frames
    assert torch.equal(long[:, :4], short)


def test_saved_pipeline_makes_the_same_video(system: str, tmp_path: Path) -> None:
    pipe, given = small_pipeline(system, num_inference_steps=3), conditioning(system, 4)
    pipe.save_pretrained(tmp_path)
    loaded = PortraitAnimationPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.config.sampling == pipe.config.sampling
    # Loaded tensors lie at other addresses in memory, and some CPUs round otherwise where these are not aligned.
    torch.testing.assert_close(
        pipe(given, generator=seed()).frames, loaded(given, generator=seed()).frames, rtol=0, atol=1e-5
    )
    assert not list(tmp_path.rglob("*.bin"))


@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "unipc", "euler", "lcm", "tcd"])
def test_any_fitting_scheduler_makes_a_video(name: Any) -> None:
    pipe = small_pipeline("echomimic", num_inference_steps=4)
    pipe.scheduler = make_scheduler(SchedulerConfig(name=name))
    frames = pipe(conditioning("echomimic", 6), generator=seed()).frames
    assert frames.isfinite().all()
    assert frames.std() > 1e-3


def test_scheduler_of_the_same_schedule_can_be_swapped_by_its_config() -> None:
    pipe = small_pipeline("hallo", num_inference_steps=4)
    given = conditioning("hallo", 4)
    ddim = pipe(given, generator=seed()).frames
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    # Euler in the variance-exploding form walks the same curve as DDIM.
    torch.testing.assert_close(pipe(given, generator=seed()).frames, ddim, atol=5e-3, rtol=0)


def test_pipeline_refuses_a_scheduler_for_noise_prediction() -> None:
    parts = small_pipeline("echomimic").components
    with pytest.raises(ConfigError, match="v_prediction"):
        PortraitAnimationPipeline(**{**parts, "scheduler": DDIMScheduler()})


def test_equal_guidance_scales_are_the_single_scale(system: str) -> None:
    pipe, given = small_pipeline(system), conditioning(system, 4)
    single = pipe(given, generator=seed(), guidance_scale=2.5).frames
    two = pipe(given, generator=seed(), audio_guidance_scale=2.5, image_guidance_scale=2.5).frames
    assert torch.equal(single, two)


def test_audio_scale_alone_changes_the_video(system: str) -> None:
    pipe, given = small_pipeline(system), conditioning(system, 4)
    single = pipe(given, generator=seed(), guidance_scale=2.5).frames
    louder = pipe(given, generator=seed(), guidance_scale=2.5, audio_guidance_scale=5.0).frames
    assert not torch.allclose(single, louder, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "items"),
    [
        ({"guidance_scale": 1.0}, [1, 1, 1, 1]),
        ({"guidance_scale": 2.0}, [2, 2, 2, 2]),
        ({"guidance_scale": 2.0, "audio_guidance_scale": 3.0}, [3, 3, 3, 3]),
        ({"guidance_scale": 2.0, "guidance_interval": (0.25, 0.75)}, [1, 2, 2, 1]),
    ],
)
def test_each_step_evaluates_only_the_branches_it_needs(system: str, options: dict[str, Any], items: list[int]) -> None:
    pipe = small_pipeline(system, num_inference_steps=4)
    seen: list[int] = []
    pipe.denoising_unet.conv_in.register_forward_hook(lambda module, inputs, output: seen.append(len(output) // 4))
    pipe(conditioning(system, 4), generator=seed(), **options)
    assert seen == items


def test_step_without_guidance_equals_the_conditional_branch(system: str) -> None:
    """An interval that is empty gives the video of a run without guidance."""
    pipe, given = small_pipeline(system), conditioning(system, 4)
    without = pipe(given, generator=seed(), guidance_scale=1.0).frames
    empty = pipe(given, generator=seed(), guidance_scale=3.0, guidance_interval=(0.0, 0.0)).frames
    assert torch.equal(without, empty)


def test_batch_of_two_portraits_equals_two_runs(system: str) -> None:
    pipe, given = small_pipeline(system), conditioning(system, 6, batch=2)
    noise = torch.randn(2, 8 if system != "echomimic" else 6, 4, 4, 4)
    both = pipe(given, latents=noise, guidance_scale=2.0).frames
    for item in (0, 1):
        levels = given.region_masks and tuple(level[item : item + 1] for level in given.region_masks.levels)
        one = replace(
            given,
            reference_image=given.reference_image[item : item + 1],
            audio_windows=given.audio_windows[item : item + 1],
            condition_map=None if given.condition_map is None else given.condition_map[item : item + 1],
            identity_embedding=None if given.identity_embedding is None else given.identity_embedding[item : item + 1],
            region_masks=levels and type(given.region_masks)(levels=levels),  # type: ignore[call-arg, misc]
        )
        alone = pipe(one, latents=noise[item : item + 1], guidance_scale=2.0).frames
        # Two clips of two steps: rounding of float32 through motion frames.
        torch.testing.assert_close(both[item : item + 1], alone, atol=1e-3, rtol=0)


def test_long_videos_project_conditions_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, given = small_pipeline("echomimic"), conditioning("echomimic", 9)
    at_once = pipe(given, generator=seed()).frames
    monkeypatch.setattr(sampling_run, "_MAX_FRAMES_PROJECTED_AT_ONCE", 1)
    torch.testing.assert_close(pipe(given, generator=seed()).frames, at_once, atol=1e-4, rtol=0)


def test_callback_sees_every_step_and_may_replace_the_latents() -> None:
    pipe, given = small_pipeline("tiny"), conditioning("tiny", 4)
    seen: list[int] = []

    def mute(pipe: Any, step: int, timestep: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(step)
        return {"latents": torch.zeros_like(values["latents"])}

    latents = pipe(given, generator=seed(), callback_on_step_end=mute, output_type="latent").frames
    assert seen == [0, 1]
    assert not latents.any()


def test_frames_are_encoded_only_where_the_next_clip_reads_them() -> None:
    pipe = small_pipeline("tiny")
    encoded: list[int] = []
    pipe.vae.encoder.register_forward_hook(lambda module, inputs, output: encoded.append(len(output)))
    pipe(conditioning("tiny", 10), generator=seed())
    # The portrait, and two motion frames for each of the three clips but the first.
    assert sum(encoded) == 1 + 2 + 2


def test_latents_come_without_needless_decoding() -> None:
    pipe = small_pipeline("tiny")
    decoded: list[int] = []
    pipe.vae.decoder.register_forward_hook(lambda module, inputs, output: decoded.append(len(output)))
    pipe(conditioning("tiny", 8), generator=seed(), output_type="latent")
    assert len(decoded) == 2, "only the last frames of the first clip, which the second one reads"


@pytest.mark.parametrize("output_type", ["pt", "np", "pil", "latent"])
def test_output_types(output_type: str) -> None:
    pipe, given = small_pipeline("tiny"), conditioning("tiny", 4)
    frames = pipe(given, generator=seed(), output_type=output_type).frames
    if output_type == "pil":
        assert [len(video) for video in frames] == [4]
        assert frames[0][0].size == (IMAGE_SIZE, IMAGE_SIZE)
    else:
        assert frames.shape[:2] == (1, 4)


def test_region_weights_act_where_there_is_regional_attention() -> None:
    pipe = small_pipeline("tiny")
    plain = pipe(conditioning("tiny", 4), generator=seed()).frames
    weighted = pipe(conditioning("tiny", 4, weights=RegionWeights(lip=1.5)), generator=seed()).frames
    assert not torch.allclose(plain, weighted, atol=1e-5)


def test_region_weights_are_refused_where_they_would_have_no_effect() -> None:
    with pytest.raises(InputError, match="no effect"):
        small_pipeline("echomimic")(conditioning("echomimic", 4, weights=RegionWeights(lip=1.2)))


def test_missing_masks_are_refused() -> None:
    with pytest.raises(InputError, match="region_masks"):
        small_pipeline("hallo")(replace(conditioning("hallo", 4), region_masks=None))


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="num_overlap_frames"):
        small_pipeline("echomimic")(conditioning("echomimic", 4), num_overlap_frame=2)


def test_unknown_output_type_is_refused() -> None:
    with pytest.raises(InputError, match="output_type"):
        small_pipeline("tiny")(conditioning("tiny", 4), output_type="gif")


def test_size_that_the_autoencoder_cannot_halve_is_refused() -> None:
    given = replace(conditioning("tiny", 4), reference_image=torch.zeros(1, 3, 36, 32))
    with pytest.raises(ShapeError, match="multiples of 8"):
        small_pipeline("tiny")(given)


def test_condition_map_of_another_size_is_refused() -> None:
    given = replace(conditioning("tiny", 4), condition_map=torch.zeros(1, 4, 3, 64, 64))
    with pytest.raises(ShapeError, match="condition map is 64 by 64"):
        small_pipeline("tiny")(given)


def test_masks_of_another_size_are_refused() -> None:
    masks = RegionMasks(levels=tuple(torch.zeros(1, 1, 3, 64 >> (2 * level)) for level in range(3)))
    with pytest.raises(ShapeError, match="level 0 have 64 tokens"):
        small_pipeline("tiny")(replace(conditioning("tiny", 4), region_masks=masks))


def test_sound_of_another_encoder_is_refused() -> None:
    given = replace(conditioning("echomimic", 4), audio_windows=torch.zeros(1, 4, 3, 2, 7))
    with pytest.raises(ShapeError, match="audio encoder"):
        small_pipeline("echomimic")(given)


def test_clip_longer_than_the_motion_modules_know_is_refused() -> None:
    with pytest.raises(InputError, match="16 positions"):
        small_pipeline("tiny")(conditioning("tiny", 4), num_frames_per_clip=15)


def test_noise_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match="latents"):
        small_pipeline("tiny")(conditioning("tiny", 6), latents=torch.zeros(1, 6, 4, 4, 4))


def test_half_precision_makes_nearly_the_same_video(system: str) -> None:
    pipe, given = small_pipeline(system), conditioning(system, 4)
    noise = torch.randn(1, 4, 4, 4, 4, generator=seed())
    exact = pipe(given, latents=noise, guidance_scale=1.5).frames
    half = pipe.to(torch.bfloat16)(given, latents=noise, guidance_scale=1.5).frames
    # bfloat16 has eight bits; the error through some sixty layers and the decoder stays a few per cent.
    assert (half.float() - exact).abs().mean() < 0.02
