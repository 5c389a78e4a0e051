"""Results of several runs as one table, as papers print it: arrows, best in bold, and a loud mark on what differs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from portraitanim.errors import InputError
from portraitanim.evaluation.catalogue import METRICS, Metric
from portraitanim.evaluation.report import EvaluationReport

FORMATS = ("markdown", "latex", "csv")
REFERENCE_ROW = "true videos"
_ABSENT = "–"
_DIFFERENT = "NOT COMPARABLE"
_MAX_DIFFERENCES = 6


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of a table.

    Attributes:
        text: as it is printed.
        is_best: whether it is the best of its column.
    """

    text: str
    is_best: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table before it has a form.

    Attributes:
        columns: headings with arrows; the first is that of the rows' names.
        names: of the rows.
        rows: cells, one row per run, and the true videos' where some metric has them.
        notes: what must be read with it.
        is_comparable: whether all rows were measured alike.
    """

    columns: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]
    is_comparable: bool


def build_table(
    reports: Sequence[EvaluationReport], metrics: Sequence[str] | None = None, *, intervals: bool = False
) -> Table:
    """Put reports beside each other.

    Runs whose fingerprints differ are marked, with what differs, and no best is chosen among them.

    Args:
        reports: one row each.
        metrics: columns; ``None`` takes every one that some report has or leaves out.
        intervals: print the intervals behind the values.

    Raises:
        InputError: no reports.
    """
    if not reports:
        raise InputError("A table needs at least one report.")
    shown = [METRICS[name] for name in metrics or _names_of(reports)]
    differences = {
        number: reports[0].fingerprint.differences(report.fingerprint) for number, report in enumerate(reports[1:], 1)
    }
    differences = {number: texts for number, texts in differences.items() if texts}
    is_comparable = not differences
    best = {metric.name: _best(metric, reports) for metric in shown} if is_comparable and len(reports) > 1 else {}
    rows = []
    for number, report in enumerate(reports):
        rows.append(tuple(_cell(metric, report, intervals, number in best.get(metric.name, ())) for metric in shown))
    names = [
        report.title + (f" [{_DIFFERENT} {number}]" if number in differences else "")
        for number, report in enumerate(reports)
    ]
    if any(_true_text(metric, reports[0]) for metric in shown):
        names.append(REFERENCE_ROW)
        rows.append(tuple(Cell(text=_true_text(metric, reports[0]) or _ABSENT) for metric in shown))
    return Table(
        columns=("", *(_heading(metric) for metric in shown)),
        names=tuple(names),
        rows=tuple(rows),
        notes=tuple(_notes(reports, differences)),
        is_comparable=is_comparable,
    )


def render(table: Table, form: str) -> str:
    """A table as text.

    Args:
        table: see `build_table`.
        form: one of `FORMATS`.

    Raises:
        InputError: an unknown form.
    """
    if form not in _RENDERERS:
        raise InputError(f"Unknown form of a table {form!r}. Use one of {', '.join(FORMATS)}.")
    return _RENDERERS[form](table)


def _markdown(table: Table) -> str:
    def escaped(text: str) -> str:
        return text.replace("|", "\\|")

    lines = [
        "| " + " | ".join(map(escaped, table.columns)) + " |",
        "|" + "---|" * len(table.columns),
    ]
    for name, row in zip(table.names, table.rows, strict=True):
        cells = [f"**{cell.text}**" if cell.is_best else cell.text for cell in row]
        lines.append("| " + " | ".join([escaped(name), *cells]) + " |")
    mark = [] if table.is_comparable else ["", f"**{_DIFFERENT}: the rows were not measured alike, see below.**"]
    return "\n".join([*lines, *mark, "", *(f"- {note}" for note in table.notes)]) + "\n"


def _latex(table: Table) -> str:
    lines = [r"\begin{tabular}{l" + "c" * (len(table.columns) - 1) + "}", r"\toprule"]
    lines.append(" & ".join(map(_tex, table.columns)) + r" \\")
    lines.append(r"\midrule")
    for name, row in zip(table.names, table.rows, strict=True):
        cells = [rf"\textbf{{{_tex(cell.text)}}}" if cell.is_best else _tex(cell.text) for cell in row]
        lines.append(" & ".join([_tex(name), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    mark = [] if table.is_comparable else [f"% {_DIFFERENT}: the rows were not measured alike"]
    return "\n".join([*mark, *lines, *(f"% {note}" for note in table.notes)]) + "\n"


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", *table.columns[1:], "comparable"])
    for name, row in zip(table.names, table.rows, strict=True):
        writer.writerow([name, *("" if cell.text == _ABSENT else cell.text for cell in row), table.is_comparable])
    return out.getvalue()


_RENDERERS: Mapping[str, Callable[[Table], str]] = {"markdown": _markdown, "latex": _latex, "csv": _csv}


def _tex(text: str) -> str:
    for plain, special in (
        *(("\\", r"\textbackslash{}"), ("%", r"\%"), ("_", r"\_"), ("&", r"\&"), ("#", r"\#"), ("→0", r"$\to 0$")),
        *(("↑", r"$\uparrow$"), ("↓", r"$\downarrow$"), ("≈", r"$\approx$"), ("–", "--"), ("±", r"$\pm$")),
    ):
        text = text.replace(plain, special)
    return text


def _names_of(reports: Sequence[EvaluationReport]) -> list[str]:
    there = {name for report in reports for name in report.metrics}
    there |= {metric.metric for report in reports for metric in report.left_out}
    return [name for name in METRICS if name in there]


def _heading(metric: Metric) -> str:
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.label}{unit} {metric.arrow}"


def _cell(metric: Metric, report: EvaluationReport, intervals: bool, is_best: bool) -> Cell:
    found = report.metrics.get(metric.name)
    if found is None or found.value is None:
        return Cell(text=_ABSENT)
    text = f"{found.value:.{metric.num_digits}f}"
    if intervals and found.low is not None and found.high is not None:
        text += f" [{found.low:.{metric.num_digits}f}, {found.high:.{metric.num_digits}f}]"
    return Cell(text=text, is_best=is_best)


def _true_text(metric: Metric, report: EvaluationReport) -> str:
    found = report.metrics.get(metric.name)
    if found is None or found.true_value is None:
        return ""
    return f"{found.true_value:.{metric.num_digits}f}"


def _best(metric: Metric, reports: Sequence[EvaluationReport]) -> set[int]:
    """Rows with the best value, as printed: what looks equal is equal."""
    distances: dict[int, float] = {}
    for number, report in enumerate(reports):
        found = report.metrics.get(metric.name)
        if found is None or found.value is None:
            continue
        value = round(found.value, metric.num_digits)
        if metric.better == "true":
            if found.true_value is None:
                return set()
            distances[number] = round(abs(found.value - found.true_value), metric.num_digits)
        else:
            distances[number] = {"higher": -value, "lower": value, "zero": abs(value)}[metric.better]
    if len(distances) < 2:
        return set()
    least = min(distances.values())
    return {number for number, distance in distances.items() if distance == least}


def _notes(reports: Sequence[EvaluationReport], differences: Mapping[int, Sequence[str]]) -> list[str]:
    notes = []
    for number, texts in differences.items():
        shown = "; ".join(texts[:_MAX_DIFFERENCES])
        more = f"; and {len(texts) - _MAX_DIFFERENCES} more" if len(texts) > _MAX_DIFFERENCES else ""
        notes.append(f"{_DIFFERENT} {number}: {reports[number].title} differs from {reports[0].title} in {shown}{more}")
    notes += _left_out_notes(reports)
    for report in reports:
        for name, value in report.metrics.items():
            notes += [f"{report.title}: {METRICS[name].label}: {text}" for text in value.warnings]
        if report.num_failed:
            notes.append(
                f"{report.title}: {report.num_failed} of {report.fingerprint.num_clips} clips could not be measured"
            )
    first = reports[0].fingerprint
    notes.append(
        f"{first.num_clips} clips, {first.num_frames} frames at {first.protocol.fps:g} per second; "
        f"fingerprint {', '.join(dict.fromkeys(report.fingerprint.short for report in reports))}"
    )
    notes += dict.fromkeys(str(found) for report in reports if (found := report.fingerprint.clip_list) is not None)
    return notes


def _left_out_notes(reports: Sequence[EvaluationReport]) -> list[str]:
    """One sentence for each reason, however many metrics and rows it has."""
    gathered: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for report in reports:
        for left_out in report.left_out:
            metrics, rows = gathered.setdefault((left_out.reason, left_out.command), ([], []))
            metrics.append(METRICS[left_out.metric].label)
            rows.append(report.title)
    notes = []
    for (reason, command), (metrics, rows) in gathered.items():
        labels, titles = list(dict.fromkeys(metrics)), list(dict.fromkeys(rows))
        where = "" if len(titles) == len(reports) else f"{', '.join(titles)}: "
        verb = "was" if len(labels) == 1 else "were"
        advice = f"; run: {command}" if command else ""
        notes.append(f"{where}{', '.join(labels)} {verb} not measured, {reason}{advice}")
    return notes
