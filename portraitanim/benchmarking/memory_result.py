"""A prediction of memory and what came of it. No torch here: the process that asks only shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.config.schema import from_dict, to_dict

TOLERANCE = 0.1
"""How far the prediction may be from what is measured."""


@dataclass(frozen=True, kw_only=True)
class MemoryCheck:
    """One prediction and what came of it.

    Attributes:
        scenario: with its resolved values.
        predicted_bytes: parameters and the work of the networks, without what a process or a GPU's driver holds anyway.
        measured_bytes: growth of the process over what it held before the networks were made; on a GPU, most bytes of
            tensors.
        parameter_bytes: parameters alone.
    """

    scenario: Scenario
    predicted_bytes: int
    measured_bytes: int
    parameter_bytes: int

    @property
    def ratio(self) -> float:
        """Predicted by measured."""
        return self.predicted_bytes / self.measured_bytes

    @property
    def is_close(self) -> bool:
        """Whether the prediction holds."""
        return abs(self.ratio - 1) <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back."""
        values = {**asdict(self), "scenario": to_dict(self.scenario)}
        return {**values, "ratio": self.ratio, "label": self.scenario.label}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MemoryCheck:
        """From what `to_dict` gave."""
        values = {name: data[name] for name in ("predicted_bytes", "measured_bytes", "parameter_bytes")}
        return cls(scenario=from_dict(Scenario, data["scenario"], "scenario"), **values)
