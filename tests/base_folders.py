"""A small Stable Diffusion 1.5 as diffusers saves it, and a small AnimateDiff file, that fit `small_networks`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from portraitanim.config.schema import Preset
from portraitanim.models.motion_module import sinusoidal_positions
from portraitanim.pipelines.build import build_autoencoder, build_networks

CROSS_WIDTH = 12


def small_unet() -> UNet2DConditionModel:
    """Diffusers' own class, in the size of `small_networks`."""
    torch.manual_seed(3)
    return UNet2DConditionModel(
        block_out_channels=(16, 32, 32),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=CROSS_WIDTH,
        norm_num_groups=8,
    )


def write_base(folder: Path, preset: Preset, unet: UNet2DConditionModel | None = None) -> Path:
    """``unet/`` and ``vae/``, as ``save_pretrained`` leaves them."""
    (unet or small_unet()).save_pretrained(folder / "unet")
    build_autoencoder(preset).save_pretrained(folder / "vae")
    return folder


def motion_module(preset: Preset, *, with_middle: bool = True) -> dict[str, Tensor]:
    """AnimateDiff's motion modules by AnimateDiff's names, at every level, with their position tables."""
    unet: Any = preset.network.denoising_unet
    everywhere = [True] * len(unet.motion_levels)
    torch.manual_seed(4)
    changed = replace(preset, network=replace(preset.network, denoising_unet=replace(unet, motion_levels=everywhere)))
    state = build_networks(changed, only=("denoising_unet",))["denoising_unet"].state_dict()
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if ".motion_modules." not in key or (key.startswith("mid_block.") and not with_middle):
            continue
        theirs = published_name(key)
        found[theirs] = torch.randn(tensor.shape)
        if match := re.match(r"(.*\.attention_blocks\.\d+\.)to_q\.weight$", theirs):
            found[f"{match[1]}pos_encoder.pe"] = sinusoidal_positions(unet.max_motion_positions, tensor.shape[0])
    return found


def published_name(key: str) -> str:
    """AnimateDiff's name of a tensor of our motion modules."""
    key = re.sub(r"(\.motion_modules\.\d+\.)", r"\1temporal_transformer.", key)
    return re.sub(r"(transformer\.)(attention_blocks|norms|ff|ff_norm)\.", r"\1transformer_blocks.0.\2.", key)
