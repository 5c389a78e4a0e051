"""What each speed trades, for every system."""

from __future__ import annotations

from dataclasses import replace

import pytest

from portraitanim.config.animation import AnimationOptions
from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.presets import load_preset, preset_names
from portraitanim.config.speeds import at_speed
from portraitanim.config.variants import parse_variant
from portraitanim.errors import ConfigError, MissingWeightsError
from portraitanim.pipelines.animation_plan import AnimationPlan, fit_to_parts, plan_animation


def plan(preset: str, **options: object) -> AnimationPlan:
    return plan_animation(AnimationOptions(**options), load_preset(preset), has_audio=True, has_driving=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", preset_names())
def test_exact_is_the_preset_itself(name: str) -> None:
    preset = load_preset(name)
    assert at_speed(preset, "exact") == (preset, ())


@pytest.mark.parametrize("name", preset_names())
def test_each_speed_makes_fewer_calls_than_the_one_before(name: str) -> None:
    def calls(speed: str) -> float:
        sampling = at_speed(load_preset(name), speed)[0].sampling  # type: ignore[arg-type]
        low, high = sampling.guidance_interval
        branches = 1 + (high - low) * (sampling.guidance_scale > 1)
        return sampling.num_inference_steps * branches / sampling.deep_every_steps

    assert calls("fast") < calls("balanced") < calls("exact")


def test_every_change_is_said() -> None:
    preset, changes = at_speed(load_preset("hallo"), "fast")
    assert changes == (
        "12 steps of DPM++ 2M instead of 40 of ddim",
        "the deep stages in every third step",
        "guidance in the first 50% of the steps",
        "the small decoder",
    )
    assert (preset.scheduler.name, preset.sampling.decoder) == ("dpm++2m", "small")


def test_few_step_weights_keep_their_solver() -> None:
    preset, changes = at_speed(load_preset("echomimic-acc"), "fast")
    assert (preset.scheduler.name, preset.sampling.num_inference_steps) == ("ddim", 3)
    assert changes == ("3 steps instead of 6", "the small decoder")


def test_flags_and_settings_win_over_the_speed() -> None:
    resolved = plan("hallo", speed="balanced", steps=7, overrides={"sampling": {"deep_every_steps": 1}})
    assert (resolved.sampling.num_inference_steps, resolved.sampling.deep_every_steps) == (7, 1)
    assert resolved.scheduler.name == "dpm++2m"


def test_speed_that_changes_nothing_is_refused() -> None:
    one_step = replace(load_preset("tiny"), sampling=replace(load_preset("tiny").sampling, num_inference_steps=1))
    with pytest.raises(ConfigError, match="--speed fast has no effect"):
        plan_animation(AnimationOptions(speed="fast"), one_step, has_audio=True, has_driving=False)


def test_unknown_speed_is_refused() -> None:
    with pytest.raises(ConfigError, match="exact, balanced, fast, got 'ludicrous'"):
        AnimationOptions(speed="ludicrous")  # type: ignore[arg-type]


def test_small_decoder_is_refused_for_other_latents() -> None:
    with pytest.raises(ConfigError, match="does not fit tiny"):
        plan("tiny", overrides={"sampling": {"decoder": "small"}})


def test_missing_small_decoder_is_left_out_by_name_or_refused_where_it_was_asked_for() -> None:
    options = AnimationOptions(speed="fast")
    wanted = plan("hallo", speed="fast")
    left = fit_to_parts(wanted, options, execution=None, has_small_decoder=False)
    assert left.sampling.decoder == "full"
    assert "weights pull taesd" in left.notes[-1]
    assert fit_to_parts(wanted, options, execution=None, has_small_decoder=True) is wanted
    named = AnimationOptions(overrides={"sampling": {"decoder": "small"}})
    with pytest.raises(MissingWeightsError, match="weights pull taesd"):
        fit_to_parts(wanted, named, execution=None, has_small_decoder=False)


def test_window_batch_is_refused_for_clips_that_follow_one_another() -> None:
    execution = ExecutionConfig(num_windows_per_call=2)
    with pytest.raises(ConfigError, match="--window-batch has no effect"):
        fit_to_parts(plan("tiny"), AnimationOptions(), execution=execution, has_small_decoder=False)


@pytest.mark.parametrize("name", ["num_frames_per_decode", "num_windows_per_call"])
def test_batch_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        ExecutionConfig(**{name: 0})  # type: ignore[arg-type]


def test_variant_is_read() -> None:
    read = parse_variant("channels-last+fused+compile+decode-batch=8")
    assert (read.channels_last, read.fused, read.compiled) == (True, True, True)
    assert read.execution("cuda") == ExecutionConfig(num_frames_per_decode=8, work_ahead=True)
    assert parse_variant("plain+window-batch=3").execution("cuda") == ExecutionConfig(num_windows_per_call=3)
    assert parse_variant("").execution("cuda") is None


@pytest.mark.parametrize("text", ["fast", "decode-batch", "decode-batch=x", "decode-batch=0"])
def test_unknown_variant_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_variant(text)
