"""One part of a weights folder: its tensors, ready to be written, and its config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from portraitanim.tensor_files import write_safetensors


@dataclass(frozen=True, kw_only=True, eq=False)
class Component:
    """A network under our keys. The tensors are those of the published file, mapped, not copied.

    Attributes:
        name: subfolder; empty for the folder itself.
        filename: name of the tensors' file.
        tensors: what our network loads.
        save_config: writes the config into a folder.
        sources: the published files.
    """

    name: str
    filename: str
    tensors: Mapping[str, Tensor]
    save_config: Callable[[Path], object]
    sources: tuple[Path, ...]

    def size_bytes(self, dtype: torch.dtype | None) -> int:
        """Bytes of the tensors in that number format; ``None`` is as they are."""
        return sum(
            tensor.numel() * (dtype or tensor.dtype).itemsize if tensor.is_floating_point() else tensor.nbytes
            for tensor in self.tensors.values()
        )

    def write(self, root: Path, dtype: torch.dtype | None) -> None:
        """Write config and tensors below ``root``."""
        folder = root / self.name
        folder.mkdir(exist_ok=True)
        self.save_config(folder)
        write_safetensors(folder / self.filename, self.tensors, dtype)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Keys and shapes that a network loads."""
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
