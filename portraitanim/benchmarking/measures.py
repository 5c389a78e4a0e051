"""Numbers that were measured several times, and when two of them may be called different."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from portraitanim.errors import InputError

MIN_REPEATS = 3
"""With fewer values on either side, no difference is claimed."""


@dataclass(frozen=True)
class Measure:
    """The values of a quantity in repeated runs.

    Attributes:
        values: in the order they were measured; at least one.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("A measure needs at least one value.")

    @classmethod
    def of(cls, values: Iterable[float]) -> Measure:
        """From any iterable."""
        return cls(tuple(float(value) for value in values))

    @property
    def median(self) -> float:
        """The middle value."""
        return median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    @property
    def deviation(self) -> float:
        """Median absolute deviation from the median."""
        return median(abs(value - self.median) for value in self.values)

    def map(self, function: Callable[[float], float]) -> Measure:
        """Another quantity that follows from this one, run by run."""
        return Measure(tuple(function(value) for value in self.values))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads the values back."""
        return {
            "median": self.median,
            "low": self.low,
            "high": self.high,
            "median_absolute_deviation": self.deviation,
            "values": list(self.values),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Measure:
        """From what `to_dict` gave."""
        return cls.of(data["values"])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A quantity before and after.

    Attributes:
        scenario: label of what was measured.
        quantity: its name, with the unit.
        old: before.
        new: after.
    """

    scenario: str
    quantity: str
    old: Measure
    new: Measure

    @property
    def ratio(self) -> float | None:
        """Median after by median before; ``None`` where there was nothing before."""
        return self.new.median / self.old.median if self.old.median else None

    @property
    def is_seen(self) -> bool:
        """Whether the ranges of both are apart, with at least `MIN_REPEATS` values each."""
        enough = min(len(self.old.values), len(self.new.values)) >= MIN_REPEATS
        return enough and (self.new.high < self.old.low or self.old.high < self.new.low)

    @property
    def verdict(self) -> str:
        """The ratio in words."""
        if self.ratio is None or not self.is_seen:
            return "no difference seen"
        return f"x{self.ratio:.3f}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "scenario": self.scenario,
            "quantity": self.quantity,
            "old": self.old.to_dict(),
            "new": self.new.to_dict(),
            "ratio": self.ratio if self.is_seen else None,
            "verdict": self.verdict,
        }
