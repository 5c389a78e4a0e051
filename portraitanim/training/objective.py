"""The loss of both systems: velocity prediction on a schedule with zero terminal SNR, and its published variants."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from portraitanim.config.schema import SamplingConfig, SchedulerConfig
from portraitanim.config.training import ObjectiveConfig
from portraitanim.diffusion.schedule import make_scheduler


class NoiseSchedule(nn.Module):
    """How much signal is left at each timestep, and what that means for latents, velocity and weights.

    Args:
        config: the preset's schedule; training and inference share it.
        sampling: the preset's sampling, whose timesteps may be drawn more often.
        scaled_linear_betas: quirk of Hallo, which trained on another schedule of betas than it samples with.
    """

    def __init__(self, config: SchedulerConfig, sampling: SamplingConfig, scaled_linear_betas: bool = False) -> None:
        super().__init__()
        betas = "scaled_linear" if scaled_linear_betas else config.beta_schedule
        # Other solvers keep a little signal at the last step, because they divide by it; training needs not.
        scheduler = make_scheduler(replace(config, name="ddim", beta_schedule=betas))
        scheduler.set_timesteps(sampling.num_inference_steps)
        self.num_timesteps = config.num_train_timesteps
        self.signal: Tensor
        self.noise: Tensor
        self.visited = tuple(int(t) for t in scheduler.timesteps)
        power = scheduler.alphas_cumprod.double()
        self.register_buffer("signal", power.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - power).sqrt().float(), persistent=False)

    def draw_timestep(self, share_visited: float, generator: torch.Generator) -> int:
        """A timestep: with probability ``share_visited`` one of the sampler's, else any."""
        kind, which = torch.rand(2, generator=generator).tolist()
        if kind < share_visited:
            return self.visited[int(which * len(self.visited))]
        return int(which * self.num_timesteps)

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents ``(batch, ...)`` with the noise of their timestep ``(batch,)``."""
        signal, level = self._factors(timesteps, latents.ndim)
        return signal * latents + level * noise

    def velocity(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network predicts (Salimans & Ho 2022, arXiv 2202.00512)."""
        signal, level = self._factors(timesteps, latents.ndim)
        return signal * noise - level * latents

    def clean(self, noisy: Tensor, velocity: Tensor, timesteps: Tensor) -> Tensor:
        """The clean latents that a predicted velocity means."""
        signal, level = self._factors(timesteps, noisy.ndim)
        return signal * noisy - level * velocity

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Min-SNR weights ``(batch,)`` for velocity prediction (arXiv 2303.09556), as Hallo has them.

        The SNR is raised by one first: with zero terminal SNR, the first step of sampling would weigh nothing.
        """
        raised = 1 + (self.signal[timesteps] / self.noise[timesteps].clamp(min=1e-8)) ** 2
        return raised.clamp(max=gamma) / raised

    def _factors(self, timesteps: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
        shape = (-1, *[1] * (ndim - 1))
        return self.signal[timesteps].view(shape), self.noise[timesteps].view(shape)


def latent_loss(
    predicted: Tensor,
    target: Tensor,
    sample_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    per_batch: bool = False,
) -> Tensor:
    """Mean squared error of velocities.

    Args:
        predicted: ``(batch, frames, channels, height, width)``.
        target: likewise.
        sample_weights: ``(batch,)``, one for each timestep.
        pixel_weights: ``(batch, 1, 1, height, width)``; brought to a mean of one for each sample.
        per_batch: quirk of Hallo's stage 2: the mean of the batch is weighted by the mean of its weights, so that
            a sample's weight falls on the others as well.
    """
    error = (predicted.float() - target.float()).square()
    if pixel_weights is not None:
        error = error * (pixel_weights / pixel_weights.mean(dim=(1, 2, 3, 4), keepdim=True))
    per_sample = error.flatten(1).mean(dim=1)
    if sample_weights is None:
        return per_sample.mean()
    if per_batch:
        return per_sample.mean() * sample_weights.mean()
    return (per_sample * sample_weights).mean()


def spatial_weight(timesteps: Tensor, num_timesteps: int) -> Tensor:
    """Weight ``cos(t · π / 2T)`` of EchoMimic's spatial loss (arXiv 2407.08136, section 3.3): clean latents count."""
    return torch.cos(timesteps.float() * (math.pi / (2 * num_timesteps)))


def region_pixel_weights(masks: Tensor, size: tuple[int, int], config: ObjectiveConfig) -> Tensor | None:
    """Weights of the latents' pixels from region masks of the first level.

    Args:
        masks: ``(batch, frames or 1, 3, height · width)``: pose, expression, lip.
        size: height and width of the latents.
        config: the weights of the regions.

    Returns:
        ``(batch, 1, 1, height, width)``, or ``None`` where all pixels weigh alike.
    """
    if config.lip_weight == config.expression_weight == 0:
        return None
    weights = 1 + config.expression_weight * masks[:, :, 1] + config.lip_weight * masks[:, :, 2]
    return weights[:, :1, None].unflatten(-1, size)
