"""A page that shows each clip with its numbers and frames, worst first, so that a person sees what the means hide."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path

from portraitanim.evaluation.catalogue import METRICS, Metric
from portraitanim.evaluation.clip_result import THUMBNAILS_FOLDER, ClipResult, thumbnail_path
from portraitanim.evaluation.report import EvaluationReport
from portraitanim.evaluation.tables import Table, build_table
from portraitanim.media.files import whole_file

HTML_FILE = "report.html"

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #1d1d1f; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; } .clips th { cursor: pointer; position: sticky; top: 0;
background: #fff; } .error { color: #b00020; } .note { color: #555; font-size: .85rem; max-width: 40rem; }
img { max-width: 46rem; display: block; } pre { background: #f5f5f7; padding: 1rem; overflow: auto; }
.scroll { overflow-x: auto; }
"""
# Clicking a heading sorts by its column; cells without a number come last.
_SCRIPT = """
document.querySelectorAll(".clips th[data-column]").forEach(th => th.addEventListener("click", () => {
  const body = th.closest("table").tBodies[0], column = +th.dataset.column;
  const up = th.dataset.up = th.dataset.up === "1" ? "" : "1";
  const key = row => { const v = row.cells[column].dataset.value; return v === undefined || v === "" ? null : +v; };
  [...body.rows].sort((a, b) => { const x = key(a), y = key(b);
    return x === null ? 1 : y === null ? -1 : up ? x - y : y - x; }).forEach(row => body.append(row));
}));
"""


def write_html(report: EvaluationReport, clips: Sequence[ClipResult], output: Path) -> None:
    """Write the page of a run.

    Args:
        report: of the run.
        clips: its clips.
        output: its folder, which has the thumbnails.
    """
    with whole_file(output / HTML_FILE) as partial:
        partial.write_text(_page(report, clips, output), encoding="utf-8")


def _page(report: EvaluationReport, clips: Sequence[ClipResult], output: Path) -> str:
    title = html.escape(f"Evaluation of {report.title}")
    table = build_table([report], intervals=True)
    shown = [METRICS[name] for name in report.metrics if METRICS[name].scope != "set"]
    ordered = sorted(clips, key=lambda clip: _badness(clip, shown), reverse=True)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>",
        _html_table(table),
        "<h2>Read with it</h2><ul>",
        *(f"<li>{html.escape(note)}" for note in (*report.notes, *table.notes)),
        f"</ul><h2>Clips</h2><p>Worst first by {html.escape(shown[0].label)}; click a heading to sort by it. "
        "Pictures: generated above true.</p>"
        if shown
        else "</ul><h2>Clips</h2>",
        "<div class=scroll><table class=clips><thead><tr><th>clip",
        *(f"<th data-column={n}>{html.escape(metric.label)} {metric.arrow}" for n, metric in enumerate(shown, 1)),
        "</tr></thead><tbody>",
        *(_clip_row(clip, shown, output) for clip in ordered),
        "</tbody></table></div><h2>Metrics</h2><ul>",
        *(
            f"<li><b>{html.escape(METRICS[name].label)} {METRICS[name].arrow}</b> {html.escape(METRICS[name].about)}"
            for name in report.metrics
        ),
        f"</ul><h2>Fingerprint {report.fingerprint.short}</h2>",
        f"<pre>{html.escape(json.dumps(report.fingerprint.to_dict(), indent=2))}</pre>",
        f"<script>{_SCRIPT}</script></html>",
    ]
    return "\n".join(parts)


def _html_table(table: Table) -> str:
    rows = ["<div class=scroll><table><tr>" + "".join(f"<th>{html.escape(column)}" for column in table.columns)]
    for name, row in zip(table.names, table.rows, strict=True):
        cells = "".join(f"<td>{html.escape(cell.text)}" for cell in row)
        rows.append(f"<tr><td>{html.escape(name)}{cells}")
    return "\n".join([*rows, "</table></div>"])


def _clip_row(clip: ClipResult, shown: Sequence[Metric], output: Path) -> str:
    words = [f"<b>{html.escape(clip.name)}</b> {clip.num_frames} frames"]
    if thumbnail_path(output, clip.name).is_file():
        source = html.escape(f"{THUMBNAILS_FOLDER}/{clip.name}.jpg", quote=True)
        words.append(f"<img loading=lazy alt='' src='{source}'>")
    if clip.error:
        words.append(f"<div class=error>{html.escape(clip.error)}</div>")
    words += [f"<div class=note>{html.escape(note)}</div>" for note in clip.notes]
    cells = []
    for metric in shown:
        value = clip.values.get(metric.name)
        cells.append("<td>–" if value is None else f"<td data-value={value!r}>{value:.{metric.num_digits}f}")
    return f"<tr><td>{''.join(words)}{''.join(cells)}</tr>"


def _badness(clip: ClipResult, shown: Sequence[Metric]) -> tuple[bool, float]:
    """Failed clips first, then by the first metric."""
    value = clip.values.get(shown[0].name) if shown else None
    if value is None:
        return (not clip.is_measured, 0.0)
    return (False, {"higher": -value, "lower": value}.get(shown[0].better, abs(value)))
