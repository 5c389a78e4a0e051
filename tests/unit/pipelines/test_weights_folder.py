"""Components of a folder of weights: found in it or by themselves, and one clear error where they cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from portraitanim.errors import DamagedWeightsError, MissingWeightsError
from portraitanim.pipelines.weights_folder import load_audio_projection, load_autoencoder
from tests.small_weights import small_weights

CPU = torch.device("cpu")
COMPONENTS = {
    "vae": lambda folder: load_autoencoder(folder, CPU),
    "audio_projection": load_audio_projection,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    small_weights(folder)
    return folder


@pytest.mark.parametrize(("name", "load"), COMPONENTS.items())
def test_component_is_read_from_a_pipeline_and_from_a_folder_of_its_own(
    weights: Path, name: str, load: Callable[[Path], Any]
) -> None:
    below, alone = load(weights).state_dict(), load(weights / name).state_dict()
    assert below.keys() == alone.keys()
    assert all(torch.equal(below[key], alone[key]) for key in below)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (COMPONENTS["vae"], "holds no autoencoder. Name weights"),
        (COMPONENTS["audio_projection"], "holds no audio projection. Name a folder"),
    ],
)
def test_folder_without_the_component_is_refused(tmp_path: Path, load: Callable[[Path], Any], message: str) -> None:
    with pytest.raises(MissingWeightsError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vae", r"vae cannot be read \(.+\)\. Install it again"),
        ("audio_projection", r"audio_projection cannot be read \(.+\)\. Train it again"),
    ],
)
def test_damaged_component_says_what_to_do(tmp_path: Path, name: str, message: str) -> None:
    small_weights(tmp_path)
    (tmp_path / name / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DamagedWeightsError, match=message):
        COMPONENTS[name](tmp_path)
