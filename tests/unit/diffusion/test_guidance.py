from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.diffusion.guidance import Guidance
from portraitanim.errors import InputError
from portraitanim.types import Branch

scales = st.floats(0.0, 8.0)


@given(image=scales, audio=scales)
def test_factors_sum_to_one(image: float, audio: float) -> None:
    guidance = Guidance(image_scale=image, audio_scale=audio)
    assert sum(guidance.factors.values()) == pytest.approx(1.0)


@given(scale=st.floats(1.01, 8.0))
def test_equal_scales_are_the_published_single_scale(scale: float) -> None:
    guidance = Guidance.from_scales(1.0, image_scale=scale, audio_scale=scale)
    branches = guidance.branches(0, 1)
    assert branches == (Branch.UNCONDITIONAL, Branch.FULL)
    nothing, full = torch.randn(2, 1, 3, 4)
    expected = nothing + scale * (full - nothing)
    assert torch.equal(guidance.combine(torch.stack([nothing, full]).flatten(0, 1), branches)[0], expected[0])


def test_different_scales_need_three_evaluations() -> None:
    guidance = Guidance(image_scale=2.0, audio_scale=3.5)
    branches = guidance.branches(0, 1)
    assert branches == tuple(Branch)
    nothing, portrait, full = torch.randn(3, 5)
    combined = guidance.combine(torch.stack([nothing, portrait, full]), branches)
    torch.testing.assert_close(combined[0], nothing + 2.0 * (portrait - nothing) + 3.5 * (full - portrait))


@pytest.mark.parametrize(
    ("image", "audio", "branches"),
    [
        (1.0, 1.0, (Branch.FULL,)),
        (1.0, 3.0, (Branch.WITHOUT_AUDIO, Branch.FULL)),
        (3.0, 0.0, (Branch.UNCONDITIONAL, Branch.WITHOUT_AUDIO)),
    ],
)
def test_branches_without_weight_are_not_evaluated(image: float, audio: float, branches: tuple[Branch, ...]) -> None:
    assert Guidance(image_scale=image, audio_scale=audio).branches(0, 1) == branches


def test_scale_of_one_or_less_is_no_guidance() -> None:
    assert Guidance.from_scales(0.5).branches(0, 10) == (Branch.FULL,)


def test_guidance_acts_only_in_its_interval() -> None:
    guidance = Guidance.from_scales(3.5, interval=(0.2, 0.5))
    guided = [step for step in range(10) if len(guidance.branches(step, 10)) == 2]
    assert guided == [2, 3, 4]


@pytest.mark.parametrize("interval", [(0.5, 0.2), (-0.1, 1.0), (0.0, 1.5)])
def test_impossible_interval_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="interval"):
        Guidance.from_scales(2.0, interval=interval)
