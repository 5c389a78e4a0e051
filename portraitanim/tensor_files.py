"""Reading of checkpoint files that others made, and writing of ours. No code in a file is ever run."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from portraitanim.errors import CheckpointError

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".model")
"""File names that are read as files of ``torch.save``."""

# Files with weights beside other things keep them under one of these.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "net_recon")
_SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """State dict of a ``.safetensors`` file or a file of ``torch.save``, mapped into memory where the format allows.

    Raises:
        CheckpointError: the file is absent, damaged, holds code or something else than tensors by name.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As `read_tensors`, and what the file holds beside its weights (such as the ``dims`` of Whisper)."""
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.")
    _refuse_placeholder(path)
    if path.suffix == ".safetensors":
        try:
            return load_file(path), {}
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged ({error}). Download it again.") from None
    if path.suffix not in TORCH_SUFFIXES:
        raise CheckpointError(f"{path} is not a checkpoint: expected .safetensors or {', '.join(TORCH_SUFFIXES)}.")
    content = _load_without_code(path)
    beside: dict[str, Any] = {}
    if isinstance(content, Mapping):
        for name in _STATE_DICT_KEYS:
            if isinstance(content.get(name), Mapping):
                beside = {key: value for key, value in content.items() if key != name}
                content = content[name]
                break
    return _only_tensors(path, content), beside


def _refuse_placeholder(path: Path) -> None:
    """Name the two things that are downloaded by mistake in place of weights."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if not start:
        raise CheckpointError(f"{path} is empty. Download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull` in its repository.")
    if start[:9].lower() in (b"<!doctype", b"<html><he") or start[:6].lower() == b"<html>":
        raise CheckpointError(f"{path} is a web page, not weights. Download the file itself.")


def _load_without_code(path: Path) -> Any:
    # Files from before torch 1.6 are no zip archives and cannot be mapped: they are read into memory.
    is_archive = zipfile.is_zipfile(path)
    if is_archive:
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            # torch warns of pickle versions; whether the file can be read is said below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        # torch names a "global" for every class or function that is not a tensor's.
        if "global" in str(error).lower():
            raise CheckpointError(
                f"{path} holds Python objects or code beside tensors and is not opened, since code in a checkpoint can "
                "do anything to your computer. Get the weights from their publisher, or as .safetensors."
            ) from None
        raise _damaged(path, "no list of tensors written by torch.save") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise _damaged(path, str(error)) from None


def _check_archive(path: Path) -> None:
    """Compare the checksums of the archive's records: torch does not, when it maps the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if record is not None:
        raise _damaged(path, f"its record {record} has another checksum than was written")


def _damaged(path: Path, reason: str) -> CheckpointError:
    lines = reason.strip().splitlines() or ["unreadable"]
    return CheckpointError(f"{path} is damaged or no checkpoint ({lines[0]}). Download it again.")


def _only_tensors(path: Path, content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds {type(content).__name__}, not tensors by name.")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} holds {type(value).__name__} under {key!r}, where a tensor is expected.")
    return dict(content)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Write a ``.safetensors`` file tensor by tensor, so that at most one of them is copied.

    safetensors' own writer takes all tensors in their final form at once, which for a full network in another number
    format is a second copy of it.

    Args:
        path: where to; it must not exist.
        tensors: what to write, in this order.
        dtype: number format of floating-point tensors; ``None`` keeps each as it is.

    Raises:
        CheckpointError: a number is not finite, or not in the range of ``dtype``.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key, tensor in tensors.items():
        stored = _stored_dtype(tensor, dtype)
        size = tensor.numel() * stored.itemsize
        header[key] = {
            "dtype": _SAFETENSORS_DTYPES[stored],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key, tensor in tensors.items():
            converted = tensor.detach().to(_stored_dtype(tensor, dtype)).contiguous()
            _check_finite(key, tensor, converted)
            file.write(converted.reshape(-1).view(torch.uint8).numpy().data)


def _stored_dtype(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def _check_finite(key: str, tensor: Tensor, converted: Tensor) -> None:
    if not converted.is_floating_point() or bool(converted.isfinite().all()):
        return
    if bool(tensor.isfinite().all()):
        raise CheckpointError(f"{key} has numbers beyond the range of {converted.dtype}. Use --dtype bf16 or fp32.")
    raise CheckpointError(f"{key} holds numbers that are not finite: the file is damaged. Download it again.")
