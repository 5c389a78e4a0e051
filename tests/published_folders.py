"""Small published folders, laid out and named as Hallo and EchoMimic published theirs, with the goldens' weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
import yaml
from torch import Tensor

from portraitanim.config.schema import AutoencoderConfig, Preset
from tests.goldens import hallo_weights, load_json, small_weights, whisper_weights
from tests.parity import systems

HALLO_PREFIXES = {
    "reference_unet": "reference_unet.",
    "denoising_unet": "denoising_unet.",
    "face_locator": "face_locator.",
    "imageproj": "imageproj.",
    "audioproj": "audioproj.",
}
_OLD_ATTENTION = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}


def hallo_preset() -> Preset:
    """The preset of the goldens' small Hallo, with its autoencoder."""
    return _with_autoencoder(systems.hallo().preset, "hallo")


def echomimic_preset(condition: str = "mask") -> Preset:
    """The preset of the goldens' small EchoMimic (``mask`` or ``pose``), with its autoencoder."""
    return _with_autoencoder(systems.echomimic(condition).preset, "echomimic")


def net_pth() -> dict[str, Tensor]:
    """Content of the small ``net.pth``; the dict is the caller's, the tensors are shared."""
    return dict(_net_pth())


@lru_cache(maxsize=1)
def _net_pth() -> dict[str, Tensor]:
    return {
        prefix + key: tensor
        for module, prefix in HALLO_PREFIXES.items()
        for key, tensor in hallo_weights(module).items()
    }


def write_hallo(folder: Path, tensors: Mapping[str, Tensor] | None = None) -> Path:
    """Hallo's folder; ``tensors`` takes the place of `net_pth`."""
    (folder / "hallo").mkdir(parents=True)
    torch.save(dict(tensors or net_pth()), folder / "hallo" / "net.pth")
    _write_autoencoder(folder, old_autoencoder(hallo_weights("vae")))
    return folder


def write_echomimic(folder: Path, pose: bool = False) -> Path:
    """EchoMimic's folder of one variant, with Whisper as OpenAI saves it."""
    (folder / "audio_processor").mkdir(parents=True)
    suffix = "_pose" if pose else ""
    torch.save(small_weights("reference_unet"), folder / f"reference_unet{suffix}.pth")
    torch.save(small_weights("denoising_unet"), folder / f"denoising_unet{suffix}.pth")
    torch.save(small_weights("motion_module"), folder / f"motion_module{suffix}.pth")
    torch.save(small_weights(f"face_locator{suffix}"), folder / f"face_locator{suffix}.pth")
    _write_autoencoder(folder, small_weights("vae"))
    write_whisper(folder / "audio_processor" / "whisper_tiny.pt")
    return folder


def write_whisper(path: Path) -> None:
    """A small Whisper as OpenAI saves it: dimensions, encoder and decoder."""
    encoder = {f"encoder.{key}": tensor for key, tensor in whisper_weights().items()}
    decoder = {"decoder.token_embedding.weight": torch.zeros(3, 2)}
    dims = load_json("echomimic", "audio/audio_facts.json")["dims_small"]
    torch.save({"dims": dims, "model_state_dict": encoder | decoder}, path)


def write_preset(path: Path, preset: Preset) -> Path:
    """A preset as the YAML file that ``--config`` reads."""
    path.write_text(yaml.safe_dump(preset.to_dict()), encoding="utf-8")
    return path


def old_autoencoder(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same autoencoder in its old spelling: other names of the attention, whose matrices are 1×1 convolutions."""
    old = {}
    for key, tensor in weights.items():
        head, attention, rest = key.partition(".mid_block.attentions.0.")
        for new_name, old_name in _OLD_ATTENTION.items():
            if rest.startswith(new_name):
                rest = old_name + rest.removeprefix(new_name)
                tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        old[head + attention + rest] = tensor
    return old


def _write_autoencoder(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    (folder / "sd-vae-ft-mse").mkdir()
    torch.save(dict(tensors), folder / "sd-vae-ft-mse" / "diffusion_pytorch_model.bin")


def _with_autoencoder(preset: Preset, system: str) -> Preset:
    sizes = load_json(system, "small_config.json")["vae"]
    return replace(
        preset,
        autoencoder=AutoencoderConfig(
            block_out_channels=tuple(sizes["block_out_channels"]),
            layers_per_block=sizes["layers_per_block"],
            norm_num_groups=sizes["norm_num_groups"],
        ),
    )
