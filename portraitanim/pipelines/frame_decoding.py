"""Latents to pictures, a few frames at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def decode_frames(vae: Any, latents: Tensor, num_frames_per_call: int = 1) -> Iterator[Tensor]:
    """Yield pictures ``(batch, frames, 3, height, width)`` in [0, 1], float32, from the first frame on.

    Args:
        vae: autoencoder of diffusers, `AutoencoderKL` or `AutoencoderTiny`.
        latents: scaled latents ``(batch, frames, channels, height / 8, width / 8)``.
        num_frames_per_call: frames of each portrait that are decoded at once, the last time fewer.
    """
    for piece in latents.split(num_frames_per_call, dim=1):
        scaled = (piece.flatten(0, 1) / vae.config.scaling_factor).to(vae.dtype)
        pixels = vae.decode(scaled).sample
        yield (pixels / 2 + 0.5).clamp(0, 1).float().unflatten(0, piece.shape[:2])
