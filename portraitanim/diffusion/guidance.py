"""Classifier-free guidance with one scale, or with one for the portrait and one for the sound."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from portraitanim.errors import InputError
from portraitanim.types import Branch


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How the branches of a step are combined (Hallo, table 6).

    With v₀ without anything, v_i with the portrait and v_ai with portrait and audio, the velocity is
    v₀ + λ_i (v_i - v₀) + λ_a (v_ai - v_i). Equal scales make v_i vanish, and only two evaluations are left: the one
    scale of the published code. A scale of 1 likewise saves the branch whose factor becomes zero.

    Attributes:
        image_scale: λ_i, for the portrait.
        audio_scale: λ_a, for the sound.
        interval: guidance acts in the steps whose share of all steps lies in [low, high) (arXiv 2404.07724); in the
            others only the full branch is evaluated.
    """

    image_scale: float
    audio_scale: float
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0.0 <= low <= high <= 1.0:
            raise InputError(f"The guidance interval must be 0 <= low <= high <= 1, got {self.interval}.")
        if min(self.image_scale, self.audio_scale) < 0:
            raise InputError(
                f"Guidance scales must not be negative, got image {self.image_scale} and audio {self.audio_scale}."
            )

    @classmethod
    def from_scales(
        cls,
        guidance_scale: float,
        image_scale: float | None = None,
        audio_scale: float | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> Guidance:
        """One scale for both, unless one of them is given by itself.

        As everywhere in diffusers, a ``guidance_scale`` of 1 or less is no guidance.
        """
        both = max(guidance_scale, 1.0)
        return cls(
            image_scale=both if image_scale is None else image_scale,
            audio_scale=both if audio_scale is None else audio_scale,
            interval=interval,
        )

    @property
    def factors(self) -> dict[Branch, float]:
        """Factor of each branch that must be evaluated."""
        factors = {
            Branch.UNCONDITIONAL: 1.0 - self.image_scale,
            Branch.WITHOUT_AUDIO: self.image_scale - self.audio_scale,
            Branch.FULL: self.audio_scale,
        }
        return {branch: factor for branch, factor in factors.items() if factor != 0.0}

    def branches(self, step: int, num_steps: int) -> tuple[Branch, ...]:
        """Branches to evaluate in a step."""
        low, high = self.interval
        if not low * num_steps <= step < high * num_steps:
            return (Branch.FULL,)
        return tuple(self.factors)

    def all_branches(self, num_steps: int) -> tuple[Branch, ...]:
        """Branches that at least one step evaluates."""
        return max((self.branches(step, num_steps) for step in range(num_steps)), key=len)

    def combine(self, velocity: Tensor, branches: tuple[Branch, ...]) -> Tensor:
        """Velocity ``(portraits, …)`` from that of all ``branches`` ``(portraits · branches, …)``."""
        if len(branches) == 1:
            return velocity
        parts = dict(zip(branches, velocity.chunk(len(branches)), strict=True))
        if set(branches) == {Branch.UNCONDITIONAL, Branch.FULL}:
            # The published form, whose rounding differs from that of the sum below.
            nothing, full = parts[Branch.UNCONDITIONAL], parts[Branch.FULL]
            return nothing + self.audio_scale * (full - nothing)
        weighted = [self.factors[branch] * part for branch, part in parts.items()]
        return torch.stack(weighted).sum(dim=0)
