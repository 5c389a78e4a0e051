"""What DeepSpeed was told by ``accelerate launch`` or a file, held against the recipe."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from accelerate.utils import DeepSpeedPlugin, is_deepspeed_available

from portraitanim.config.training import EngineConfig
from portraitanim.errors import ConfigError

_BY_RECIPE_ALONE = {
    "optimizer": "engine.optimizer",
    "scheduler": "engine.decay",
    "fp16": "engine.mixed_precision",
    "bf16": "engine.mixed_precision",
    "torch_autocast": "engine.mixed_precision",
}
_OFFLOADS = ("offload_optimizer", "offload_param")
_SETTINGS = ("zero_optimization", "zero_allow_untested_optimizer", "steps_per_print", "wall_clock_breakdown")
_ZERO_SETTINGS = (
    *("stage", "contiguous_gradients", "reduce_scatter", "reduce_bucket_size", "use_multi_rank_bucket_allreduce"),
    *("allgather_partitions", "allgather_bucket_size", "overlap_comm", "ignore_unused_parameters"),
)


def zero_plugin(config: EngineConfig, precision: str, leaves_gpu_alone: bool) -> DeepSpeedPlugin | None:
    """What accelerate needs to use DeepSpeed as it was told; ``None`` if it was not.

    Args:
        config: whose values DeepSpeed gets.
        precision: the number format as accelerate calls it.
        leaves_gpu_alone: a GPU is there and shall not be used.

    Raises:
        ConfigError: DeepSpeed is not installed, or was told what contradicts the recipe or cannot be done here.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() not in ("true", "1"):
        return None
    if not is_deepspeed_available():
        raise ConfigError("accelerate was told to use DeepSpeed, which is not installed: pip install deepspeed.")
    if leaves_gpu_alone:
        raise ConfigError("DeepSpeed takes the GPU that it finds. Leave out --device cpu, or --use_deepspeed.")
    told, ours = _told(), _ours(config)
    _require_known(told)
    _require_possible(told["zero_optimization"], config, precision)
    _require_no_contradiction(told, ours)
    settings: dict[str, Any] = {key: value for key, value in told.items() if key not in _BY_RECIPE_ALONE}
    settings.update({key: value for key, (value, _) in ours.items()})
    if precision == "bf16":
        # DeepSpeed's own bf16 would round the weights; this rounds where autocast does it on one GPU. No kind of layer
        # is named whose gradients should travel as bf16.
        settings["torch_autocast"] = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    try:
        return DeepSpeedPlugin(hf_ds_config=settings)
    except ValueError as error:
        raise ConfigError(f"accelerate does not take these settings of DeepSpeed: {error}") from None


def _ours(config: EngineConfig) -> dict[str, tuple[Any, str]]:
    """Settings that the recipe decides, and what they come from."""
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    return {
        "train_micro_batch_size_per_gpu": (config.batch_size, "engine.batch_size"),
        "gradient_accumulation_steps": (config.accumulation_steps, "engine.accumulation_steps"),
        "gradient_clipping": (config.max_gradient_norm, "engine.max_gradient_norm"),
        "train_batch_size": (
            config.batch_size * config.accumulation_steps * num_processes,
            f"engine.batch_size · engine.accumulation_steps · {num_processes} processes",
        ),
    }


