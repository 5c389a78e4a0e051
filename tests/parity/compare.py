"""Comparison with goldens: one absolute tolerance, and a message that says how far off."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from torch import Tensor, nn

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


def outputs_during(call: Callable[[], Any], module: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Outputs of named submodules while ``call`` runs; of a tuple, the first element."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[Any, Any, Any], None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [module.get_submodule(name).register_forward_hook(note(name)) for name in names]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return seen
