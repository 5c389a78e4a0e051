"""Presets: the systems this package knows, as YAML files with ``extends``."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from portraitanim.config.schema import Preset, from_dict
from portraitanim.errors import ConfigError

_FOLDER = files("portraitanim.config") / "presets"


def preset_names() -> list[str]:
    """Names of the presets that the package carries, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml"))


def load_preset(name: str, *overrides: dict[str, Any]) -> Preset:
    """Resolve a preset.

    Args:
        name: a name from `preset_names`, or the path of a user's YAML file, which may itself say ``extends: NAME``.
        overrides: nested dicts laid over it in order; the last wins (``--set`` and named flags).

    Raises:
        ConfigError: no such preset, a loop of ``extends``, an unknown key or a value of the wrong type.
    """
    values = _read(name, seen=())
    for override in overrides:
        values = merge(values, override)
    return from_dict(Preset, values)


def parse_assignment(text: str) -> dict[str, Any]:
    """Turn ``sampling.guidance_scale=3`` into nested dicts; the value is read as YAML.

    Raises:
        ConfigError: there is no ``=``, an empty key, or the value is not YAML.
    """
    key, separator, value = text.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"--set takes KEY=VALUE, such as sampling.guidance_scale=3; got {text!r}.")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"The value of --set {text!r} is not valid YAML.") from None
    for part in reversed(parts):
        nested = {part: nested}
    return nested


def merge(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """Lay ``override`` over ``base``: mappings merge key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in override.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _read(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise ConfigError(f"Presets extend each other in a circle: {' → '.join((*seen, name))}.")
    text = _text_of(name)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{name} must hold a mapping of config keys.")
    parent = values.pop("extends", None)
    return values if parent is None else merge(_read(str(parent), (*seen, name)), values)


def _text_of(name: str) -> str:
    if name in preset_names():
        return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path.read_text(encoding="utf-8")
    near = difflib.get_close_matches(name, preset_names(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"No preset or YAML file {name!r}.{hint} Presets: {', '.join(preset_names())}.")
