"""A grid of ways to animate one set of clips, as YAML: the ablations of the papers are such files. No torch here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from portraitanim.config.animation import AnimationOptions
from portraitanim.config.schema import from_dict
from portraitanim.config.yaml_files import YamlFolder
from portraitanim.errors import ConfigError

Drive = Literal["audio", "landmarks", "audio+landmarks"]

_FILES = YamlFolder("sweeps", "sweep")
_FILE_CHARACTERS = "-_.=,+ "


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One row of the table.

    Attributes:
        name: of the row.
        options: fields of `AnimationOptions` that differ from the sweep's.
        drive: what moves the portrait; landmarks are those of the true video.
        needs_weights: what must have been trained for this row; empty takes the weights of the command.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    drive: Drive = "audio"
    needs_weights: str = ""

    @property
    def folder_name(self) -> str:
        """The name as a folder can have it."""
        return "".join(c if c.isalnum() or c in _FILE_CHARACTERS else "_" for c in self.name).strip(". ") or "run"


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A whole sweep.

    Attributes:
        title: heading of its table.
        about: what it shows, and where it comes from.
        options: fields of `AnimationOptions` that hold for all rows.
        runs: rows by name.
        grid: option → values: one row for each combination, beside the named ones.
        metrics: columns; empty takes all.
        plot: metrics that are drawn over the grid's first option.
    """

    title: str
    about: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    runs: tuple[SweepRun, ...] = ()
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    plot: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = self.rows()
        if not rows:
            raise ConfigError(f"The sweep {self.title!r} has no rows: give runs or a grid.")
        names = [run.folder_name for run in rows]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"Two rows of the sweep {self.title!r} are called {twice[0]!r}.")
        for run in rows:
            self.options_of(run)

    def rows(self) -> tuple[SweepRun, ...]:
        """The named runs, then those of the grid."""
        return (*self.runs, *(self._of_grid(values) for values in itertools.product(*self.grid.values()) if self.grid))

    def options_of(self, run: SweepRun) -> AnimationOptions:
        """What a row animates with.

        Raises:
            ConfigError: an unknown option, or values that exclude each other.
        """
        # The clips are cut already: their pictures are taken as they are.
        options: AnimationOptions = from_dict(AnimationOptions, {"crop": "whole", **self.options, **run.options})
        return replace(options, provenance="metadata" if options.provenance == "sidecar" else options.provenance)

    def _of_grid(self, values: Sequence[Any]) -> SweepRun:
        chosen = dict(zip(self.grid, values, strict=True))
        return SweepRun(name=", ".join(f"{name}={value}" for name, value in chosen.items()), options=chosen)


def sweep_names() -> tuple[str, ...]:
    """Names of the sweeps that this package carries."""
    return tuple(_FILES.names())


def load_sweep(name_or_path: str) -> SweepConfig:
    """Read a sweep by the name of one that this package carries, or from a YAML file.

    Raises:
        ConfigError: there is none, or it is not one.
    """
    config: SweepConfig = from_dict(SweepConfig, _FILES.read(name_or_path))
    return config
