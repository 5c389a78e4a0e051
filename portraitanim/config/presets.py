"""Presets: the systems this package knows, as YAML files with ``extends``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import yaml

from portraitanim.config.schema import Preset, from_dict
from portraitanim.config.yaml_files import YamlFolder, merge
from portraitanim.errors import ConfigError

_FILES = YamlFolder("presets", "preset")


def preset_names() -> list[str]:
    """Names of the presets that the package carries, sorted."""
    return _FILES.names()


def load_preset(name: str, *overrides: dict[str, Any]) -> Preset:
    """Resolve a preset.

    Args:
        name: a name from `preset_names`, or the path of a user's YAML file, which may itself say ``extends: NAME``.
        overrides: nested dicts laid over it in order; the last wins (``--set`` and named flags).

    Raises:
        ConfigError: no such preset, a loop of ``extends``, an unknown key or a value of the wrong type.
    """
    values = _FILES.read(name)
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


def parse_assignments(texts: Iterable[str], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Several of them as nested dicts, laid over ``base``; later ones win.

    Raises:
        ConfigError: as `parse_assignment`.
    """
    return reduce(merge, map(parse_assignment, texts), dict(base or {}))
