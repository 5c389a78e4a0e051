"""Training recipes: YAML files with what all stages of a system share, and what each changes."""

from __future__ import annotations

from typing import Any

from portraitanim.config.schema import from_dict
from portraitanim.config.training import (
    AnyTrainingConfig,
    AudioTrainingConfig,
    AutoencoderTrainingConfig,
    TrainingConfig,
)
from portraitanim.config.yaml_files import YamlFolder, merge
from portraitanim.errors import ConfigError

STAGES = ("1", "2", "finetune", "autoencoder", "audio")
"""The stages that a recipe may describe."""

_FILES = YamlFolder("recipes", "recipe")
_WITHOUT_CLIPS = {"autoencoder": AutoencoderTrainingConfig, "audio": AudioTrainingConfig}
"""Stages that train one component, on data of their own."""
_SHARED_WITH_THEM = ("preset", "overrides")


def recipe_names() -> list[str]:
    """Names of the recipes that the package carries, sorted."""
    return _FILES.names()


def load_recipe(name: str, stage: str, *overrides: dict[str, Any]) -> AnyTrainingConfig:
    """Resolve one stage of a recipe.

    Args:
        name: a name from `recipe_names`, or the path of a user's YAML file, which may say ``extends: NAME``.
        stage: one of `STAGES`.
        overrides: nested dicts laid over it in order; the last wins (``--set``).

    Raises:
        ConfigError: no such recipe or stage, an unknown key or a value of the wrong type.
    """
    values = _FILES.read(name)
    stages = values.pop("stages", None) or {}
    if not isinstance(stages, dict) or stage not in stages:
        known = ", ".join(map(str, stages)) or "none"
        raise ConfigError(f"{name} has no stage {stage!r}. Its stages: {known}.")
    if stage in _WITHOUT_CLIPS:
        values = {key: value for key, value in values.items() if key in _SHARED_WITH_THEM}
    for override in (stages[stage] or {}, *overrides):
        values = merge(values, override)
    return from_dict(_WITHOUT_CLIPS.get(stage, TrainingConfig), values)
