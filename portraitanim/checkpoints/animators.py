"""From the name of weights to an `Animator` that is ready to use."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitanim.checkpoints.bundled import BUNDLED_NAME, bundled_folder
from portraitanim.checkpoints.manifest import MANIFEST_NAME
from portraitanim.checkpoints.registry import REGISTRY
from portraitanim.checkpoints.store import audio_encoder_folder, installed, require
from portraitanim.config.animation import AnimationOptions
from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.presets import load_preset, preset_names
from portraitanim.config.speeds import Speed, fits_small_decoder
from portraitanim.errors import ConfigError, InputError, MissingWeightsError

if TYPE_CHECKING:
    import torch

    from portraitanim.config.schema import Preset
    from portraitanim.pipelines.animator import Animator
    from portraitanim.pipelines.memory_plan import MemoryPlan
    from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline

logger = logging.getLogger(__name__)

_FEW_STEPS = "-acc"
"""Ending of the names of weights that were distilled to a few steps without guidance."""

_BY_SOUND = ("hallo", "echomimic-acc", "echomimic", "echomimic-pose-acc", "echomimic-pose")
_BY_LANDMARKS = ("echomimic-pose-acc", "echomimic-pose")


@dataclass(frozen=True, kw_only=True)
class WeightsChoice:
    """Which weights a run uses.

    Attributes:
        name: what they are called in messages.
        folder: where they are.
        why: one line for the person, where the choice was not theirs; empty otherwise.
    """

    name: str
    folder: Path
    why: str = ""


def choose_weights(name_or_folder: str | None, *, has_driving: bool = False, speed: Speed = "exact") -> WeightsChoice:
    """Find the weights of a run.

    Args:
        name_or_folder: a name from the registry, ``tiny`` for the bundled weights, a folder, or ``None`` for the best
            that is installed and can do it.
        has_driving: whether landmarks drive.
        speed: ``fast`` takes the few-step weights of a system that has them and where they are installed.

    Raises:
        MissingWeightsError: they are not installed.
        InputError: there is no such name and no such folder.
    """
    few_steps = f"{name_or_folder}{_FEW_STEPS}"
    if speed == "fast" and few_steps in REGISTRY:
        folder = installed(few_steps)
        if folder is not None:
            return WeightsChoice(name=few_steps, folder=folder, why=f"--speed fast: using the weights {few_steps}.")
        why = f"The few-step weights are not installed. For more speed: portraitanim weights pull {few_steps}"
        return replace(choose_weights(name_or_folder, has_driving=has_driving), why=why)
    if name_or_folder is None:
        return _best(has_driving)
    if name_or_folder == BUNDLED_NAME:
        return WeightsChoice(name=BUNDLED_NAME, folder=bundled_folder())
    if name_or_folder in REGISTRY:
        return WeightsChoice(name=name_or_folder, folder=require(name_or_folder))
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return WeightsChoice(name=str(folder), folder=folder)
    known = ", ".join((BUNDLED_NAME, *_BY_SOUND))
    raise InputError(f"No weights and no folder are called {name_or_folder!r}. Use one of {known}, or a folder.")


def open_animator(
    weights: str | None = None,
    *,
    preset: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    offload: bool = False,
    max_vram: str | None = None,
    options: AnimationOptions | None = None,
    has_driving: bool = False,
    **execution: Any,
) -> Animator:
    """Load weights, once for any number of videos.

    Args:
        weights: see `choose_weights`.
        preset: a preset or YAML file to use instead of the weights' own; its networks must be theirs.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``auto``, ``fp32``, ``fp16`` or ``bf16``.
        offload: keep networks in host memory and move each to the GPU when it works.
        max_vram: memory of the device that may be used, such as ``8G``; on a CPU, of the process. Decides what is left
            open of ``dtype``, ``offload`` and ``execution``.
        options: how videos will be made, as far as memory depends on it; by default as the weights say.
        has_driving: whether landmarks will drive; matters where ``weights`` is ``None``.
        **execution: ``execution``, ``channels_last``, ``fused``, ``compiled`` and ``cache``, see `load_animator`.

    Raises:
        MissingWeightsError: the weights, or something they need, are not installed.
        InputError: a device, dtype or name that is not there.
    """
    choice = choose_weights(weights, has_driving=has_driving)
    smaller: list[MemoryPlan] = []
    if max_vram is not None:
        from portraitanim.pipelines.animation_plan import plan_animation
        from portraitanim.pipelines.memory_plan import choose_plan, dtype_name

        own = weights_preset(choice.folder, preset)
        can_drive = has_driving and own.condition_map == "landmarks"
        plan = plan_animation(options or AnimationOptions(), own, has_audio=True, has_driving=can_drive)
        taken, smaller = choose_plan(
            plan.preset, max_vram, device=device, dtype=dtype, offload=offload, execution=execution.get("execution")
        )
        logger.info("%s", taken.describe())
        dtype, offload = dtype_name(taken.dtype), taken.is_offloaded
        execution["execution"] = taken.execution
    animator = load_animator(
        choice,
        preset=preset,
        device=device,
        dtype=dtype,
        offload=offload,
        **execution,
    )
    animator.parts.smaller_plans = smaller
    return animator


def load_animator(
    choice: WeightsChoice,
    *,
    preset: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    offload: bool = False,
    execution: ExecutionConfig | None = None,
    channels_last: bool | None = None,
    fused: bool | None = None,
    compiled: bool = False,
    cache: bool = True,
) -> Animator:
    """As `open_animator`, for weights that were chosen already.

    Args:
        choice: from `choose_weights`.
        preset: see `open_animator`.
        device: see `open_animator`.
        dtype: see `open_animator`.
        offload: see `open_animator`.
        execution: how much is computed at once; ``None`` for what suits the device.
        channels_last: how convolutions lie in memory; ``None`` for channels-last in the autoencoder on a CPU.
        fused: one projection per self-attention, see `join_projections`; ``None`` for yes on CUDA.
        compiled: compile the denoising network and the decoder, see `compile_regions`.
        cache: keep what is computed of a portrait on disk, see `FeatureCache`.
    """
    from portraitanim.audio.encoders import load_named_encoder
    from portraitanim.face.mouth_reader import MOUTH_READER, MouthReader
    from portraitanim.pipelines.animator import Animator
    from portraitanim.pipelines.animator_parts import AnimatorParts
    from portraitanim.pipelines.feature_cache import FeatureCache
    from portraitanim.pipelines.weights_folder import load_pipeline
    from portraitanim.runtime import resolve_device, resolve_dtype

    place = resolve_device(device)
    number_format = resolve_dtype(dtype, place)
    if offload and place.type != "cuda":
        raise ConfigError(f"--offload has no effect on {place.type}: it moves networks off a CUDA GPU. Leave it out.")
    used = weights_preset(choice.folder, preset)
    pipeline = load_pipeline(choice.folder, number_format)
    # Reading sound is little work: where memory is short, the GPU need not hold another network.
    folder = audio_encoder_folder(choice.folder, used.audio)
    audio_encoder, audio = load_named_encoder(used.audio, folder, "cpu" if offload else place)
    used = replace(used, audio=audio)
    reader = choice.folder / MOUTH_READER
    parts = AnimatorParts(
        pipeline=pipeline,
        preset=used,
        audio_encoder=audio_encoder,
        identity_encoder=_identity_encoder(used, str(place)),
        mouth_reader=MouthReader.load(reader) if reader.is_file() else None,
        landmarker=installed("face-landmarker"),
        separator=installed("kim-vocal-2"),
        small_decoder=_small_decoder(used, number_format, place),
        execution=execution,
        cache=FeatureCache() if cache else None,
        name=choice.name,
        fingerprint=weights_fingerprint(choice.folder),
    )
    lay_out(pipeline, place.type, channels_last=channels_last, fused=fused, compiled=compiled, offloaded=offload)
    if offload:
        pipeline.enable_model_cpu_offload(device=place)
    else:
        pipeline.to(place)
    return Animator(parts)


def lay_out(
    pipeline: PortraitAnimationPipeline,
    device_type: str,
    *,
    channels_last: bool | None = None,
    fused: bool | None = None,
    compiled: bool = False,
    offloaded: bool = False,
) -> None:
    """Lay networks channels-last, join projections and compile, where that is asked for or suits the device.

    On CUDA, compiled networks also replay whole steps as CUDA graphs, unless they are offloaded; see `StepGraphs`.
    Joined projections make no difference on a CPU that could be measured (a step of the bundled network in bfloat16,
    interleaved: median ratio 1.008, quartiles 0.97 and 1.03), so they are off there. On CUDA, where each product is
    a launch, they are on, but have not been run there.
    """
    from portraitanim.models.projections import join_projections
    from portraitanim.pipelines.network_layout import compile_regions, lay_channels_last
    from portraitanim.pipelines.step_graphs import replay_steps

    if channels_last or (channels_last is None and device_type == "cpu"):
        lay_channels_last(pipeline.vae, pipeline.condition_encoder)
    if channels_last:
        lay_channels_last(pipeline.reference_unet, pipeline.denoising_unet)
    if fused or (fused is None and device_type == "cuda"):
        join_projections(pipeline.reference_unet, pipeline.denoising_unet)
    if compiled:
        compile_regions(pipeline.denoising_unet, pipeline.vae.decoder)
        if device_type == "cuda" and not offloaded:
            replay_steps(pipeline.denoising_unet)


def weights_preset(folder: Path, preset: str | None = None) -> Preset:
    """The system that the weights of a folder belong to, without loading them.

    Args:
        folder: with ``model_index.json``.
        preset: a preset or YAML file to use instead; see `open_animator`.

    Raises:
        MissingWeightsError: the folder holds no pipeline.
        DamagedWeightsError: its index cannot be read.
    """
    from portraitanim.pipelines.weights_folder import read_preset

    own = read_preset(folder)
    return own if preset is None else _other_preset(preset, own)


def planned_preset(weights: str | None, preset: str | None = None) -> Preset:
    """As `weights_preset`, also for weights that are not installed yet: ``--check`` comes before a large download.

    Args:
        weights: see `choose_weights`.
        preset: see `weights_preset`.
    """
    try:
        return weights_preset(choose_weights(weights).folder, preset)
    except MissingWeightsError:
        name = weights or BUNDLED_NAME
        if name not in preset_names():
            raise
        return load_preset(preset or name)


def weights_fingerprint(folder: Path) -> str:
    """Hash that changes with any byte of the weights: of the manifest, which has theirs, else of the files."""
    manifest = folder / MANIFEST_NAME
    digest = hashlib.sha256()
    files = [manifest] if manifest.is_file() else sorted(folder.rglob("*.safetensors")) + sorted(folder.rglob("*.json"))
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _best(has_driving: bool) -> WeightsChoice:
    for name in _BY_LANDMARKS if has_driving else _BY_SOUND:
        folder = installed(name)
        if folder is not None:
            return WeightsChoice(name=name, folder=folder, why=f"Using the installed weights {name}.")
    suggestion = _BY_LANDMARKS[0] if has_driving else _BY_SOUND[0]
    return WeightsChoice(
        name=BUNDLED_NAME,
        folder=bundled_folder(),
        why=f"Using the small bundled weights. For the full-size ones: portraitanim weights pull {suggestion}",
    )


def _other_preset(name: str, own: Preset) -> Preset:
    preset = load_preset(name)
    if preset.audio.encoder == own.audio.encoder:  # where the encoder lies is the weights' to say
        fingerprint = preset.audio.fingerprint or own.audio.fingerprint
        preset = replace(preset, audio=replace(own.audio, fingerprint=fingerprint))
    for section in ("network", "autoencoder", "audio"):
        if getattr(preset, section) != getattr(own, section):
            raise ConfigError(
                f"The preset {name} has another {section} than the weights, which are of {own.name}. "
                "Use a preset of the same system, or other --weights."
            )
    return preset


def _small_decoder(preset: Preset, dtype: torch.dtype, device: torch.device) -> Any | None:
    from portraitanim.pipelines.weights_folder import load_small_decoder

    folder = installed("taesd") if fits_small_decoder(preset.autoencoder) else None
    return None if folder is None else load_small_decoder(folder, dtype, device)


def _identity_encoder(preset: Preset, device: str) -> object | None:
    if preset.network.identity_projection is None:
        return None
    from portraitanim.face.identity import PACK_NAME, IdentityEncoder

    folder = installed(PACK_NAME)
    if folder is None:
        raise MissingWeightsError(
            f"{preset.name} reads who the face is, by the InsightFace pack {PACK_NAME} (non-commercial research only), "
            f"which is not installed. Run: portraitanim weights pull {PACK_NAME}"
        )
    return IdentityEncoder.load(folder, device=device)
