"""From a preset to networks and pipeline: the only place that knows which class reads which section."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from portraitanim.config.presets import load_preset
from portraitanim.config.schema import Preset, to_dict
from portraitanim.diffusion.schedule import make_scheduler
from portraitanim.models.denoising_unet import DenoisingUNet
from portraitanim.models.embedders import AudioProjection, ConditionEncoder, IdentityProjection
from portraitanim.models.portrait_network import PortraitNetwork
from portraitanim.models.reference_unet import ReferenceUNet
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


def build_networks(
    preset: Preset, device: torch.device | str | None = None, *, only: Collection[str] | None = None
) -> dict[str, Any]:
    """The trained networks of a preset with fresh weights, by component name.

    Args:
        preset: what to build.
        device: where; ``"meta"`` gives shapes without memory.
        only: names of the components to build; ``None`` for all.
    """
    sections: dict[str, tuple[type, Any]] = {
        "reference_unet": (ReferenceUNet, preset.network.reference_unet),
        "denoising_unet": (DenoisingUNet, preset.network.denoising_unet),
        "condition_encoder": (ConditionEncoder, preset.network.condition_encoder),
        "identity_projection": (IdentityProjection, preset.network.identity_projection),
        "audio_projection": (AudioProjection, preset.network.audio_projection),
    }
    with torch.device(device) if device is not None else nullcontext():
        return {
            name: cls(**asdict(config)).eval()
            for name, (cls, config) in sections.items()
            if config is not None and (only is None or name in only)
        }


def build_network(preset: Preset, device: torch.device | str | None = None) -> PortraitNetwork:
    """The trained networks of a preset as one module, with the preset's quirks."""
    return PortraitNetwork(**build_networks(preset, device), quirks=preset.quirks)


def build_autoencoder(preset: Preset, device: torch.device | str | None = None) -> AutoencoderKL:
    """Diffusers' autoencoder in the preset's size, with fresh weights."""
    from diffusers import AutoencoderKL

    config = preset.autoencoder
    num_levels = len(config.block_out_channels)
    with torch.device(device) if device is not None else nullcontext():
        return AutoencoderKL(
            **asdict(config),
            down_block_types=("DownEncoderBlock2D",) * num_levels,
            up_block_types=("UpDecoderBlock2D",) * num_levels,
        ).eval()


def build_pipeline(
    preset: Preset | str, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> PortraitAnimationPipeline:
    """A pipeline with fresh weights, to train or to test; trained weights come by ``from_pretrained``.

    Args:
        preset: a preset or its name.
        device: where to build; ``None`` for the CPU.
        dtype: number format of the weights, which are made in it: no larger copy ever exists.
    """
    preset = load_preset(preset) if isinstance(preset, str) else preset
    with _new_weights(dtype or torch.get_default_dtype()):
        return PortraitAnimationPipeline(
            vae=build_autoencoder(preset, device),
            scheduler=make_scheduler(preset.scheduler),
            **build_networks(preset, device),
            sampling=to_dict(preset.sampling),
            quirks=to_dict(preset.quirks),
            preset=preset.name,
        )


@contextmanager
def _new_weights(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
