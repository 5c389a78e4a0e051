"""The result of a run: one value per metric, with its interval, its number of samples and its fingerprint. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from portraitanim.errors import InputError
from portraitanim.evaluation.protocol import Fingerprint
from portraitanim.media.files import whole_file

REPORT_FILE = "report.json"
PULL = "portraitanim weights pull"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class MetricValue:
    """One number of a table.

    Attributes:
        value: what was measured, or ``None`` where no clip had a value.
        low: lower end of the interval over clips, or ``None``.
        high: upper end.
        num_clips: clips that it stands on.
        num_samples: samples of each side, for distances between sets.
        true_value: what the true videos have, for metrics that look at one clip.
        warnings: what should be known.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    num_clips: int = 0
    num_samples: tuple[int, int] | None = None
    true_value: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A metric that was asked for and not measured.

    Attributes:
        metric: its name.
        reason: why.
        command: what a person types to get what is missing, or empty.
    """

    metric: str
    reason: str
    command: str = ""

    @property
    def weights(self) -> list[str]:
        """Names of the weights that the command gets."""
        return self.command.removeprefix(PULL).split()


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """A whole run.

    Attributes:
        title: what was judged; heads its row in tables.
        fingerprint: how.
        metrics: name → value.
        left_out: metrics that are missing from it.
        num_failed: clips that could not be measured.
        notes: what holds for all of it.
        output: folder with the values of each clip, where it was made.
    """

    title: str
    fingerprint: Fingerprint
    metrics: Mapping[str, MetricValue]
    left_out: tuple[LeftOut, ...] = ()
    num_failed: int = 0
    notes: tuple[str, ...] = ()
    output: str = field(default="", compare=False)

    @property
    def is_complete(self) -> bool:
        """Whether every metric that was asked for was measured."""
        return not self.left_out

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "format": FORMAT_VERSION,
            "title": self.title,
            "complete": self.is_complete,
            "fingerprint_short": self.fingerprint.short,
            "fingerprint": self.fingerprint.to_dict(),
            "metrics": {name: asdict(value) for name, value in self.metrics.items()},
            "left_out": [asdict(metric) for metric in self.left_out],
            "num_failed": self.num_failed,
            "notes": list(self.notes),
            "output": self.output,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationReport:
        """Read what `to_dict` gave.

        Raises:
            InputError: another format, or not a report.
        """
        if values.get("format") != FORMAT_VERSION:
            raise InputError(f"Not an evaluation report of format {FORMAT_VERSION}, got {values.get('format')!r}.")
        try:
            return cls(
                title=values["title"],
                fingerprint=Fingerprint.from_dict(values["fingerprint"]),
                metrics={name: _metric_value(value) for name, value in values["metrics"].items()},
                left_out=tuple(LeftOut(**metric) for metric in values["left_out"]),
                num_failed=values["num_failed"],
                notes=tuple(values["notes"]),
                output=values["output"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"Not an evaluation report: {error} is missing or wrong.") from None


def write_report(report: EvaluationReport, path: Path) -> None:
    """Write a report as JSON."""
    with whole_file(path) as partial:
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def read_reports(path: Path) -> list[EvaluationReport]:
    """Read the report of a file or of a run's folder, or the list of them that ``eval --sweep --json`` prints.

    Raises:
        InputError: it is absent, or something else.
    """
    file = path / REPORT_FILE if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        reports = [EvaluationReport.from_dict(item) for item in (values if isinstance(values, list) else [values])]
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}). Name a report.json or its folder.") from None
    except (ValueError, AttributeError) as error:
        raise InputError(f"{file} is no evaluation report ({error}).") from None
    if not reports:
        raise InputError(f"{file} holds no report.")
    return reports


def _metric_value(values: Mapping[str, Any]) -> MetricValue:
    samples = values.get("num_samples")
    return MetricValue(
        **{
            **values,
            "num_samples": None if samples is None else tuple(samples),
            "warnings": tuple(values.get("warnings", ())),
        }
    )
