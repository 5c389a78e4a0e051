"""What ``portraitanim eval`` does once its options are read: find the clips, animate them, show what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portraitanim.cli.console import console
from portraitanim.errors import InputError

if TYPE_CHECKING:
    from portraitanim.evaluation.clip_list import ClipList
    from portraitanim.evaluation.clips import ClipPair
    from portraitanim.evaluation.held_out import HeldOut
    from portraitanim.evaluation.protocol import EvaluationProtocol
    from portraitanim.evaluation.report import EvaluationReport
    from portraitanim.evaluation.tables import Table

INCOMPLETE, CLIPS_FAILED = 4, 6
"""Exit codes of a run whose result was written: metrics left out for want of weights; clips that failed."""


def end_with_exit_code(reports: Sequence[EvaluationReport]) -> None:
    """Say in the exit code that something is missing from what was written.

    Raises:
        typer.Exit: with `INCOMPLETE` or `CLIPS_FAILED`.
    """
    from portraitanim.evaluation.report import PULL

    missing = {left_out.metric: left_out for report in reports for left_out in report.left_out}
    failed = sum(report.num_failed for report in reports)
    if failed:
        console.error(f"{failed} clips could not be measured; {reports[0].output}/clips.jsonl says why.")
    if missing:
        names = dict.fromkeys(name for left_out in missing.values() for name in left_out.weights)
        console.error(
            f"The table is incomplete: {', '.join(missing)} could not be measured. Run: {PULL} {' '.join(names)}"
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


@dataclass(frozen=True, kw_only=True)
class DatasetChoice:
    """Which true clips are animated, as the options say it.

    Attributes:
        root: ``--root``.
        dataset: ``--dataset``.
        annotations: ``--annotations``.
        test_share: ``--test-share``.
        split_seed: ``--split-seed``.
        max_clips: ``--max-clips``.
        workers: ``--workers``.
    """

    root: Path | None
    dataset: str | None
    annotations: Path | None
    test_share: float | None
    split_seed: int | None
    max_clips: int | None
    workers: int

    def require_use(self, *, is_used: bool) -> None:
        """Refuse options of a dataset where none is read."""
        given = self._split_options() + ([] if self.max_clips is None else ["--max-clips"])
        if given and not is_used:
            raise InputError(f"{given[0]} is about a dataset's clips. Name the dataset with --root, or leave it out.")

    def _split_options(self) -> list[str]:
        options = {
            "--annotations": self.annotations,
            "--test-share": self.test_share,
            "--split-seed": self.split_seed,
        }
        return [option for option, value in options.items() if value is not None]

    def open(self, output: Path) -> HeldOut:
        """The clips; those of a list are cut into ``output/dataset`` first."""
        from portraitanim.evaluation.held_out import DATASETS, is_prepared, listed_test_clips, prepared_clips

        if self.dataset is not None and self.dataset not in DATASETS:
            raise InputError(f"--dataset must be one of {', '.join(DATASETS)}, got {self.dataset!r}.")
        if self.root is None:
            raise InputError("Test clips are animated: name their dataset with --root.")
        if is_prepared(self.root):
            if given := self._split_options():
                raise InputError(f"{self.root} is prepared, and prep has split it: leave out {given[0]}.")
            return prepared_clips(self.root, self.max_clips, self.dataset)
        if self.dataset is None:
            raise InputError(
                f"{self.root} is not a prepared dataset: it has no manifest.jsonl. Make one with 'portraitanim prep', "
                f"or say what it holds: --dataset {', '.join(DATASETS)}."
            )
        return listed_test_clips(
            self.root,
            self.dataset,
            output / "dataset",
            annotations=self.annotations,
            test_share=self.test_share,
            split_seed=self.split_seed or 0,
            max_clips=self.max_clips,
            num_workers=0 if self.workers == 1 else self.workers,
            progress=console.progress(),
        )


def reanimated(
    choice: DatasetChoice,
    weights: str | None,
    assignments: list[str],
    output: Path,
    protocol: EvaluationProtocol,
    device: str,
) -> tuple[list[ClipPair], list[str], EvaluationProtocol, ClipList]:
    """Animate the test clips of a dataset; compared at the size that is generated, unless another is asked for."""
    from dataclasses import replace

    from portraitanim.checkpoints.animators import open_animator
    from portraitanim.config.presets import parse_assignments
    from portraitanim.config.sweep import SweepConfig, SweepRun
    from portraitanim.evaluation.reanimation import reanimate

    run = SweepRun(name=weights or "weights", options=parse_assignments(assignments))
    options = SweepConfig(title="one", runs=(run,)).options_of(run)
    animator = open_animator(weights, device=device)
    held_out = choice.open(output)
    pairs, notes = reanimate(animator, held_out.clips, output / "videos", options, progress=console.progress())
    size = protocol.size_px or options.size_px or animator.preset.sampling.size_px
    return pairs, [*held_out.notes, *notes], replace(protocol, size_px=size), held_out.clip_list


def run_sweep_file(
    name: str,
    choice: DatasetChoice,
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
    folder = output or Path(f"sweep-{Path(name).stem}")
    result = run_sweep(
        config,
        choice.open(folder),
        folder,
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
    from portraitanim.evaluation.report import read_reports

    show([report for path in paths for report in read_reports(path)], metrics, form, intervals, as_json)


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
