"""What was computed of a portrait before, on disk by the hash of all that it was computed from."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from portraitanim.errors import MediaError
from portraitanim.media.files import whole_file

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "PORTRAITANIM_CACHE"
"""Environment variable that names another folder for what is kept of portraits."""

MAX_BYTES = 1_000_000_000
"""Size of all kept files together: some ten portraits at full size, hundreds at that of the bundled weights."""

_SUFFIX = ".safetensors"


def cache_folder() -> Path:
    """``PORTRAITANIM_CACHE``, else a folder in the platform's cache of this user."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser().absolute() if named else user_cache_path("portraitanim") / "portraits"


def content_key(*parts: object) -> str:
    """Hash of texts, numbers, arrays and tensors: their types, shapes and values."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            values: np.ndarray | None = part.detach().cpu().contiguous().view(torch.uint8).numpy()
            words = f"{part.dtype} {tuple(part.shape)}"
        elif isinstance(part, np.ndarray):
            values, words = np.ascontiguousarray(part), f"{part.dtype} {part.shape}"
        else:
            values, words = None, repr(part)
        digest.update(f"{type(part).__name__} {words};".encode())
        if values is not None:
            digest.update(values.tobytes())
    return digest.hexdigest()


class FeatureCache:
    """Tensors by key, in files; those that were not used for longest go first.

    A file is whole or absent, so several processes may share a folder. It is readable by this user alone: landmarks
    and embeddings of faces are personal data. What cannot be read or written is computed as if nothing were kept.

    Args:
        folder: where files are.
        max_bytes: of all files together.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder or cache_folder()
        self._max_bytes = max_bytes

    def remembered(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What ``compute`` gives, from the disk where it was kept under this key."""
        path = self.folder / f"{key}{_SUFFIX}"
        try:
            kept = load_file(path)
        except (OSError, SafetensorError):  # absent, damaged, or taken away by another process just now
            made = dict(compute())
            self._keep(path, made)
            return made
        logger.info("Read from the cache: %s", path.name)
        with suppress(OSError):  # a folder that may only be read
            os.utime(path)
        return kept

    def _keep(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with whole_file(path, is_shared=True) as partial:
                save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial)
            self._bound(path)
        except (OSError, SafetensorError, MediaError) as error:
            logger.warning("Nothing is kept of this portrait: %s cannot be written (%s).", self.folder, error)

    def _bound(self, newest: Path) -> None:
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            try:
                stat = path.stat()
            except OSError:  # another process was faster
                continue
            is_left_over = ".partial" in path.suffixes and stat.st_mtime < time.time() - 3600
            found.append((0.0 if is_left_over else stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._max_bytes:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size


class PortraitMemory:
    """The cache as one run uses it: every key also names the weights and the machine's way of computing.

    Args:
        cache: where things are kept; ``None``: nowhere.
        facts: what all results depend on beside their inputs.
    """

    def __init__(self, cache: FeatureCache | None, *facts: Any) -> None:
        self._cache = cache
        self._facts = facts

    def remembered(
        self, what: str, inputs: tuple[object, ...], compute: Callable[[], Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """What ``compute`` gives for these inputs."""
        if self._cache is None:
            return dict(compute())
        return self._cache.remembered(content_key(what, *self._facts, *inputs), compute)
