"""``portraitanim eval``: generated videos against true ones, and tables of what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portraitanim.cli.console import console
from portraitanim.errors import InputError

if TYPE_CHECKING:
    from portraitanim.evaluation.clips import ClipPair
    from portraitanim.evaluation.protocol import EvaluationProtocol
    from portraitanim.evaluation.report import EvaluationReport
    from portraitanim.evaluation.tables import Table

INCOMPLETE, CLIPS_FAILED = 4, 6
"""Exit codes of a run whose result was written: metrics left out for want of weights; clips that failed."""

_WHAT, _HOW, _OUTPUT = "What is compared", "How it is measured", "Output"

HELP = """Measure generated videos against true ones, with the metrics of the papers.

  portraitanim eval generated/ real/

  portraitanim eval --pairs pairs.csv --metrics ssim,lmd_mouth,mouth_correlation

  portraitanim eval --table run1 --table run2 --format latex

Videos of two folders belong together by their names. Metrics whose weights are not installed are left out by name; the
result is written all the same, and the exit code is 4. It is 6 when clips could not be measured."""


def evaluate(
    generated: Annotated[
        Path | None, typer.Argument(help="Generated videos: a folder, or one file.", show_default=False)
    ] = None,
    real: Annotated[Path | None, typer.Argument(help="The true ones, of the same names.", show_default=False)] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="CSV or JSONL with generated, true, and name, audio.", rich_help_panel=_WHAT),
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="all, or names with commas; see --list-metrics.", rich_help_panel=_HOW)
    ] = "all",
    size: Annotated[
        int | None, typer.Option(help="Shorter side to which both are scaled, in pixels.", rich_help_panel=_HOW)
    ] = None,
    fps: Annotated[float, typer.Option(help="Rate at which both are read.", rich_help_panel=_HOW)] = 25.0,
    max_frames: Annotated[int | None, typer.Option(help="Of each clip.", rich_help_panel=_HOW)] = None,
    fid_flavour: Annotated[
        str, typer.Option(help="pytorch-fid, torch-fidelity or clean-fid.", rich_help_panel=_HOW)
    ] = "pytorch-fid",
    fvd_flavour: Annotated[str, typer.Option(help="direct, short-side or disco.", rich_help_panel=_HOW)] = "direct",
    seed: Annotated[int, typer.Option(help="Of the draws for intervals.", rich_help_panel=_HOW)] = 0,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the protocol.", rich_help_panel=_HOW),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_HOW)] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that measure.", rich_help_panel=_HOW)] = 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the result (evaluation-TITLE).", rich_help_panel=_OUTPUT),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Name of the row in tables; by default the folder's.", rich_help_panel=_OUTPUT)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.", rich_help_panel=_OUTPUT)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run.", rich_help_panel=_OUTPUT)
    ] = False,
    table: Annotated[
        list[Path] | None,
        typer.Option(help="Only show results: a report.json or its folder; give it again.", rich_help_panel=_OUTPUT),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="terminal, markdown, latex or csv.", rich_help_panel=_OUTPUT)
    ] = "terminal",
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Show the intervals over clips.", rich_help_panel=_OUTPUT)
    ] = False,
    list_metrics: Annotated[
        bool, typer.Option("--list-metrics", help="Show what can be measured.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_OUTPUT)] = False,
) -> None:
    """Measure generated videos against true ones."""
    if form not in ("terminal", "markdown", "latex", "csv"):
        raise InputError(f"Unknown --format {form!r}. Use terminal, markdown, latex or csv.")
    if list_metrics:
        _list_metrics(as_json)
        return
    chosen = None if metrics == "all" else _names(metrics)
    if table:
        _show_reports(table, chosen, form, intervals, as_json)
        return
    protocol = _protocol(
        {
            "metrics": chosen,
            "size_px": size,
            "fps": fps,
            "max_frames": max_frames,
            "fid_flavour": fid_flavour,
            "fvd_flavour": fvd_flavour,
            "seed": seed,
        },
        assignments or [],
    )
    found, notes, name = _pairs(generated, real, pairs)
    from portraitanim.checkpoints.store import installed
    from portraitanim.evaluation.runner import evaluate as run

    needed = {weights for metric in protocol.metrics for weights in protocol.weights_of(metric)}
    report = run(
        found,
        protocol,
        output or Path(f"evaluation-{title or name}"),
        title=title or name,
        weights={weights: folder for weights in sorted(needed) if (folder := installed(weights)) is not None},
        device=device,
        num_workers=workers,
        resume=resume,
        overwrite=overwrite,
        notes=notes,
        progress=console.progress(),
    )
    for note in notes:
        console.note(note)
    _show([report], chosen, form, intervals, as_json)
    console.note(f"Values of each clip, and a page to look at: {report.output}")
    end_with_exit_code([report])


def end_with_exit_code(reports: Sequence[EvaluationReport]) -> None:
    """Say in the exit code that something is missing from what was written.

    Raises:
        typer.Exit: with `INCOMPLETE` or `CLIPS_FAILED`.
    """
    missing = {left_out.metric: left_out for report in reports for left_out in report.left_out}
    failed = sum(report.num_failed for report in reports)
    if failed:
        console.error(f"{failed} clips could not be measured; {reports[0].output}/clips.jsonl says why.")
    if missing:
        commands = " ".join(dict.fromkeys(left_out.command.split()[-1] for left_out in missing.values()))
        console.error(
            f"The table is incomplete: {', '.join(missing)} could not be measured. "
            f"Run: portraitanim weights pull {commands}"
        )
        raise typer.Exit(INCOMPLETE)
    if failed:
        raise typer.Exit(CLIPS_FAILED)


def _names(text: str) -> tuple[str, ...]:
    from portraitanim.evaluation.catalogue import chosen_metrics

    return chosen_metrics(name.strip() for name in text.split(",") if name.strip())


def _protocol(given: dict[str, Any], assignments: list[str]) -> EvaluationProtocol:
    from portraitanim.config.presets import merge, parse_assignment
    from portraitanim.evaluation.protocol import EvaluationProtocol

    values = {name: value for name, value in given.items() if value is not None}
    for text in assignments:
        values = merge(values, parse_assignment(text))
    return EvaluationProtocol.from_dict(values)


def _pairs(generated: Path | None, real: Path | None, pairs: Path | None) -> tuple[list[ClipPair], list[str], str]:
    from portraitanim.evaluation.clips import pair_folders, read_pairs

    if pairs is not None:
        if generated is not None or real is not None:
            raise InputError("--pairs names both sides: leave out GENERATED and REAL.")
        return read_pairs(pairs), [], pairs.stem
    if generated is None or real is None:
        raise InputError("Two folders are needed: portraitanim eval GENERATED REAL, or --pairs, or --table.")
    found, notes = pair_folders(generated, real)
    return found, notes, generated.resolve().stem


def _list_metrics(as_json: bool) -> None:
    from dataclasses import asdict

    from portraitanim.evaluation.catalogue import METRICS

    if as_json:
        console.json([asdict(metric) for metric in METRICS.values()])
        return
    rows = [
        (metric.name, f"{metric.label} {metric.arrow}", " ".join(metric.weights) or "nothing", metric.about)
        for metric in METRICS.values()
    ]
    console.table(("name", "in tables", "needs", "what it is"), rows)


def _show_reports(
    paths: Sequence[Path], metrics: tuple[str, ...] | None, form: str, intervals: bool, as_json: bool
) -> None:
    from portraitanim.evaluation.report import read_report

    _show([read_report(path) for path in paths], metrics, form, intervals, as_json)


def _show(
    reports: Sequence[EvaluationReport], metrics: tuple[str, ...] | None, form: str, intervals: bool, as_json: bool
) -> None:
    if as_json:
        dicts = [report.to_dict() for report in reports]
        console.json(dicts[0] if len(dicts) == 1 else dicts)
        return
    from portraitanim.evaluation.tables import build_table, render

    built = build_table(reports, metrics, intervals=intervals)
    if form != "terminal":
        console.result(render(built, form).rstrip("\n"))
    else:
        _show_on_terminal(built)


def _show_on_terminal(table: Table) -> None:
    """Metrics as rows: a terminal is narrower than a page, and most tables have more metrics than runs."""
    rows = [
        (heading, *(f"{row[number].text}{' *' if row[number].is_best else ''}" for row in table.rows))
        for number, heading in enumerate(table.columns[1:])
    ]
    console.table(("metric", *table.names), rows)
    if any(cell.is_best for row in table.rows for cell in row):
        console.note("* best of its row")
    for note in table.notes:
        console.note(note)
    if not table.is_comparable:
        console.error("NOT COMPARABLE: these results were not measured alike, see above.")
