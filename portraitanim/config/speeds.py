"""Quality presets: ``exact`` is what the weights were made for, ``balanced`` and ``fast`` trade a little for speed.

The trades are rules and not lists per system, so that a preset of one's own has them too. No torch here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from portraitanim.config.schema import AutoencoderConfig, Preset
from portraitanim.errors import ConfigError

Speed = Literal["exact", "balanced", "fast"]
SPEEDS: tuple[Speed, ...] = ("exact", "balanced", "fast")

FEW_STEPS = 8
"""Weights that need no more steps were distilled: they are walked by the solver they were distilled with, and one
step is too unlike the next for features to be kept."""


@dataclass(frozen=True, kw_only=True)
class _Trades:
    """What one speed does.

    Attributes:
        num_steps: of DPM++ 2M, for weights of many steps.
        guided_share: share of the steps, from the first on, in which guidance acts.
        deep_every_steps: see `SamplingConfig`.
        share_of_few_steps: of distilled weights' steps that are left.
        small_decoder: whether the small decoder is taken where it fits.
    """

    num_steps: int
    guided_share: float
    deep_every_steps: int
    share_of_few_steps: float
    small_decoder: bool


_TRADES = {
    "balanced": _Trades(
        num_steps=20, guided_share=0.5, deep_every_steps=2, share_of_few_steps=0.75, small_decoder=False
    ),
    "fast": _Trades(num_steps=12, guided_share=0.5, deep_every_steps=3, share_of_few_steps=0.5, small_decoder=True),
}


def at_speed(preset: Preset, speed: Speed) -> tuple[Preset, tuple[str, ...]]:
    """A preset that makes videos faster, and what it changes, in words.

    Args:
        preset: as the weights were made for.
        speed: ``exact`` changes nothing.

    Raises:
        ConfigError: an unknown speed.
    """
    if speed == "exact":
        return preset, ()
    if speed not in _TRADES:
        raise ConfigError(f"--speed must be one of {', '.join(SPEEDS)}, got {speed!r}.")
    trades, sampling, scheduler = _TRADES[speed], preset.sampling, preset.scheduler
    changes: list[str] = []
    steps = sampling.num_inference_steps
    if steps <= FEW_STEPS:
        few = max(math.ceil(steps * trades.share_of_few_steps), 1)
        if few < steps:
            changes.append(f"{few} {'step' if few == 1 else 'steps'} instead of {steps}")
            sampling = replace(sampling, num_inference_steps=few)
    else:
        few = min(steps, trades.num_steps)
        changes.append(f"{few} steps of DPM++ 2M instead of {steps} of {scheduler.name}")
        sampling, scheduler = replace(sampling, num_inference_steps=few), replace(scheduler, name="dpm++2m")
        if sampling.plan == "sequential":
            changes.append(f"the deep stages in every {_ordinal(trades.deep_every_steps)} step")
            sampling = replace(sampling, deep_every_steps=trades.deep_every_steps)
    if is_guided(preset):
        changes.append(f"guidance in the first {trades.guided_share:.0%} of the steps")
        sampling = replace(sampling, guidance_interval=(0.0, trades.guided_share))
    if trades.small_decoder and fits_small_decoder(preset.autoencoder):
        changes.append("the small decoder")
        sampling = replace(sampling, decoder="small")
    return replace(preset, sampling=sampling, scheduler=scheduler), tuple(changes)


def is_guided(preset: Preset) -> bool:
    """Whether any step evaluates more than one branch."""
    sampling = preset.sampling
    scales = (sampling.guidance_scale, sampling.image_guidance_scale, sampling.audio_guidance_scale)
    return any(scale is not None and scale > 1.0 for scale in scales)


def fits_small_decoder(autoencoder: AutoencoderConfig) -> bool:
    """Whether the latents are those of Stable Diffusion 1.5, which TAESD was distilled for."""
    return autoencoder == AutoencoderConfig()


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
