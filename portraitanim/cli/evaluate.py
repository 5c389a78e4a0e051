"""``portraitanim eval``: generated videos against true ones, and tables of what came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portraitanim.cli.console import console
from portraitanim.cli.evaluation_runs import (
    DatasetChoice,
    end_with_exit_code,
    installed_weights,
    name_of,
    paired,
    reanimated,
    refuse_with,
    run_sweep_file,
    show,
    show_reports,
)
from portraitanim.errors import InputError

if TYPE_CHECKING:
    from portraitanim.evaluation.protocol import EvaluationProtocol

_WHAT, _HOW, _OUTPUT = "What is compared", "How it is measured", "Output"

HELP = """Measure generated videos against true ones, with the metrics of the papers.

  portraitanim eval generated/ real/

  portraitanim eval --pairs pairs.csv --metrics ssim,lmd_mouth,mouth_correlation

  portraitanim eval --root DATASET --weights tiny

  portraitanim eval --dataset hdtf --root VIDEOS --annotations HDTF_dataset --weights hallo

  portraitanim eval --root DATASET --sweep hallo-figure11

  portraitanim eval --table run1 --table run2 --format latex

Videos of two folders belong together by their names. With --root, the test clips of a dataset are animated from their
own first frame and sound, and held against themselves. The dataset is what `prep` wrote, or videos with the annotations
of HDTF, CelebV-HQ or CelebV-Text, or any folder of videos (wild), whose clips are cut first.

Metrics whose weights are not installed are left out by name; the result is written all the same, and the exit code is
4. It is 6 when clips could not be measured."""


def evaluate(
    generated: Annotated[
        Path | None, typer.Argument(help="Generated videos: a folder, or one file.", show_default=False)
    ] = None,
    real: Annotated[Path | None, typer.Argument(help="The true ones, of the same names.", show_default=False)] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="CSV or JSONL with generated, true, and name, audio.", rich_help_panel=_WHAT),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="A dataset, whose test clips are animated first.", rich_help_panel=_WHAT),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="What it is: hdtf, celebv or wild; a prepared one knows.", rich_help_panel=_WHAT),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="HDTF's folder or CelebV's JSON file, where not in --root.", rich_help_panel=_WHAT),
    ] = None,
    test_share: Annotated[
        float | None,
        typer.Option(help="Share of listed identities to take (0.1; all of wild).", rich_help_panel=_WHAT),
    ] = None,
    split_seed: Annotated[int | None, typer.Option(help="Which identities (0).", rich_help_panel=_WHAT)] = None,
    weights: Annotated[str | None, typer.Option(help="What animates: as for `animate`.", rich_help_panel=_WHAT)] = None,
    animate: Annotated[
        list[str] | None,
        typer.Option("--animate", metavar="KEY=VALUE", help="An option of `animate`.", rich_help_panel=_WHAT),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(help="Animate the test clips in many ways: a YAML file, or a name.", rich_help_panel=_WHAT),
    ] = None,
    run_weights: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW=WEIGHTS", help="Weights for a row of the sweep.", rich_help_panel=_WHAT),
    ] = None,
    max_clips: Annotated[int | None, typer.Option(help="Test clips to take.", rich_help_panel=_WHAT)] = None,
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
        typer.Option(
            help="Only show results: JSON files or folders of runs; give it again.",
            rich_help_panel=_OUTPUT,
        ),
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
        show_reports(table, chosen, form, intervals, as_json)
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
    machine: dict[str, Any] = {"device": device, "num_workers": workers}
    choice = DatasetChoice(
        root=root,
        dataset=dataset,
        annotations=annotations,
        test_share=test_share,
        split_seed=split_seed,
        max_clips=max_clips,
        workers=workers,
    )
    choice.require_use(is_used=sweep is not None or root is not None or dataset is not None)
    if sweep is not None:
        refuse_with("--sweep", generated=generated, real=real, pairs=pairs)
        run_sweep_file(sweep, choice, output, weights, run_weights or [], protocol, machine, form, as_json)
        return
    folder = output or Path(f"evaluation-{title or dataset or name_of(generated, pairs, root)}")
    clip_list = None
    if root is not None or dataset is not None:
        refuse_with("--root", generated=generated, real=real, pairs=pairs)
        found, notes, protocol, clip_list = reanimated(choice, weights, animate or [], folder, protocol, device)
        folder = folder / "result"
    else:
        found, notes = paired(generated, real, pairs)
    from portraitanim.evaluation.runner import evaluate as run

    report = run(
        found,
        protocol,
        folder,
        title=title or dataset or name_of(generated, pairs, root),
        weights=installed_weights(protocol),
        resume=resume,
        overwrite=overwrite,
        notes=notes,
        clip_list=clip_list,
        progress=console.progress(),
        **machine,
    )
    for note in report.notes:
        console.note(note)
    show([report], chosen, form, intervals, as_json)
    console.note(f"Values of each clip, and a page to look at: {report.output}")
    end_with_exit_code([report])


def _names(text: str) -> tuple[str, ...]:
    from portraitanim.evaluation.catalogue import chosen_metrics

    return chosen_metrics(name.strip() for name in text.split(",") if name.strip())


def _protocol(given: dict[str, Any], assignments: list[str]) -> EvaluationProtocol:
    from portraitanim.config.presets import parse_assignments
    from portraitanim.evaluation.protocol import EvaluationProtocol

    values = {name: value for name, value in given.items() if value is not None}
    return EvaluationProtocol.from_dict(parse_assignments(assignments, values))


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
