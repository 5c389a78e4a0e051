"""LPIPS as a loss: the network that measures it, read for training."""

from __future__ import annotations

from pathlib import Path

from portraitanim.errors import MissingWeightsError
from portraitanim.models.evaluators.loading import MODEL_FILE, load_evaluator
from portraitanim.models.evaluators.lpips import Lpips


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
    return load_evaluator(path.parent, "lpips-vgg", lambda: Lpips("vgg"))
