"""Sizes that the stages of a UNet share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """Sizes that all stages of a UNet share. ``num_attention_heads`` is a number of heads, not a width."""

    time_channels: int
    num_attention_heads: int
    cross_attention_dim: int | None
    norm_num_groups: int
    cross_attention_scale: float = 1.0
    audio_attention_dim: int | None = None
    audio_bias_outside_masks: bool = False
    num_motion_heads: int = 8
    max_motion_positions: int = 32
    zero_motion_frames: int = 0
