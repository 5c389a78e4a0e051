"""Checkpoints of a training run: safetensors and JSON, whole or absent, the newest few kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from portraitanim.errors import CheckpointError
from portraitanim.media.files import discard, replace_folder, system_error, write_error

_NAME = re.compile(r"checkpoint-(\d+)$")
_STATE = "state.json"


def checkpoint_folder(output: Path, step: int) -> Path:
    """Where the state after ``step`` steps lies."""
    return Path(output) / f"checkpoint-{step:07d}"


def list_checkpoints(output: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    if not Path(output).is_dir():
        return []
    found = [path for path in Path(output).iterdir() if _NAME.search(path.name) and (path / _STATE).is_file()]
    return sorted(found, key=lambda path: int(_NAME.search(path.name)[1]))  # type: ignore[index]


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder under a partial name; it gets its own, instead of an older one, when the block ends well.

    Raises:
        MediaError: the system refuses to write (disk full, no permission); what was there before is untouched.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        discard(partial)
        partial.mkdir(parents=True)
        yield partial
        replace_folder(partial, path)
    except (OSError, SafetensorError) as error:
        raise write_error(path, system_error(error) or error) from error
    finally:
        discard(partial)


def write_checkpoint(folder: Path, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], keep: int) -> None:
    """Write one checkpoint and remove the oldest beyond ``keep``.

    Args:
        folder: from `checkpoint_folder`.
        tensors: file name without suffix → its tensors.
        state: what else is needed, as JSON.
        keep: how many checkpoints stay.

    Raises:
        MediaError: the system refuses to write; older checkpoints are untouched.
    """
    with whole_folder(folder) as partial:
        for name, group in tensors.items():
            save_file(
                {key: value.detach().contiguous().cpu() for key, value in group.items()},
                partial / f"{name}.safetensors",
            )
        (partial / _STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    for old in list_checkpoints(folder.parent)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what `write_checkpoint` wrote.

    Raises:
        CheckpointError: a file is damaged.
    """
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        return {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}, state
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} cannot be read ({error}). Remove it, and --resume takes the checkpoint before it."
        ) from None


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state as tensors by ``number.name``, and its values that are no tensors."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for number, entries in optimizer.state_dict()["state"].items():
        for name, value in _unwrapped(entries).items():
            if isinstance(value, Tensor):
                # bitsandbytes has one table of 8-bit values for all parameters; safetensors wants each tensor apart.
                tensors[f"{number}.{name}"] = value.clone() if name.startswith("qmap") else value
            else:
                values[f"{number}.{name}"] = value
    return tensors, values


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Bring back what `flatten_optimizer` gave; the parameters must be the same, in the same order."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **values}.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _unwrapped(entries: dict[str, Any]) -> dict[str, Any]:
    """One parameter's state without the inner dict of bitsandbytes, which takes its entries back with or without it."""
    inner = [value for value in entries.values() if isinstance(value, dict)]
    outer = {name: value for name, value in entries.items() if not isinstance(value, dict)}
    return {**outer, **{name: value for values in inner for name, value in values.items()}}
