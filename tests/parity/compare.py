"""Comparison with goldens: one absolute tolerance, and a message that says how far off."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.goldens import Golden


def largest_difference(ours: Tensor, golden: Tensor) -> float:
    """Largest absolute difference of two tensors of the same shape."""
    assert ours.shape == golden.shape, f"ours is {tuple(ours.shape)}, the golden is {tuple(golden.shape)}"
    return (ours.double() - golden.double()).abs().max().item()


def assert_close(ours: Tensor, golden: Tensor, tolerance: float) -> None:
    """Fail unless every element is within ``tolerance``."""
    difference = largest_difference(ours, golden)
    assert difference <= tolerance, f"off by {difference:.2e}, allowed {tolerance:.0e}"


def outputs_of(system: str, filename: str, pattern: str) -> list[str]:
    """Names of golden tensors for ``parametrize``; one that will skip where the file is absent."""
    try:
        names = [match.string for match in Golden(system, filename).matching(pattern)]
    except pytest.skip.Exception:
        names = []
    return names or [f"{filename}: absent"]
