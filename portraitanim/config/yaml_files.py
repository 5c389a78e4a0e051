"""YAML files that the package carries or a person writes, and that may extend one another."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from portraitanim.errors import ConfigError


class YamlFolder:
    """The YAML files of one folder of `portraitanim.config`.

    Args:
        folder: name of the folder.
        kind: what one file is, for messages, such as ``preset``.
    """

    def __init__(self, folder: str, kind: str) -> None:
        self._folder = files("portraitanim.config") / folder
        self._kind = kind

    def names(self) -> list[str]:
        """Names of the files, without suffix, sorted."""
        return sorted(entry.name.removesuffix(".yaml") for entry in self._folder.iterdir() if _is_yaml(entry.name))

    def read(self, name: str) -> dict[str, Any]:
        """A file of this folder, or a person's own, laid over what it extends.

        Args:
            name: one of `names`, or the path of a YAML file.

        Raises:
            ConfigError: there is no such file, it is not a mapping, or files extend each other in a circle.
        """
        return self._read(name, seen=())

    def _read(self, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
        kind = self._kind.capitalize()
        if name in seen:
            raise ConfigError(f"{kind}s extend each other in a circle: {' → '.join((*seen, name))}.")
        try:
            values = yaml.safe_load(self._text_of(name))
        except yaml.YAMLError as error:
            raise ConfigError(f"{name} is not valid YAML: {error}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{name} must hold a mapping of config keys.")
        parent = values.pop("extends", None)
        return values if parent is None else merge(self._read(str(parent), (*seen, name)), values)

    def _text_of(self, name: str) -> str:
        names = self.names()
        if name in names:
            return (self._folder / f"{name}.yaml").read_text(encoding="utf-8")
        path = Path(name)
        if path.suffix in (".yaml", ".yml") and path.is_file():
            return path.read_text(encoding="utf-8")
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        known = f"{self._kind.capitalize()}s: {', '.join(names)}."
        raise ConfigError(f"No {self._kind} or YAML file {name!r}.{hint} {known}")


def merge(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """Lay ``override`` over ``base``: mappings merge key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in override.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _is_yaml(name: str) -> bool:
    return name.endswith(".yaml")