def _told() -> dict[str, Any]:
    """The settings of a file, and those on the command line of ``accelerate launch`` or in its own config."""
    launched: dict[str, Any] = {"zero_optimization": {}}
    for key in ("gradient_accumulation_steps", "gradient_clipping"):
        launched[key] = _number(os.environ.get(f"ACCELERATE_{key.upper()}", "auto"))
    for key in _OFFLOADS:
        device = os.environ.get(f"ACCELERATE_DEEPSPEED_{key.upper()}_DEVICE", "none")
        launched["zero_optimization"][key] = {"device": device}
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE")
    path = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if path == "none":
        launched["zero_optimization"]["stage"] = _number(stage or "2")
        return launched
    told = _read(Path(path))
    if stage is not None and told["zero_optimization"].get("stage") != _number(stage):
        raise ConfigError(f"accelerate launch was told --zero_stage {stage}, but {path} has another stage.")
    for key in ("gradient_accumulation_steps", "gradient_clipping"):
        if told.setdefault(key, "auto") == "auto":
            told[key] = launched[key]
        elif launched[key] not in ("auto", told[key]):
            raise ConfigError(f"accelerate launch was told {key} {launched[key]}, but {path} has {told[key]}.")
    for key, offload in launched["zero_optimization"].items():
        if offload["device"] != "none":
            told["zero_optimization"][key] = offload
    return told


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}, the settings of DeepSpeed, cannot be read as JSON: {error}") from None
    if not isinstance(told, dict) or not isinstance(told.get("zero_optimization"), dict):
        raise ConfigError(f'{path} lacks "zero_optimization". The least is {{"zero_optimization": {{"stage": 2}}}}.')
    return told


def _require_known(told: dict[str, Any]) -> None:
    zero = told["zero_optimization"]
    if zero.get("stage") == 3:  # said first, since it has settings of its own
        raise ConfigError(
            "DeepSpeed's stage 3 gathers parameters layer by layer, but these networks call parts of layers ahead of "
            "the step. Take stage 2, or spread the parameters too: accelerate launch --use_fsdp --fsdp_version 2."
        )
    known = {*_SETTINGS, *_BY_RECIPE_ALONE, *_ours(EngineConfig())}
    for prefix, settings, names in (("", told, known), ("zero_optimization.", zero, {*_ZERO_SETTINGS, *_OFFLOADS})):
        for key, value in settings.items():
            if key not in names:
                raise ConfigError(
                    f"DeepSpeed was told {prefix}{key}, which is unknown or has no effect here. {_instead(key, names)}"
                )
            if prefix and value == "auto":
                raise ConfigError(f'DeepSpeed was told {prefix}{key} "auto". Give a value, or leave it out.')


def _instead(key: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(key, names, 1)
    return f"Leave it out, or did you mean {near[0]}?" if near else "Leave it out."


def _require_possible(zero: dict[str, Any], config: EngineConfig, precision: str) -> None:
    if zero.get("stage") not in (1, 2):
        raise ConfigError(f"DeepSpeed's stage (--zero_stage) must be 1 or 2 here, got {zero.get('stage')}.")
    for key in _OFFLOADS:
        told = zero.get(key)
        device = told.get("device", "none") if isinstance(told, dict) else told
        if device not in ("none", None):
            raise ConfigError(
                f"DeepSpeed was told {key} to {device}, for which it would replace the recipe's optimizer by its own. "
                "Leave it out, or use more processes, each with a smaller share."
            )
    if config.optimizer not in ("adamw", "sgd"):
        raise ConfigError(
            f"engine.optimizer must be adamw or sgd with DeepSpeed, got {config.optimizer}, whose state follows each "
            "parameter's shape, while ZeRO lays them all in a row and cuts it where a process's share ends."
        )
    if precision == "fp16":
        raise ConfigError(
            "With engine.mixed_precision=fp16 gradients are scaled, and DeepSpeed would clip them before they are "
            "scaled back. Set engine.mixed_precision=bf16 or fp32."
        )


def _require_no_contradiction(told: dict[str, Any], ours: dict[str, tuple[Any, str]]) -> None:
    for key, decides in _BY_RECIPE_ALONE.items():
        section = told.get(key)
        if section and not (isinstance(section, dict) and section.get("enabled") in (False, "auto")):
            raise ConfigError(f'DeepSpeed was told "{key}", which the recipe decides ({decides}). Leave it out.')
    for key, (value, source) in ours.items():
        if told.get(key, "auto") not in ("auto", value):
            raise ConfigError(
                f"DeepSpeed was told {key} {told[key]}, but the recipe has {value} ({source}). Leave it out, or change "
                "the one or the other."
            )


def _number(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
