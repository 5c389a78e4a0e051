"""Trains a preset's autoencoder on pictures, for systems that do not take Stable Diffusion's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from portraitanim.config.presets import load_preset
from portraitanim.config.training import AutoencoderLossConfig, AutoencoderTrainingConfig
from portraitanim.data.pictures import PictureDataset
from portraitanim.pipelines.build import build_autoencoder
from portraitanim.pipelines.weights_folder import load_autoencoder, named_folder
from portraitanim.training.optimizer import own_memory

_NUM_GRADIENT_SCALES = 3
_NUM_SCALING_PICTURES = 64


class AutoencoderObjective(nn.Module):
    """The autoencoder with its loss.

    The loss is the sum of: mean absolute difference; mean absolute difference of the gradients at three scales, which
    keeps edges sharp where the absolute difference alone would blur them; one minus the structural similarity; the
    absolute difference of coarse colours, which a small network otherwise learns last; and the divergence of the
    latents from a normal distribution, per pixel of the latents.

    Args:
        autoencoder: what is trained.
        weights: of the five terms.
    """

    def __init__(self, autoencoder: AutoencoderKL, weights: AutoencoderLossConfig) -> None:
        super().__init__()
        self.autoencoder, self.weights = autoencoder, weights

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its terms for pictures ``(batch, 3, height, width)`` in [-1, 1] and ``noise`` for the latents."""
        pictures = batch["pictures"]
        posterior = self.autoencoder.encode(pictures).latent_dist
        made = self.autoencoder.decode(posterior.mean + posterior.std * batch["noise"]).sample.float()
        parts = {
            "absolute": F.l1_loss(made, pictures),
            "gradient": gradient_difference(made, pictures),
            "structure": 1 - structural_similarity(made, pictures),
            "colour": colour_difference(made, pictures),
            "kl": posterior.kl().mean() / posterior.mean[0, 0].numel(),
        }
        loss = sum(value * getattr(self.weights, name) for name, value in parts.items())
        return loss, {name: value.detach() for name, value in parts.items()}


def gradient_difference(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical gradients, summed over three scales."""
    total = first.new_zeros(())
    for scale in range(_NUM_GRADIENT_SCALES):
        if scale:
            first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
        for axis in (-1, -2):
            total = total + F.l1_loss(first.diff(dim=axis), second.diff(dim=axis))
    return total


def colour_difference(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference of red against green and yellow against blue, in squares of 4×4 pixels."""
    red, green, blue = F.avg_pool2d(first - second, 4).unbind(dim=1)
    return ((red - green).abs() + ((red + green) / 2 - blue).abs()).mean()


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Mean SSIM of pictures in [-1, 1] over windows of 7×7 pixels (Wang et al. 2004, with a flat window)."""

    def local_mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 7, stride=2)

    mean1, mean2 = local_mean(first), local_mean(second)
    variance1 = local_mean(first * first) - mean1 * mean1
    variance2 = local_mean(second * second) - mean2 * mean2
    covariance = local_mean(first * second) - mean1 * mean2
    # The constants 0.01² and 0.03² are for pictures of range 1; ours have range 2.
    luminance = (2 * mean1 * mean2 + 4e-4) / (mean1 * mean1 + mean2 * mean2 + 4e-4)
    return (luminance * (2 * covariance + 36e-4) / (variance1 + variance2 + 36e-4)).mean()


class AutoencoderTask:
    """See `portraitanim.training.task.TrainingTask`."""

    def __init__(self, config: AutoencoderTrainingConfig) -> None:
        preset = load_preset(config.preset, config.overrides)
        if config.start is None:
            torch.manual_seed(config.engine.seed)
            self.autoencoder = build_autoencoder(preset)
        else:
            self.autoencoder = load_autoencoder(named_folder("start", config.start), torch.device("cpu"))
            own_memory(self.autoencoder.requires_grad_(True))
        self.config = config
        self.dataset = PictureDataset(config.pictures, config.size_px, config.crop_px, config.engine.seed)
        if config.engine.gradient_checkpointing:
            self.autoencoder.enable_gradient_checkpointing()
        self.module = AutoencoderObjective(self.autoencoder.train(), config.loss)
        self._noise_shape = (
            preset.autoencoder.latent_channels,
            *[config.crop_px // 2 ** (len(preset.autoencoder.block_out_channels) - 1)] * 2,
        )

    def sample(self, number: int) -> dict[str, Any]:
        """See `TrainingTask.sample`."""
        generator = torch.Generator().manual_seed(self.config.engine.seed * 1_000_003 + number)
        return {
            "pictures": self.dataset.sample(number),
            "noise": torch.randn(self._noise_shape, generator=generator),
        }

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """See `TrainingTask.collate`."""
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def save(self, folder: Path, device: torch.device) -> None:
        """Write the autoencoder, with the factor that brings its latents to a standard deviation of one."""
        self.autoencoder.register_to_config(scaling_factor=self._scaling_factor(device))
        self.autoencoder.save_pretrained(folder)

    @torch.no_grad()
    def _scaling_factor(self, device: torch.device) -> float:
        count = len(self.dataset)
        chosen = range(0, count, max(count // _NUM_SCALING_PICTURES, 1))
        latents = [self.autoencoder.encode(self.dataset.whole(i)[None].to(device)).latent_dist.mean for i in chosen]
        # The mean square, not the variance: diffusion wants latents of unit power, wherever their mean lies.
        return float(torch.cat(latents).float().square().mean().rsqrt())
