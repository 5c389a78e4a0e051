"""LPIPS as a loss: the network that measures it, read for training."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from portraitanim.errors import DamagedWeightsError, MissingWeightsError
from portraitanim.models.evaluators.lpips import Lpips

MODEL_FILE = "model.safetensors"


def load_lpips(folder: str | Path | None) -> Lpips:
    """LPIPS with VGG-16, the usual choice for training, frozen.

    Args:
        folder: what ``weights pull lpips-vgg`` made; `Lpips` needs pictures in [-1, 1].

    Raises:
        MissingWeightsError: there is no such folder or file.
        DamagedWeightsError: the file is not that network.
    """
    path = None if folder is None else Path(folder) / MODEL_FILE
    if path is None or not path.is_file():
        raise MissingWeightsError(
            f"The perceptual term of the spatial loss needs the weights lpips-vgg in objective.lpips_weights (got "
            f"{folder}). Run: portraitanim weights pull lpips-vgg, and name the folder that it prints; or set "
            "objective.lpips_weight=0."
        )
    network = Lpips("vgg")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise DamagedWeightsError(
            f"{path} cannot be used ({str(error).splitlines()[0]}). "
            "Run: portraitanim weights pull lpips-vgg --overwrite"
        ) from None
    return network.eval().requires_grad_(False)
