"""Golden data: inputs and outputs of the published code, and a record of what the tests read of it.

A test asks for a file by system and name::

    golden = Golden("hallo", "io_denoise.safetensors")
    torch.testing.assert_close(ours, golden["f4.out.official.t666"])

A file that is absent skips the test, by name. Every tensor that is read is noted, and the last test of
``tests/parity`` fails on tensors that no test has read and that ``tests/parity/unused.py`` gives no reason for.

Whose files: ``PORTRAITANIM_GOLDENS`` if it is set (goldens of other sizes and seeds, same names), else
``shared/goldens`` beside the repository, else the compact copy in ``tests/parity/data``.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.weight_recipes import (
    hallo_recipe,
    hash_input,
    hash_recipe,
    metric_recipe,
    whisper_encoder_shapes,
    whisper_recipe,
)

__all__ = [
    "COMPACT_ROOT",
    "SYSTEMS",
    "Golden",
    "all_files",
    "echomimic_weights",
    "golden_folder",
    "hallo_weights",
    "hash_input",
    "is_compact",
    "load",
    "load_json",
    "metric_shapes",
    "metric_weights",
    "read_keys",
    "require",
    "small_weights",
    "tensor_names",
    "whisper_weights",
]

SYSTEMS = ("hallo", "echomimic", "metrics")
COMPACT_ROOT = Path(__file__).parent / "parity" / "data"

_READ: dict[tuple[str, str], set[str]] = defaultdict(set)
_WHOLE_FILE = "*"


def golden_folder(system: str) -> Path:
    """Folder of a system's goldens; see the module for the order in which places are tried."""
    named = os.environ.get("PORTRAITANIM_GOLDENS")
    if named:
        return Path(named) / system
    for parent in Path(__file__).resolve().parents:
        folder = parent / "shared" / "goldens" / system
        if folder.is_dir():
            return folder
    return COMPACT_ROOT / system


def is_compact(system: str) -> bool:
    """Whether only the compact committed copy is at hand."""
    return golden_folder(system) == COMPACT_ROOT / system


def require(system: str, filename: str) -> Path:
    """Path of a golden file, noted as read as a whole; skips the test, by name, where the file is absent."""
    path = _path(system, filename)
    _READ[system, filename].add(_WHOLE_FILE)
    return path


def load_json(system: str, filename: str) -> Any:
    """Content of a JSON file of the goldens."""
    return _json_of(require(system, filename))


