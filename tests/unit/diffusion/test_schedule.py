from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from portraitanim.config.schema import SchedulerConfig
from portraitanim.diffusion.schedule import check_scheduler, make_scheduler
from portraitanim.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("ddim", 2e-2),
        ("dpm++2m", 2e-2),
        ("unipc", 2e-2),
        ("euler", 2e-2),
        ("lcm", 2e-2),
        # TCD ends at the first training timestep, whose noise (a standard deviation of 0.03) is still in the sample.
        ("tcd", 0.12),
    ],
)
def test_every_solver_starts_from_pure_noise_and_ends_at_the_data(name: str, tolerance: float) -> None:
    """A perfect velocity predictor for one known latent must lead to it, whatever solver walks the schedule."""
    scheduler = make_scheduler(SchedulerConfig(name=name))
    scheduler.set_timesteps(8)
    assert scheduler.timesteps[0] == 999
    alphas = make_scheduler().alphas_cumprod
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(1, 4, 2, 4, 4, generator=generator)
    latents = torch.randn(data.shape, generator=generator) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        alpha = alphas[int(timestep)]
        scaled = scheduler.scale_model_input(latents, timestep)
        # v = √ᾱ ε - √(1-ᾱ) x₀, with the noise that the sample and the data imply.
        noise = (scaled - alpha.sqrt() * data) / (1 - alpha).sqrt()
        latents = scheduler.step(alpha.sqrt() * noise - (1 - alpha).sqrt() * data, timestep, latents).prev_sample
    torch.testing.assert_close(latents, data, atol=tolerance, rtol=0)


def test_scheduler_that_reads_noise_is_refused() -> None:
    with pytest.raises(ConfigError, match="v_prediction"):
        check_scheduler(DDIMScheduler(prediction_type="epsilon"))
