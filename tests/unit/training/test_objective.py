from __future__ import annotations

import pytest
import torch

from portraitanim.config.presets import load_preset
from portraitanim.config.training import ObjectiveConfig
from portraitanim.training.objective import NoiseSchedule, latent_loss, region_pixel_weights, spatial_weight


@pytest.fixture
def schedule() -> NoiseSchedule:
    preset = load_preset("tiny")
    return NoiseSchedule(preset.scheduler, preset.sampling)


def test_last_timestep_is_pure_noise(schedule: NoiseSchedule) -> None:
    latents, noise, last = torch.ones(1, 2, 3), torch.randn(1, 2, 3), torch.tensor([999])
    assert torch.equal(schedule.noisy(latents, noise, last), noise)
    assert torch.equal(schedule.velocity(latents, noise, last), -latents)


def test_clean_latents_come_back_from_the_velocity(schedule: NoiseSchedule) -> None:
    torch.manual_seed(0)
    latents, noise = torch.randn(2, 4, 3, 8, 8)
    timesteps = torch.tensor([0, 400, 749, 999])
    noisy, velocity = schedule.noisy(latents, noise, timesteps), schedule.velocity(latents, noise, timesteps)
    torch.testing.assert_close(schedule.clean(noisy, velocity, timesteps), latents, atol=1e-5, rtol=1e-5)


def test_samplers_timesteps_are_drawn_as_often_as_asked(schedule: NoiseSchedule) -> None:
    assert schedule.visited == (999, 749, 499, 249)
    generator = torch.Generator().manual_seed(0)
    drawn = [schedule.draw_timestep(0.8, generator) for _ in range(1000)]
    # Four standard deviations of a share of 0.8 (and 0.001 by chance) in a thousand draws.
    assert sum(t in schedule.visited for t in drawn) / 1000 == pytest.approx(0.8, abs=0.05)
    assert {schedule.draw_timestep(1.0, generator) for _ in range(100)} == set(schedule.visited)
    assert max(schedule.draw_timestep(0.0, generator) for _ in range(1000)) > 980


def test_min_snr_weighs_noise_fully_and_details_less(schedule: NoiseSchedule) -> None:
    weights = schedule.min_snr_weights(torch.tensor([999, 500, 0]), 5.0)
    assert weights[0] == 1.0
    snr = (schedule.signal[0] / schedule.noise[0]) ** 2
    assert weights[2] == pytest.approx(float(5 / (snr + 1)), rel=1e-4)
    assert weights[0] >= weights[1] > weights[2]


def test_weight_per_batch_spreads_over_other_samples() -> None:
    predicted, target = torch.zeros(2, 1, 1, 1, 1), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1, 1)
    weights = torch.tensor([1.0, 0.5])
    assert latent_loss(predicted, target, weights) == pytest.approx((1 + 0.5 * 9) / 2)
    assert latent_loss(predicted, target, weights, per_batch=True) == pytest.approx(5 * 0.75)


def test_quirk_of_hallo_trains_on_other_betas() -> None:
    preset = load_preset("hallo")
    ours, theirs = (NoiseSchedule(preset.scheduler, preset.sampling, quirk) for quirk in (False, True))
    assert ours.signal[999] == theirs.signal[999] == 0
    assert not torch.allclose(ours.signal, theirs.signal, atol=0.05)


def test_errors_at_the_lips_weigh_more_but_the_mean_weight_stays() -> None:
    masks = torch.zeros(1, 1, 3, 4)
    masks[..., 2, 0] = 1
    weights = region_pixel_weights(masks, (2, 2), ObjectiveConfig(lip_weight=4.0))
    assert weights is not None
    error = torch.zeros(1, 1, 1, 2, 2)
    at_lips, elsewhere = error.clone(), error.clone()
    at_lips[..., 0, 0], elsewhere[..., 1, 1] = 1, 1
    zero = torch.zeros_like(error)
    assert latent_loss(at_lips, zero, pixel_weights=weights) == 5 * latent_loss(elsewhere, zero, pixel_weights=weights)
    everywhere = torch.ones_like(error)
    assert latent_loss(everywhere, zero, pixel_weights=weights) == 1
    assert region_pixel_weights(masks, (2, 2), ObjectiveConfig()) is None


def test_spatial_loss_counts_at_clean_timesteps_only() -> None:
    weights = spatial_weight(torch.tensor([0, 500, 1000]), 1000)
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.5**0.5, 0.0]), atol=1e-6, rtol=1e-6)
