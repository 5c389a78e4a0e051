"""What ``portraitanim eval`` does once its options are read: find the clips, animate them, show what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portraitanim.cli.console import console
from portraitanim.errors import InputError

if TYPE_CHECKING:
    from portraitanim.evaluation.clips import ClipPair
    from portraitanim.evaluation.protocol import EvaluationProtocol
    from portraitanim.evaluation.reanimation import HeldOutClip
    from portraitanim.evaluation.report import EvaluationReport
    from portraitanim.evaluation.tables import Table

INCOMPLETE, CLIPS_FAILED = 4, 6
"""Exit codes of a run whose result was written: metrics left out for want of weights; clips that failed."""


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


def paired(generated: Path | None, real: Path | None, pairs: Path | None) -> tuple[list[ClipPair], list[str]]:
    from portraitanim.evaluation.clips import pair_folders, read_pairs

    if pairs is not None:
        refuse_with("--pairs", generated=generated, real=real)
        return read_pairs(pairs), []
    if generated is None or real is None:
        raise InputError("Two folders are needed: portraitanim eval GENERATED REAL, or --pairs, --root or --table.")
    return pair_folders(generated, real)


def refuse_with(option: str, **given: Path | None) -> None:
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{option} says what is compared: leave out {name.upper()}.")


def name_of(generated: Path | None, pairs: Path | None, root: Path | None) -> str:
    named = pairs or root or generated
    return "result" if named is None else named.resolve().stem


def installed_weights(protocol: EvaluationProtocol) -> dict[str, Path]:
    """Folders of the weights that are there, of those that the protocol needs."""
    from portraitanim.checkpoints.store import installed

    needed = {weights for metric in protocol.metrics for weights in protocol.weights_of(metric)}
    return {weights: folder for weights in sorted(needed) if (folder := installed(weights)) is not None}


def held_out(root: Path | None, max_clips: int | None) -> list[HeldOutClip]:
    from portraitanim.evaluation.reanimation import held_out_clips

    if root is None:
        raise InputError("--sweep animates the test clips of a prepared dataset: name it with --root.")
    return held_out_clips(root, max_clips)


def reanimated(
    root: Path,
    max_clips: int | None,
    weights: str | None,
    assignments: list[str],
    output: Path,
    protocol: EvaluationProtocol,
    device: str,
) -> tuple[list[ClipPair], list[str], EvaluationProtocol]:
    """Animate the test clips of a dataset; compared at the size that is generated, unless another is asked for."""
    from dataclasses import replace

    from portraitanim.checkpoints.animators import open_animator
    from portraitanim.config.presets import parse_assignment
    from portraitanim.config.sweep import SweepConfig, SweepRun
    from portraitanim.config.yaml_files import merge
    from portraitanim.evaluation.reanimation import reanimate

    values: dict[str, Any] = {}
    for text in assignments:
        values = merge(values, parse_assignment(text))
    clips = held_out(root, max_clips)
    run = SweepRun(name=weights or "weights", options=values)
    options = SweepConfig(title="one", runs=(run,)).options_of(run)
    animator = open_animator(weights, device=device)
    pairs, notes = reanimate(animator, clips, output / "videos", options, progress=console.progress())
    size = protocol.size_px or options.size_px or animator.preset.sampling.size_px
    return pairs, notes, replace(protocol, size_px=size)


def run_sweep_file(
    name: str,
    clips: list[HeldOutClip],
    output: Path | None,
    weights: str | None,
    assignments: list[str],
    protocol: EvaluationProtocol,
    machine: dict[str, Any],
    form: str,
    as_json: bool,
) -> None:
    from dataclasses import replace

    from portraitanim.checkpoints.animators import open_animator
    from portraitanim.config.sweep import load_sweep
    from portraitanim.evaluation.sweep import run_sweep

    config = load_sweep(name)
    own = dict(_row_and_weights(text) for text in assignments)
    measured = replace(protocol, metrics=config.metrics) if config.metrics else protocol
    result = run_sweep(
        config,
        clips,
        output or Path(f"sweep-{Path(name).stem}"),
        open_animator=lambda row, landmarks: open_animator(
            row or weights, device=machine["device"], has_driving=landmarks
        ),
        protocol=measured,
        run_weights=own,
        weights=installed_weights(measured),
        progress=console.progress(),
        **machine,
    )
    show(result.reports, None, form, False, as_json)
    for row, reason in result.left_out.items():
        console.note(f"{row} was not run: {reason}")
    for path in (result.table, *result.plots):
        console.note(str(path))
    end_with_exit_code(result.reports)


def _row_and_weights(text: str) -> tuple[str, str]:
    row, separator, weights = text.partition("=")
    if not separator or not row or not weights:
        raise InputError(f"--run-weights takes ROW=WEIGHTS, got {text!r}.")
    return row, weights


def show_reports(
    paths: Sequence[Path], metrics: tuple[str, ...] | None, form: str, intervals: bool, as_json: bool
) -> None:
    from portraitanim.evaluation.report import read_report

    show([read_report(path) for path in paths], metrics, form, intervals, as_json)


def show(
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
