"""The networks of a system with their loss."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from portraitanim.config.schema import Preset
from portraitanim.config.training import TrainingConfig
from portraitanim.data.latents import encode_pictures
from portraitanim.models.portrait_network import PortraitNetwork
from portraitanim.training.objective import (
    NoiseSchedule,
    latent_loss,
    region_pixel_weights,
    spatial_weight,
)
from portraitanim.training.perceptual import load_lpips
from portraitanim.types import RegionMasks


class PortraitObjective(nn.Module):
    """The networks of a system with their loss: one forward pass is one pass over a batch of samples.

    Args:
        network: what is trained.
        autoencoder: encodes pictures, and decodes for the spatial loss; it never learns here.
        preset: the system.
        config: the recipe.
    """

    def __init__(
        self, network: PortraitNetwork, autoencoder: AutoencoderKL, preset: Preset, config: TrainingConfig
    ) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        objective = config.objective
        self.schedule = NoiseSchedule(preset.scheduler, preset.sampling, objective.scaled_linear_betas)
        needs_lpips = objective.spatial_weight > 0 and objective.lpips_weight > 0
        self.lpips = load_lpips(objective.lpips_weights) if needs_lpips else None

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss, and its terms for the log, of a batch from `PortraitTask.collate`."""
        latents, motion, reference = self._latents(batch)
        timesteps, noise = batch["timesteps"], batch["noise"]
        noisy = self.schedule.noisy(latents, noise, timesteps)
        target = self.schedule.velocity(latents, noise, timesteps)
        masks = RegionMasks(levels=tuple(batch["masks"])) if "masks" in batch else None
        condition_map = batch.get("condition_map")
        predicted = self.network(
            noisy,
            timesteps,
            audio_windows=batch["audio_windows"],
            reference_latents=reference,
            motion_latents=motion,
            condition_map=None if condition_map is None else condition_map.float() / 255,
            identity_embedding=batch.get("identity"),
            masks=masks if self.network.denoising_unet.has_regional_audio else None,
            num_without_reference=batch["num_without_reference"],
            with_audio=batch["with_audio"],
            moved_latents=self._moved_latents(batch),
        )
        objective = self.config.objective
        gamma = objective.min_snr_gamma
        pixel_weights = None
        if masks is not None:
            pixel_weights = region_pixel_weights(masks.at(0), (latents.shape[-2], latents.shape[-1]), objective)
        loss = latent_loss(
            predicted,
            target,
            None if gamma is None else self.schedule.min_snr_weights(timesteps, gamma),
            pixel_weights,
            objective.min_snr_per_batch,
        )
        parts = {"latent": loss.detach()}
        if objective.spatial_weight > 0:
            clean = self.schedule.clean(noisy, predicted.float(), timesteps)
            spatial = self._spatial_loss(clean, latents, timesteps, batch["spatial_frames"])
            parts["spatial"] = spatial.detach()
            loss = loss + objective.spatial_weight * spatial
        return loss, parts

    @torch.no_grad()
    def _latents(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None, Tensor]:
        """Latents of frames, motion frames and portrait, encoded here if the batch holds pictures."""
        if "latents" in batch:
            latents, motion, reference = batch["latents"], batch["motion"], batch["reference"]
        else:
            latents, motion, reference = (
                self._encode(batch[name]) for name in ("pictures", "motion_pictures", "reference_picture")
            )
        if motion.shape[1] == 0:
            return latents, None, reference
        grey = batch["motion_is_grey"]
        if bool(grey.any()):
            size = self._size_px(batch, latents)
            middle = encode_pictures(self.autoencoder, torch.zeros(1, 3, *size, device=latents.device)).float()
            motion = torch.where(grey[:, None, None, None, None], middle[:, None], motion)
        is_first = batch["is_first_clip"][:, None, None, None, None]
        return latents, torch.where(is_first, reference[:, None], motion), reference

    @torch.no_grad()
    def _moved_latents(self, batch: dict[str, Any]) -> Tensor | None:
        if "moved_pictures" not in batch:
            return None
        return self._encode(batch["moved_pictures"].float() / 127.5 - 1)

    def _size_px(self, batch: dict[str, Any], latents: Tensor) -> tuple[int, int]:
        """Height and width in pixels of what the latents show."""
        if "pictures" in batch:
            height, width = batch["pictures"].shape[-2:]
            return height, width
        factor = 2 ** (len(self.autoencoder.config.block_out_channels) - 1)
        return latents.shape[-2] * factor, latents.shape[-1] * factor

    def _encode(self, pictures: Tensor) -> Tensor:
        if pictures.numel() == 0:
            return pictures
        rows = encode_pictures(self.autoencoder, pictures.flatten(0, -4)).float()
        return rows.unflatten(0, pictures.shape[:-3])

    def _spatial_loss(self, made: Tensor, true: Tensor, timesteps: Tensor, frames: Tensor) -> Tensor:
        """EchoMimic's loss in pixels (section 3.3): decode the predicted clean latents and compare."""
        rows = torch.arange(len(made), device=made.device)[:, None]
        picked = self._decode(made[rows, frames])
        with torch.no_grad():
            wanted = self._decode(true[rows, frames])
        per_row = (picked - wanted).square().flatten(1).mean(dim=1)
        if self.lpips is not None:
            per_row = per_row + self.config.objective.lpips_weight * self.lpips(picked, wanted)
        weights = spatial_weight(timesteps, self.schedule.num_timesteps).repeat_interleave(frames.shape[1])
        return (per_row * weights).mean()

    def _decode(self, latents: Tensor) -> Tensor:
        rows = latents.flatten(0, 1) / self.autoencoder.config.scaling_factor
        return self.autoencoder.decode(rows.to(self.autoencoder.dtype)).sample.float()
