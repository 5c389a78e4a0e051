"""Noise of the frames of a video."""

from __future__ import annotations

from torch import Tensor


def mixed_noise(own: Tensor, common: Tensor, shared: float) -> Tensor:
    """Noise of unit variance, of which frames share a part (arXiv 2305.10474, section 4.1, mixed noise).

    Args:
        own: noise of each frame.
        common: one noise for all of them, which spreads over ``own``.
        shared: share of the variance that is common, in [0, 1].
    """
    mixed: Tensor = shared**0.5 * common + (1 - shared) ** 0.5 * own
    return mixed
