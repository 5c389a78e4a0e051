"""The report of a preparation: one HTML page with everything in it, and only what was measured."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from portraitanim.config.preparation import PreparationConfig
from portraitanim.data.preparation.filters import RULES, limits_by_score
from portraitanim.data.preparation.listing import DatasetSummary, Reject, read_rejects
from portraitanim.data.preparation.state import PreparationState
from portraitanim.data.records import ClipRecord, read_manifest
from portraitanim.media.files import whole_file

MAX_PICTURES = 48
"""Thumbnails of kept clips, and of rejects for each reason; pages stay small enough to be sent."""

_NUM_BINS = 24
_WIDTH, _HEIGHT, _BASE = 360, 110, 88

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1c2126}
h1{font-size:1.5rem} h2{font-size:1.15rem;margin-top:2.2rem} table{border-collapse:collapse}
td,th{padding:.2rem .9rem .2rem 0;text-align:left;vertical-align:top} td.n,th.n{text-align:right}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(22rem,1fr));gap:1.2rem}
.plots p{margin:0;font-size:.85rem;color:#4a545e} svg{width:100%;height:auto;display:block}
.clips{display:flex;flex-wrap:wrap;gap:.6rem} figure{margin:0;width:8rem;font-size:.72rem;overflow-wrap:anywhere}
figure img{width:100%;display:block;border-radius:3px} .none{color:#4a545e}
"""


def write_report(root: Path, config: PreparationConfig, summary: DatasetSummary, path: Path) -> Path:
    """Write the page for a dataset that was listed.

    Args:
        root: the dataset.
        config: the limits that are drawn.
        summary: what the preparation came to.
        path: the file to write.

    Raises:
        InputError: the dataset has no manifest.
        MediaError: the page cannot be written.
    """
    kept, rejects = list(read_manifest(root)), read_rejects(root)
    state = PreparationState(root)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Preparation report</title>",
        f"<style>{_STYLE}</style><h1>Preparation report</h1>",
        _overview(summary),
        _coverage(summary),
        _reasons(rejects, summary),
        _plots(config, kept, rejects),
        _kept_clips(state, kept),
        _rejected_clips(state, rejects),
        "</html>",
    ]
    with whole_file(path) as partial:
        partial.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return path


def _overview(summary: DatasetSummary) -> str:
    rows = [
        ("Clips measured", summary.num_candidates),
        ("Clips kept", f"{summary.num_kept} ({summary.kept_seconds:.1f} s)"),
        ("Held out for tests", f"{summary.num_test_clips}: {summary.held_out_are}"),
        ("Identities", f"{summary.num_identities}: {summary.identities_are}"),
        ("Fingerprint of the kept clips", summary.fingerprint),
    ]
    return _table(("", ""), [(name, str(value)) for name, value in rows], numbers_from=9)


def _coverage(summary: DatasetSummary) -> str:
    rows = [
        (row.dataset, row.num_listed, row.num_found, row.num_used, row.num_kept, f"{row.kept_seconds:.1f}")
        for row in summary.coverage
    ]
    header = ("list", "listed", "found", "used", "clips kept", "seconds kept")
    return "<h2>Coverage</h2>" + _table(header, rows, numbers_from=1)


def _reasons(rejects: Sequence[Reject], summary: DatasetSummary) -> str:
    alone = {name: sum(reject.failed == (name,) for reject in rejects) for name in summary.reasons}
    anywhere = {name: sum(name in reject.failed for reject in rejects) for name in summary.reasons}
    others = sorted({name for reject in rejects for name in reject.failed} - set(summary.reasons))
    rows = [(name, count, anywhere[name], alone[name]) for name, count in summary.reasons.items()]
    rows += [(name, 0, sum(name in reject.failed for reject in rejects), 0) for name in others]
    if not rows:
        return "<h2>Why clips were dropped</h2><p class=none>None was dropped.</p>"
    header = ("limit", "clips listed under it", "clips beyond it", "beyond it alone")
    return "<h2>Why clips were dropped</h2>" + _table(header, rows, numbers_from=1)


def _plots(config: PreparationConfig, kept: Sequence[ClipRecord], rejects: Sequence[Reject]) -> str:
    limits = limits_by_score(config.filters)
    figures = []
    for score, meaning in RULES.items():
        values = [scores[score] for scores in _all_scores(kept, rejects) if score in scores]
        limit, is_minimum = limits.get(score, (None, False))
        figures.append(
            f"<div><p><b>{score}</b>: {html.escape(meaning)}. {_limit_text(limit, is_minimum)} "
            f"Measured in {len(values)} clips.{_histogram(values, limit) if values else '</p>'}</div>"
        )
    return f"<h2>Scores</h2><div class=plots>{''.join(figures)}</div>"


