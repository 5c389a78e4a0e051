"""Training recipes: YAML files with what all stages of a system share, and what each changes."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from portraitanim.config.presets import merge
from portraitanim.config.schema import from_dict
from portraitanim.config.training import AutoencoderTrainingConfig, TrainingConfig
from portraitanim.errors import ConfigError

STAGES = ("1", "2", "finetune", "autoencoder")
"""The stages that a recipe may describe."""

_FOLDER = files("portraitanim.config") / "recipes"
_SHARED_WITH_AUTOENCODER = ("preset", "overrides")


def recipe_names() -> list[str]:
    """Names of the recipes that the package carries, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str, stage: str, *overrides: dict[str, Any]) -> TrainingConfig | AutoencoderTrainingConfig:
    """Resolve one stage of a recipe.

    Args:
        name: a name from `recipe_names`, or the path of a user's YAML file, which may say ``extends: NAME``.
        stage: one of `STAGES`.
        overrides: nested dicts laid over it in order; the last wins (``--set``).

    Raises:
        ConfigError: no such recipe or stage, an unknown key or a value of the wrong type.
    """
    values = _read(name, seen=())
    stages = values.pop("stages", None) or {}
    if not isinstance(stages, dict) or stage not in stages:
        known = ", ".join(map(str, stages)) or "none"
        raise ConfigError(f"{name} has no stage {stage!r}. Its stages: {known}.")
    if stage == "autoencoder":
        values = {key: value for key, value in values.items() if key in _SHARED_WITH_AUTOENCODER}
    for override in (stages[stage] or {}, *overrides):
        values = merge(values, override)
    return from_dict(AutoencoderTrainingConfig if stage == "autoencoder" else TrainingConfig, values)


def _read(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise ConfigError(f"Recipes extend each other in a circle: {' → '.join((*seen, name))}.")
    try:
        values = yaml.safe_load(_text_of(name))
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{name} must hold a mapping of config keys.")
    parent = values.pop("extends", None)
    return values if parent is None else merge(_read(str(parent), (*seen, name)), values)


def _text_of(name: str) -> str:
    if name in recipe_names():
        return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path.read_text(encoding="utf-8")
    near = difflib.get_close_matches(name, recipe_names(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"No recipe or YAML file {name!r}.{hint} Recipes: {', '.join(recipe_names())}.")
