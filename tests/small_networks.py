"""Networks of a few hundred thousand random weights for tests of behaviour, and conditions for them."""

from __future__ import annotations

from typing import Any

import torch

from portraitanim.config.presets import load_preset
from portraitanim.config.schema import Preset
from portraitanim.pipelines.build import build_pipeline
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from portraitanim.types import PortraitConditioning, RegionMasks, RegionWeights

IMAGE_SIZE = 32
_UNET = {
    "in_channels": 4,
    "block_out_channels": [16, 32, 32],
    "attention_levels": [True, True, False],
    "layers_per_block": 1,
    "num_attention_heads": 2,
    "norm_num_groups": 8,
}
_AUTOENCODER = {"latent_channels": 4, "block_out_channels": [8, 8, 8, 8], "layers_per_block": 1, "norm_num_groups": 4}
_CONDITION_ENCODER = {"block_out_channels": [4, 4, 4, 4], "out_channels": 16}


def small_preset(system: str, **sampling: Any) -> Preset:
    """``hallo``, ``echomimic`` or ``tiny`` in small, without quirks."""
    network: dict[str, Any] = {
        "reference_unet": {**_UNET},
        "denoising_unet": {**_UNET, "num_motion_heads": 2, "max_motion_positions": 16},
        "condition_encoder": {**_CONDITION_ENCODER},
    }
    if system == "hallo":
        network["reference_unet"]["cross_attention_dim"] = 12
        network["denoising_unet"] |= {
            "cross_attention_dim": 12,
            "audio_attention_dim": 10,
            "motion_levels": [True, True, False],
            "narrow_audio_attention": False,
            "audio_bias_outside_masks": False,
            "four_zero_motion_frames_without_reference": False,
        }
        network["identity_projection"] = {"embedding_dim": 8, "num_tokens": 2, "token_dim": 12}
    elif system == "echomimic":
        network["denoising_unet"] |= {"cross_attention_dim": 6, "motion_levels": [True, True, True]}
    else:
        network["denoising_unet"] |= {
            "out_channels": 4,
            "reference_latent_channels": 4,
            "audio_attention_dim": 10,
            "motion_levels": [False, True, True],
        }
    if system != "echomimic":
        network["audio_projection"] = {
            "window": 3,
            "num_layers": 2,
            "feature_dim": 6,
            "hidden_dim": 8,
            "num_tokens": 3,
            "token_dim": 10,
        }
    quirks = dict.fromkeys(("tile_reference_rows", "tile_identity_tokens", "round_reference_to_half"), False)
    steps = {"num_inference_steps": 2, "num_frames_per_clip": 4, "num_overlap_frames": 0}
    if system == "echomimic":
        steps |= {"num_overlap_frames": 1}
    return load_preset(
        system,
        {
            "network": network,
            "autoencoder": _AUTOENCODER,
            "quirks": quirks,
            "sampling": {**steps, **sampling},
        },
    )


def small_pipeline(system: str, seed: int = 0, **sampling: Any) -> PortraitAnimationPipeline:
    """A small pipeline with random weights everywhere, also where training starts at zero."""
    torch.manual_seed(seed)
    pipe = build_pipeline(small_preset(system, **sampling))
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            randomize(component)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def randomize(module: torch.nn.Module) -> None:
    """Give every parameter that is all zero a random value, so that nothing hides behind it."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                fan_in = max(parameter[0].numel(), 1)
                parameter.normal_(0, 0.5 * fan_in**-0.5)


def conditioning(
    system: str, num_frames: int, batch: int = 1, seed: int = 1, weights: RegionWeights | None = None
) -> PortraitConditioning:
    """Random conditions for `small_pipeline`."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    hallo, echomimic = system == "hallo", system == "echomimic"
    latent = IMAGE_SIZE // 8
    masks = tuple(rand(batch, 1, 3, (latent >> level) ** 2) for level in range(3))
    return PortraitConditioning(
        reference_image=rand(batch, 3, IMAGE_SIZE, IMAGE_SIZE) * 2 - 1,
        audio_windows=rand(batch, num_frames, 3, 2, 6) * 4 - 2,
        condition_map=rand(batch, 1 if hallo else num_frames, 1 if echomimic else 3, IMAGE_SIZE, IMAGE_SIZE),
        identity_embedding=rand(batch, 8) * 2 - 1 if hallo else None,
        region_masks=None if echomimic else RegionMasks(levels=masks),
        region_weights=weights or RegionWeights(),
    )
