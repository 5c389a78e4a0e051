"""What is measured: a system, sizes, steps, number format and device. No torch here: mistakes must show at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from portraitanim.config.animation import AnimationOptions
from portraitanim.config.presets import load_preset, parse_assignments
from portraitanim.config.schema import Preset
from portraitanim.config.speeds import Speed
from portraitanim.config.variants import Variant, parse_variant
from portraitanim.errors import ConfigError, InputError

RANDOM_WEIGHTS = "random"
"""Weights that are drawn anew: the speed of a network does not depend on its values."""

AUTO_WEIGHTS = "auto"
"""The installed weights of the preset, or random ones where there are none."""

TABLE7_SIZES_PX = (256, 512, 1024)
"""The sizes of table 7 of the Hallo paper (arXiv 2406.08801)."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing to measure. ``None`` leaves a choice to the preset; a result holds the resolved values.

    Attributes:
        preset: name of a system or a YAML file; ``None`` for the own preset of ``weights``.
        weights: `AUTO_WEIGHTS`, `RANDOM_WEIGHTS`, a name from the registry, ``tiny`` or a folder.
        size_px: side of the square.
        num_frames: frames of the video.
        num_steps: denoising steps.
        dtype: ``auto``, ``fp32``, ``fp16`` or ``bf16``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        assignments: ``KEY=VALUE`` for any key of the preset that `AnimationOptions.overrides` takes.
        regional_audio: ``False`` leaves the regional audio attention out of the network (random weights only).
        num_repeats: timed runs.
        speed: see `AnimationOptions`.
        variant: how it is executed, see `parse_variant`; empty for what ``animate`` does by itself.
    """

    preset: str | None = "tiny"
    weights: str = AUTO_WEIGHTS
    size_px: int | None = None
    num_frames: int = 50
    num_steps: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    assignments: tuple[str, ...] = ()
    regional_audio: bool = True
    num_repeats: int = 3
    speed: Speed = "exact"
    variant: str = ""

    def __post_init__(self) -> None:
        parse_variant(self.variant)
        if self.preset is None and self.weights in (AUTO_WEIGHTS, RANDOM_WEIGHTS):
            raise InputError(f"Weights {self.weights!r} need a preset: give --preset, or name the weights.")
        if self.num_frames < 1:
            raise ConfigError(f"--frames must be at least 1, got {self.num_frames}.")
        if self.num_repeats < 1:
            raise ConfigError(f"--repeats must be at least 1, got {self.num_repeats}.")
        if not self.regional_audio and self.weights != RANDOM_WEIGHTS:
            raise InputError("The regional audio attention can be left out of random weights only: --weights random.")
        self.animation_options(fps=25.0)
        if self.preset is not None:
            self.network_preset()

    @property
    def label(self) -> str:
        """What the scenario is called in tables."""
        parts = [Path(self.preset or self.weights).stem]
        parts += [f"{self.size_px} px"] if self.size_px else []
        parts += [f"{self.num_steps} steps"] if self.num_steps else []
        parts += [f"{self.num_frames} frames", self.dtype, self.device.partition(":")[0], *self.assignments]
        parts += [self.speed] if self.speed != "exact" else []
        parts += [self.variant] if self.variant else []
        return " ".join(parts) + ("" if self.regional_audio else " without regional attention")

    @property
    def key(self) -> tuple[object, ...]:
        """What two results must share to be compared."""
        device = self.device.partition(":")[0]
        choices = tuple(sorted(self.assignments))
        size = (self.size_px, self.num_frames, self.num_steps)
        return (self.preset, *size, self.dtype, device, choices, self.regional_audio, self.speed, self.variant)

    @property
    def execution(self) -> Variant:
        """The variant, read."""
        return parse_variant(self.variant)

    def animation_options(self, fps: float) -> AnimationOptions:
        """The options of the timed run, for a video at this frame rate."""
        return AnimationOptions(
            size_px=self.size_px,
            steps=self.num_steps,
            duration_seconds=self.num_frames / fps,
            speed=self.speed,
            overrides=parse_assignments(self.assignments),
        )

    def network_preset(self) -> Preset:
        """The system whose networks random weights are made for.

        Raises:
            ConfigError: there is no such preset.
            InputError: it has no regional audio attention that could be left out.
        """
        preset = load_preset(self.preset or "")
        if self.regional_audio:
            return preset
        if preset.network.denoising_unet.audio_attention_dim is None:
            raise InputError(f"{preset.name} has no regional audio attention that could be left out.")
        return load_preset(self.preset or "", {"network": {"denoising_unet": {"audio_attention_dim": None}}})


def expand(
    presets: Sequence[str | None],
    sizes_px: Sequence[int | None],
    frames: Sequence[int],
    steps: Sequence[int | None],
    dtypes: Sequence[str],
    devices: Sequence[str],
    speeds: Sequence[Speed] = ("exact",),
    variants: Sequence[str] = ("",),
    *,
    weights: str = AUTO_WEIGHTS,
    assignments: Sequence[str] = (),
    num_repeats: int = 3,
) -> list[Scenario]:
    """Every combination of what was asked for, the last axis first."""
    return [
        Scenario(
            preset=preset,
            weights=weights,
            size_px=size,
            num_frames=num_frames,
            num_steps=num_steps,
            dtype=dtype,
            device=device,
            assignments=tuple(assignments),
            num_repeats=num_repeats,
            speed=speed,
            variant=variant,
        )
        for preset, size, num_frames, num_steps, dtype, device, speed, variant in product(
            presets, sizes_px, frames, steps, dtypes, devices, speeds, variants
        )
    ]


def table7(
    sizes_px: Sequence[int] = TABLE7_SIZES_PX,
    *,
    preset: str = "hallo",
    num_frames: int = 16,
    num_steps: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    num_repeats: int = 3,
) -> list[Scenario]:
    """The rows of Hallo's table 7: each size with and without the regional audio attention, by random weights."""
    return [
        Scenario(
            preset=preset,
            weights=RANDOM_WEIGHTS,
            size_px=size,
            num_frames=num_frames,
            num_steps=num_steps,
            dtype=dtype,
            device=device,
            regional_audio=regional,
            num_repeats=num_repeats,
        )
        for size, regional in product(sizes_px, (True, False))
    ]
