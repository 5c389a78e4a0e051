"""What a run will do, worked out before any weights are loaded: the mode, the sampling, and what has no effect."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from portraitanim.config.animation import FACE_PARTS, PARTS_BESIDE_AUDIO, AnimationOptions
from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.schema import Preset, SamplingConfig, SchedulerConfig, from_dict, to_dict
from portraitanim.config.speeds import at_speed, fits_small_decoder
from portraitanim.config.yaml_files import merge
from portraitanim.errors import ConfigError, InputError, MissingWeightsError
from portraitanim.types import RegionWeights

ResolvedMode = Literal["audio", "landmarks", "audio+landmarks"]

_SETTABLE = ("sampling", "scheduler", "quirks", "framing", "landmark_parts", "idle_motion")
_WHAT_DRIVES = {"audio": "AUDIO", "landmarks": "--driving", "audio+landmarks": "AUDIO and --driving"}


@dataclass(frozen=True, kw_only=True)
class AnimationPlan:
    """A resolved run.

    Attributes:
        mode: what drives.
        preset: the system with everything that was chosen laid over it.
        region_weights: strength of each region's audio attention.
        parts: face parts that driving landmarks move; empty where no landmarks are drawn.
        idle_motion: whether a resting face's motion is drawn, in audio mode.
        notes: what a person should know of it: what ``--speed`` changes.
    """

    mode: ResolvedMode
    preset: Preset
    region_weights: RegionWeights
    parts: tuple[str, ...]
    idle_motion: bool
    notes: tuple[str, ...] = ()

    @property
    def sampling(self) -> SamplingConfig:
        """How the video is sampled."""
        return self.preset.sampling

    @property
    def scheduler(self) -> SchedulerConfig:
        """The noise schedule and its solver."""
        return self.preset.scheduler


def plan_animation(
    options: AnimationOptions, preset: Preset, *, has_audio: bool, has_driving: bool, is_live: bool = False
) -> AnimationPlan:
    """Resolve the options against what the weights can do.

    Args:
        options: what the person chose.
        preset: the system that the weights belong to.
        has_audio: whether sound is given.
        has_driving: whether driving landmarks or a driving video are given.
        is_live: whether the sound still arrives. Overlapping windows then run on with it, as ``sampling.plan: open``,
            where the options do not choose the plan themselves.

    Raises:
        ConfigError: an unknown key, or an option that would have no effect.
        InputError: these weights cannot do what is asked, or what drives is not given.
    """
    mode = _resolve_mode(options, preset, has_audio, has_driving)
    _refuse_without_effect(options, preset, mode)
    _refuse_for_live_sound(options, preset, is_live)
    faster, trades = at_speed(preset, options.speed)
    if options.speed != "exact" and not trades:
        raise ConfigError(f"--speed {options.speed} has no effect: {preset.name} is as fast already. Leave it out.")
    resolved = _resolved_preset(options, faster, is_live)
    idle = mode == "audio" and (resolved.idle_motion if options.idle_motion is None else options.idle_motion)
    return AnimationPlan(
        mode=mode,
        preset=resolved,
        region_weights=RegionWeights(
            pose=_or_one(options.pose_weight),
            expression=_or_one(options.expression_weight),
            lip=_or_one(options.lip_weight),
        ),
        parts=_resolve_parts(options, resolved, mode, idle),
        idle_motion=idle,
        notes=(f"--speed {options.speed}: {', '.join(trades)}.",) if trades else (),
    )


def fit_to_parts(
    plan: AnimationPlan, options: AnimationOptions, *, execution: ExecutionConfig | None, has_small_decoder: bool
) -> AnimationPlan:
    """Settle what depends on the parts that were loaded.

    Args:
        plan: from `plan_animation`.
        options: what the person chose.
        execution: how much is computed at once, where that was chosen.
        has_small_decoder: whether it is installed; where ``--speed`` wants it and it is not, a note says so.

    Raises:
        ConfigError: windows are to be read together, and there are none.
        MissingWeightsError: the small decoder was asked for by name and is not installed.
    """
    if execution is not None and execution.num_windows_per_call > 1 and plan.sampling.plan == "sequential":
        raise ConfigError(
            f"--window-batch has no effect: {plan.preset.name} makes clip after clip, and each reads the end of the "
            "one before. Leave it out."
        )
    if plan.sampling.decoder == "full" or has_small_decoder:
        return plan
    if options.overrides.get("sampling", {}).get("decoder") == "small":
        raise MissingWeightsError("The small decoder is not installed. Run: portraitanim weights pull taesd")
    preset = replace(plan.preset, sampling=replace(plan.sampling, decoder="full"))
    note = "The small decoder is not installed and is left out. To have it: portraitanim weights pull taesd"
    return replace(plan, preset=preset, notes=(*plan.notes, note))


def _resolve_mode(options: AnimationOptions, preset: Preset, has_audio: bool, has_driving: bool) -> ResolvedMode:
    given: ResolvedMode | None = None
    if has_audio:
        given = "audio+landmarks" if has_driving else "audio"
    elif has_driving:
        given = "landmarks"
    if given is None:
        raise InputError("Nothing drives the portrait. Give a sound (AUDIO), a driving video (--driving), or both.")
    if options.mode not in ("auto", given):
        raise InputError(
            f"--mode {options.mode} needs {_WHAT_DRIVES[options.mode]}, got {_WHAT_DRIVES[given]}. "
            f"Give what is missing, leave out what is not used, or use --mode {given}."
        )
    if given != "audio" and preset.condition_map != "landmarks":
        raise InputError(
            f"The weights {preset.name} are driven by sound alone and cannot follow landmarks. "
            "Leave out --driving, or use weights that read landmarks: --weights echomimic-pose, or the bundled tiny."
        )
    return given


def _refuse_without_effect(options: AnimationOptions, preset: Preset, mode: ResolvedMode) -> None:
    regional = preset.network.denoising_unet.audio_attention_dim is not None
    weights = [n for n in ("lip_weight", "expression_weight", "pose_weight") if getattr(options, n) is not None]
    if weights and not regional:
        raise ConfigError(
            f"{_flag(weights[0])} has no effect: the weights {preset.name} have no regional audio attention. "
            "Leave it out, or use --weights hallo or the bundled tiny."
        )
    if mode == "landmarks":
        for name in (*weights, *(["audio_guidance"] if options.audio_guidance is not None else [])):
            raise ConfigError(f"{_flag(name)} has no effect without sound. Leave it out, or give AUDIO.")
        if options.separate_vocals:
            raise ConfigError("--separate-vocals has no effect without sound. Leave it out, or give AUDIO.")
    if mode == "audio":
        for name in ("parts", "motion_sync", "smoothing", "on_missing"):
            if getattr(options, name) is not None:
                raise ConfigError(f"{_flag(name)} has no effect without driving landmarks. Leave it out, or --driving.")
        if options.driving_face != "largest":
            raise ConfigError("--driving-face has no effect without --driving. Leave it out.")
    if options.idle_motion is not None and (mode != "audio" or preset.condition_map != "landmarks"):
        raise ConfigError(
            "--idle-motion has an effect only where sound drives alone and the weights read landmarks. Leave it out."
        )
    if options.paste_back and options.crop == "whole":
        raise ConfigError("--paste-back has no effect with --crop whole: nothing was cut out. Leave one of them out.")


def _refuse_for_live_sound(options: AnimationOptions, preset: Preset, is_live: bool) -> None:
    if options.look_ahead_seconds is not None and (not is_live or preset.audio.encoder == "log-mel"):
        why = "a file is read as a whole" if not is_live else "its encoder looks 25 ms wide and need not look ahead"
        raise ConfigError(f"--look-ahead has no effect here: {why}. Leave it out.")
    if is_live and options.separate_vocals:
        raise ConfigError("--separate-vocals needs the whole sound, and this one still arrives. Leave it out.")
    if is_live and options.start_seconds:
        raise ConfigError("--start has no effect on sound that still arrives. Leave it out.")


def _resolved_preset(options: AnimationOptions, preset: Preset, is_live: bool) -> Preset:
    foreign = [key for key in options.overrides if key not in _SETTABLE]
    if foreign:
        raise ConfigError(
            f"--set {foreign[0]}… has no effect here: the weights fix it. What can be set: {', '.join(_SETTABLE)}."
        )
    chosen: dict[str, Any] = {
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
        "audio_guidance_scale": options.audio_guidance,
        "image_guidance_scale": options.image_guidance,
        "seed": options.seed,
        "size_px": options.size_px,
        "fps": options.fps,
    }
    sampling = {key: value for key, value in chosen.items() if value is not None}
    if options.guidance is not None:
        sampling.update(audio_guidance_scale=None, image_guidance_scale=None)
    # Checked by itself first: merging the flags over it would hide a section that is no mapping.
    settled: Preset = from_dict(Preset, merge(to_dict(preset), options.overrides))
    if is_live and settled.sampling.plan == "overlapping" and "plan" not in options.overrides.get("sampling", {}):
        sampling["plan"] = "open"
    values = merge(to_dict(settled), {"sampling": sampling})
    if options.scheduler is not None:
        values = merge(values, {"scheduler": {"name": options.scheduler}})
    resolved: Preset = from_dict(Preset, values)
    if resolved.sampling.decoder == "small" and not fits_small_decoder(resolved.autoencoder):
        raise ConfigError(
            f"sampling.decoder=small does not fit {preset.name}: the small decoder reads latents of Stable Diffusion. "
            "Leave it out."
        )
    return replace(resolved, name=preset.name)


def _resolve_parts(options: AnimationOptions, preset: Preset, mode: ResolvedMode, idle: bool) -> tuple[str, ...]:
    if mode == "audio" and not idle:
        return ()
    known = tuple(part for part in FACE_PARTS if part in preset.landmark_parts)
    if options.parts is not None:
        unknown = [part for part in options.parts if part not in known]
        if unknown:
            raise InputError(
                f"The weights {preset.name} have not learned the part {unknown[0]!r}. Use --parts {','.join(known)}."
            )
        return tuple(part for part in known if part in options.parts)
    return known if mode == "landmarks" else tuple(part for part in known if part in PARTS_BESIDE_AUDIO)


def _or_one(value: float | None) -> float:
    return 1.0 if value is None else value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
