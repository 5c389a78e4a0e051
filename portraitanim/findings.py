"""What a look at a picture or a sound found, before any network is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["ok", "warn", "bad", "not measured"]
Overall = Literal["yes", "yes with care", "no"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One measured property.

    Attributes:
        name: such as ``face size``.
        value: what was measured; ``None`` if it was not.
        unit: such as ``px``; empty for shares in [0, 1] and plain numbers.
        verdict: ``ok``, ``warn`` (the result may suffer), ``bad`` (the result is likely useless) or ``not measured``.
        advice: one sentence on what to do, or why it was not measured; empty where all is well.
    """

    name: str
    value: float | None
    unit: str
    verdict: Verdict
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; infinite levels become ``null``."""
        value = self.value if self.value is not None and math.isfinite(self.value) else None
        return {
            "name": self.name,
            "value": value,
            "unit": self.unit,
            "verdict": self.verdict,
            "advice": self.advice,
        }


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """All findings about one picture or sound.

    Attributes:
        subject: ``picture`` or ``sound``.
        findings: in the order in which they are shown.
    """

    subject: Literal["picture", "sound"]
    findings: tuple[Finding, ...]

    @property
    def overall(self) -> Overall:
        """Whether to go on: ``no`` if anything is bad, ``yes with care`` if anything is doubtful, else ``yes``."""
        verdicts = {finding.verdict for finding in self.findings}
        return "no" if "bad" in verdicts else "yes with care" if "warn" in verdicts else "yes"

    @property
    def concerns(self) -> tuple[Finding, ...]:
        """The findings that are doubtful or bad, bad ones first."""
        return tuple(finding for verdict in ("bad", "warn") for finding in self.findings if finding.verdict == verdict)

    def __getitem__(self, name: str) -> Finding:
        """The finding of that name.

        Raises:
            KeyError: there is none.
        """
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "subject": self.subject,
            "overall": self.overall,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def judge(
    name: str,
    value: float,
    unit: str = "",
    *,
    warn_below: float = -math.inf,
    bad_below: float = -math.inf,
    warn_above: float = math.inf,
    bad_above: float = math.inf,
    advice: str,
) -> Finding:
    """Compare a value with its limits; the advice is kept only where it is needed."""
    bad = value < bad_below or value > bad_above
    warn = value < warn_below or value > warn_above
    verdict: Verdict = "bad" if bad else "warn" if warn else "ok"
    return Finding(name=name, value=value, unit=unit, verdict=verdict, advice="" if verdict == "ok" else advice)