def _limit_text(limit: float | None, is_minimum: bool) -> str:
    if limit is None:
        return "No limit."
    return f"Limit: {'at least' if is_minimum else 'at most'} {limit:g}."


def _histogram(values: Sequence[float], limit: float | None) -> str:
    """Counts as bars, and the limit as a line; the range holds both. Ends the paragraph before it."""
    ends = [*values, *([limit] if limit is not None else [])]
    low, high = min(ends), max(ends)
    high = high if high > low else low + 1.0
    counts, edges = np.histogram(values, bins=_NUM_BINS, range=(low, high))
    bars = []
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        height = (_BASE - 12) * count / counts.max()
        x0, x1 = (_place(edge, low, high) for edge in (left, right))
        title = f"{left:.4g} to {right:.4g}: {count}"
        bars.append(
            f'<rect x="{x0:.1f}" y="{_BASE - height:.1f}" width="{max(x1 - x0 - 1, 1):.1f}" height="{height:.1f}" '
            f'fill="#7a9cc6"><title>{title}</title></rect>'
        )
    line = ""
    if limit is not None:
        x = _place(limit, low, high)
        line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{_BASE}" stroke="#c0392b" stroke-width="2"/>'
    labels = (
        f'<text x="4" y="{_HEIGHT - 6}" font-size="11">{low:.4g}</text>'
        f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 6}" font-size="11" text-anchor="end">{high:.4g}</text>'
    )
    axis = f'<line x1="4" x2="{_WIDTH - 4}" y1="{_BASE}" y2="{_BASE}" stroke="#4a545e"/>'
    most = f" {counts.max()} in the tallest bar.</p>"
    return f'{most}<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(bars)}{axis}{line}{labels}</svg>'


def _place(value: float, low: float, high: float) -> float:
    return 4 + (_WIDTH - 8) * (value - low) / (high - low)


def _kept_clips(state: PreparationState, kept: Sequence[ClipRecord]) -> str:
    figures = [
        _figure(state, record.clip_id, f"{record.duration_seconds:.1f} s, {record.split}", record.scores)
        for record in _spread(kept)
    ]
    return f"<h2>Kept{_shown(len(figures), len(kept))}</h2><div class=clips>{''.join(figures)}</div>"


def _rejected_clips(state: PreparationState, rejects: Sequence[Reject]) -> str:
    parts = []
    for reason in sorted({reject.reason for reject in rejects}):
        group = [reject for reject in rejects if reject.reason == reason]
        figures = [_figure(state, reject.clip_id, reject.message, reject.scores) for reject in _spread(group)]
        title = f"Dropped for {html.escape(reason)}{_shown(len(figures), len(group))}"
        parts.append(f"<h2>{title}</h2><div class=clips>{''.join(figures)}</div>")
    return "".join(parts)


def _figure(state: PreparationState, clip_id: str, caption: str, scores: dict[str, float]) -> str:
    thumb = state.thumb(clip_id)
    image = ""
    if thumb.is_file():
        data = base64.b64encode(thumb.read_bytes()).decode("ascii")
        image = f'<img src="data:image/jpeg;base64,{data}" alt="" title="{html.escape(json.dumps(scores, indent=1))}">'
    return f"<figure>{image}<b>{html.escape(clip_id)}</b><br>{html.escape(caption)}</figure>"


def _spread(items: Sequence) -> list:
    """At most `MAX_PICTURES` of them, from the first to the last."""
    if len(items) <= MAX_PICTURES:
        return list(items)
    return [items[number * len(items) // MAX_PICTURES] for number in range(MAX_PICTURES)]


def _shown(num_shown: int, num_all: int) -> str:
    return f": {num_all}" if num_shown == num_all else f": {num_shown} of {num_all} shown"


def _all_scores(kept: Iterable[ClipRecord], rejects: Iterable[Reject]) -> list[dict[str, float]]:
    return [record.scores for record in kept] + [reject.scores for reject in rejects]


def _table(header: Sequence[str], rows: Sequence[Sequence[object]], numbers_from: int) -> str:
    def cells(row: Sequence[object], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if column >= numbers_from else ''}>{html.escape(str(cell))}</{tag}>"
            for column, cell in enumerate(row)
        )

    head = f"<tr>{cells(header, 'th')}</tr>" if any(header) else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table>{head}{body}</table>"
