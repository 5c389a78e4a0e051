"""Noise that frames share."""

from __future__ import annotations

import pytest
import torch

from portraitanim.diffusion.noise import mixed_noise


@pytest.mark.parametrize("shared", [0.0, 0.3, 0.9, 1.0])
def test_variance_stays_and_frames_correlate_by_the_share(shared: float) -> None:
    generator = torch.Generator().manual_seed(1)
    own = torch.randn(2, 100_000, generator=generator)
    mixed = mixed_noise(own, torch.randn(1, 100_000, generator=generator), shared)
    torch.testing.assert_close(mixed.var(dim=1), torch.ones(2), atol=0.02, rtol=0)
    assert (mixed[0] * mixed[1]).mean().item() == pytest.approx(shared, abs=0.02)


def test_the_ends_are_the_two_noises() -> None:
    own, common = torch.randn(3, 4), torch.randn(1, 4)
    torch.testing.assert_close(mixed_noise(own, common, 0.0), own)
    torch.testing.assert_close(mixed_noise(own, common, 1.0), common.expand(3, 4))
