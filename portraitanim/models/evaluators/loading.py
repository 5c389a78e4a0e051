"""Networks that measure, from the folders where their weights are installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from portraitanim.errors import DamagedWeightsError

MODEL_FILE = "model.safetensors"

_Network = TypeVar("_Network", bound=nn.Module)


def load_evaluator(
    folder: Path, name: str, build: Callable[[], _Network], device: torch.device | None = None
) -> _Network:
    """A frozen network with its weights, all of them.

    Args:
        folder: holds `MODEL_FILE`, as ``weights pull`` writes it.
        name: in the registry, for messages.
        build: makes the network.
        device: where it runs; ``None`` for the CPU.

    Raises:
        DamagedWeightsError: the file cannot be read, or is of another network.
    """
    path = Path(folder) / MODEL_FILE
    network = build()
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise DamagedWeightsError(
            f"{path} cannot be used ({str(error).splitlines()[0]}). "
            f"Install it again: portraitanim weights pull {name} --overwrite"
        ) from None
    return network.eval().requires_grad_(False).to(device or torch.device("cpu"))
