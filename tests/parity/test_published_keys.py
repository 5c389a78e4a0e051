"""The full-size networks, on the meta device, against the keys and shapes of every published file."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from portraitanim.checkpoints.key_table import translate
from portraitanim.checkpoints.keys import AUTOENCODER_KEYS, ECHOMIMIC_KEYS, HALLO_KEYS
from portraitanim.config.presets import load_preset
from portraitanim.pipelines.build import build_autoencoder, build_networks
from tests.goldens import load_json
from tests.weight_recipes import sinusoid

HALLO_PREFIXES = {
    "reference_unet": "reference_unet.",
    "denoising_unet": "denoising_unet.",
    "condition_encoder": "face_locator.",
    "identity_projection": "imageproj.",
    "audio_projection": "audioproj.",
}
ECHOMIMIC_FILES = {
    "echomimic": ("", ""),
    "echomimic-acc": ("_acc", ""),
    "echomimic-pose": ("_pose", "_pose"),
    "echomimic-pose-acc": ("_pose_acc", "_pose"),
}


@lru_cache(maxsize=8)
def networks_of(preset: str) -> dict[str, Any]:
    return build_networks(load_preset(preset), device="meta")


def without_values(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Tensors of the given shapes: on the meta device, but for position tables, whose values are checked."""
    return {
        key: sinusoid(shape) if key.endswith("pos_encoder.pe") else torch.empty(shape, device="meta")
        for key, shape in shapes.items()
    }


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


@pytest.mark.parametrize("component", list(HALLO_PREFIXES))
def test_hallo_network_is_net_pth_to_the_last_key(component: str) -> None:
    prefix = HALLO_PREFIXES[component]
    keys = load_json("hallo", "keys_full.json")
    published = {key.removeprefix(prefix): shape for key, shape in keys.items() if key.startswith(prefix)}
    expected = shapes_of(networks_of("hallo")[component])
    # Strict: a key that is neither used nor on the named list, or a shape that differs, is an error.
    translated = translate(without_values(published), HALLO_KEYS[component](load_preset("hallo")), expected)
    assert translated.keys() == expected.keys()


def test_hallo_components_make_up_net_pth() -> None:
    keys = load_json("hallo", "keys_full.json")
    assert all(key.startswith(tuple(HALLO_PREFIXES.values())) for key in keys)


def test_hallo_motion_modules_are_those_of_the_published_list() -> None:
    keys = load_json("hallo", "keys_full.json")
    listed = load_json("hallo", "keys_motion_module_full.json")
    in_net = {key.removeprefix("denoising_unet."): shape for key, shape in keys.items() if ".motion_modules." in key}
    assert in_net == listed


@pytest.mark.parametrize("preset", list(ECHOMIMIC_FILES))
def test_echomimic_networks_are_their_files_to_the_last_key(preset: str) -> None:
    files = load_json("echomimic", "keys_full.json")["files"]

    def shapes(name: str) -> dict[str, list[int]]:
        entry = files[name]
        return shapes(entry.removeprefix("=")) if isinstance(entry, str) else entry

    kind, shared = ECHOMIMIC_FILES[preset]
    published = {
        "reference_unet": shapes(f"reference_unet{shared}.pth"),
        "denoising_unet": shapes(f"motion_module{kind}.pth") | shapes(f"denoising_unet{kind}.pth"),
        "condition_encoder": shapes(f"face_locator{shared}.pth"),
    }
    for component, module in networks_of(preset).items():
        expected = shapes_of(module)
        table = ECHOMIMIC_KEYS[component](load_preset(preset))
        assert translate(without_values(published[component]), table, expected).keys() == expected.keys()


@pytest.mark.parametrize("system", ["hallo", "echomimic"])
def test_autoencoder_is_the_published_one_to_the_last_key(system: str) -> None:
    if system == "hallo":
        published = load_json("hallo", "keys_vae_full.json")
    else:
        published = load_json("echomimic", "keys_full.json")["sd_vae_ft_mse"]
    expected = shapes_of(build_autoencoder(load_preset(system), device="meta"))
    assert translate(without_values(published), AUTOENCODER_KEYS, expected).keys() == expected.keys()