class Golden(Mapping[str, Any]):
    """One golden file: torch tensors of a ``.safetensors`` file, numpy arrays of a ``.npz`` file, by name.

    Tensors are read from the disk when they are asked for. ``len``, ``in``, iteration and `matching` look at names
    only and mark nothing as read.

    Args:
        system: one of `SYSTEMS`.
        filename: name inside the system's folder, such as ``audio/g_audio.safetensors``.
        folder: another folder than `golden_folder` gives.
    """

    def __init__(self, system: str, filename: str, folder: Path | None = None) -> None:
        self.system, self.filename = system, filename
        self.path = _path(system, filename) if folder is None else folder / filename
        self._names = tensor_names(self.path)

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            self._absent(name)
        _READ[self.system, self.filename].add(name)
        return _tensor(self.path, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def peek(self, name: str) -> Any:
        """A tensor, without marking it as read."""
        return _tensor(self.path, name)

    def matching(self, pattern: str) -> list[re.Match[str]]:
        """Matches of the names that fit a regular expression as a whole, sorted by name."""
        return [match for name in sorted(self._names) if (match := re.fullmatch(pattern, name))]

    def _absent(self, name: str) -> None:
        where = f"golden tensor {name!r} absent in {self.system}/{self.filename}"
        # In goldens of other sizes, and in the compact copy, tensors may be missing. In the full published set a
        # missing name is a slip of the test.
        if os.environ.get("PORTRAITANIM_GOLDENS") or is_compact(self.system):
            pytest.skip(f"{where} of {golden_folder(self.system)}")
        raise KeyError(f"{where}; it has {', '.join(sorted(self._names)[:8])} …")


def load(system: str, filename: str) -> dict[str, Any]:
    """All tensors of a golden file, all of them noted as read."""
    return dict(Golden(system, filename))


def hallo_weights(module: str) -> dict[str, Tensor]:
    """The small random weights of a Hallo module (``reference_unet``, …, ``vae``) under their published keys."""
    recipe = load_json("hallo", "weights_recipe.json")[module]
    return hallo_recipe(recipe["seed"], recipe["keys"])


def echomimic_weights(prefix: str, keys: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """Weights by EchoMimic's hash recipe, for keys and shapes such as those of ``keys_full.json``."""
    return hash_recipe(prefix, keys)


def small_weights(module: str) -> dict[str, Tensor]:
    """The small random weights of an EchoMimic module (``reference_unet``, …) under their published keys."""
    recipe = load_json("echomimic", "weights_recipe.json")[module]
    return hash_recipe(recipe["prefix"], recipe["keys"])


def whisper_weights(size: str = "small") -> dict[str, Tensor]:
    """A Whisper encoder of the goldens (``small`` or ``full``), under OpenAI's keys without ``encoder.``.

    Made by the recipe, so the file ``audio/w_whisper_small_encoder.safetensors`` is not needed.
    """
    facts = load_json("echomimic", "audio/audio_facts.json")
    if size == "small":
        shapes = whisper_encoder_shapes(facts["dims_small"])
    else:
        keys = load_json("echomimic", "keys_full.json")["whisper_tiny_pt"]["keys"]
        shapes = {key.removeprefix("encoder."): shape for key, shape in keys.items() if key.startswith("encoder.")}
    # The hash reads the names of the whole model, in which the encoder is a part.
    return whisper_recipe(facts[f"hash_prefix_{size}"] + "encoder.", shapes)


def metric_shapes(tag: str) -> dict[str, list[int]]:
    """Published keys and shapes of an evaluation network: inception, i3d, syncnet, deep3d or s3fd."""
    content = load_json("metrics", "syncnet.json" if tag == "syncnet" else f"{tag}_keys.json")
    return content["shapes"]


def metric_weights(tag: str) -> dict[str, Tensor]:
    """Weights of an evaluation network under its published keys: the recipe's, with statistics of batch norms."""
    weights = metric_recipe(tag, metric_shapes(tag))
    return weights if tag == "s3fd" else weights | load("metrics", f"bn_{tag}.safetensors")


def all_files(system: str) -> list[str]:
    """Names of all golden files of a system; READMEs are not data."""
    folder = golden_folder(system)
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if not name.endswith(".md"))


def tensor_names(path: Path) -> frozenset[str]:
    """Names of the tensors of a golden file; one name that stands for the whole, for files of other kinds."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return frozenset(file.keys())
    if path.suffix == ".npz":
        with np.load(path) as file:
            return frozenset(file.files)
    return frozenset({_WHOLE_FILE})


def read_keys(system: str, filename: str) -> set[str]:
    """Names of the tensors that tests of this run have read; all of them once a test took the file as a whole."""
    read = _READ[system, filename]
    return set(tensor_names(_path(system, filename))) if _WHOLE_FILE in read else set(read)


def _path(system: str, filename: str) -> Path:
    path = golden_folder(system) / filename
    if not path.is_file():
        pytest.skip(f"golden file {system}/{filename} absent in {golden_folder(system)}")
    return path


@lru_cache(maxsize=32)
def _json_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _tensor(path: Path, name: str) -> Tensor | np.ndarray:
    if path.suffix == ".npz":
        with np.load(path) as file:
            return file[name]
    with safe_open(path, "pt") as file:
        tensor = file.get_tensor(name)
    # A scalar is stored without data of its own in some versions of the format: give a tensor in any case.
    return torch.as_tensor(tensor)
