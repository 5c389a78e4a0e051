"""Curves that several kinds of motion and several masks are made of."""

from __future__ import annotations

import numpy as np


def smooth_step(values: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and between them a cubic that leaves and arrives level."""
    share = np.clip(values, 0.0, 1.0)
    step: np.ndarray = share * share * (3 - 2 * share)
    return step


def lid_closure(seconds: np.ndarray, start: float, down: float, hold: float, up: float) -> np.ndarray:
    """How far one blink closes the lids, in [0, 1].

    Args:
        seconds: the moments.
        start: when the blink begins.
        down: seconds in which the lids close.
        hold: seconds for which they stay closed.
        up: seconds in which they open.
    """
    return smooth_step(np.minimum((seconds - start) / down, 1 - (seconds - start - down - hold) / up))


def box_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Running mean over the first axis, with fewer frames at the ends."""
    reach = window // 2
    return np.stack([values[max(0, t - reach) : t + reach + 1].mean(0) for t in range(len(values))])
