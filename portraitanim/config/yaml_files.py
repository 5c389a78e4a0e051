"""YAML files that the package carries or a person writes, and that may extend one another."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from portraitanim.errors import ConfigError

if TYPE_CHECKING:
    from importlib.abc import Traversable


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
        return sorted(
            entry.name.removesuffix(".yaml") for entry in self._folder.iterdir() if entry.name.endswith(".yaml")
        )

    def read(self, name: str) -> dict[str, Any]:
        """A file of this folder, or a person's own, laid over what it extends.

        Args:
            name: one of `names`, or the path of a YAML file.

        Raises:
            ConfigError: there is no such file, it cannot be read or is not a mapping, or files extend each other in a
                circle.
        """
        return self._read(name, seen=())

    def _read(self, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
        kind = self._kind.capitalize()
        if name in seen:
            raise ConfigError(f"{kind}s extend each other in a circle: {' → '.join((*seen, name))}.")
        values = read_yaml(self._file_of(name))
        if not isinstance(values, dict):
            raise ConfigError(f"{name} must hold a mapping of config keys.")
        parent = values.pop("extends", None)
        return values if parent is None else merge(self._read(str(parent), (*seen, name)), values)

    def _file_of(self, name: str) -> Traversable:
        names = self.names()
        if name in names:
            return self._folder / f"{name}.yaml"
        path = Path(name)
        if path.suffix in (".yaml", ".yml") and path.is_file():
            return path
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        known = f"{self._kind.capitalize()}s: {', '.join(names)}."
        raise ConfigError(f"No {self._kind} or YAML file {name!r}.{hint} {known}")


def read_yaml(file: Traversable) -> Any:
    """What a YAML file holds; ``None`` for an empty one.

    Raises:
        ConfigError: it cannot be read, or is not YAML.
    """
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror}). Give a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from None


def merge(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """Lay ``override`` over ``base``: mappings merge key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in override.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged
