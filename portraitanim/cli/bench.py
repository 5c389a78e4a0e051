"""``portraitanim bench``: how fast this machine is, everything included."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portraitanim.cli.bench_runs import compare_quality, open_scenario, write_report
from portraitanim.cli.bench_tables import (
    show_comparisons,
    show_machines,
    show_memory_checks,
    show_results,
    show_stages,
    show_table7,
)
from portraitanim.cli.console import console
from portraitanim.errors import InputError

if TYPE_CHECKING:
    from portraitanim.benchmarking.report import BenchmarkReport, ScenarioResult
    from portraitanim.benchmarking.scenarios import Scenario

_WHAT, _INPUT, _OUTPUT = "What is measured", "Input", "Output"

HELP = """Measure how long a video takes, everything included.

Times are of whole runs of `animate`: sound, face, reference, denoising, decoding, encoding. Each scenario runs in a
process of its own, after a short warm-up. Options that are given several times are combined:

  portraitanim bench --size 256 --size 512 --dtype fp32 --dtype bf16

  portraitanim bench --output before.json

  portraitanim bench --compare before.json

  portraitanim bench --speed exact --speed balanced --quality

Without installed weights, networks of the same size with random weights are measured: they are as fast."""


def bench(
    preset: Annotated[
        list[str] | None,
        typer.Option(help="System (tiny). Several times for several; so are the next seven.", rich_help_panel=_WHAT),
    ] = None,
    size: Annotated[list[int] | None, typer.Option(help="Side in pixels.", rich_help_panel=_WHAT)] = None,
    frames: Annotated[list[int] | None, typer.Option(help="Frames of the video (50).", rich_help_panel=_WHAT)] = None,
    steps: Annotated[list[int] | None, typer.Option(help="Denoising steps.", rich_help_panel=_WHAT)] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="auto, fp32, fp16 or bf16.", rich_help_panel=_WHAT)] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_WHAT)
    ] = None,
    speed: Annotated[
        list[str] | None, typer.Option(help="exact, balanced or fast; see animate.", rich_help_panel=_WHAT)
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Way of computing: plain, channels-last, fused, compile, work-ahead, decode-batch=N, "
            "window-batch=N, or several joined by +.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="auto, random, a name from `weights list`, or a folder.", rich_help_panel=_WHAT)
    ] = "auto",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the preset.", rich_help_panel=_WHAT),
    ] = None,
    table7: Annotated[
        bool,
        typer.Option(
            "--table7",
            help="Table 7 of the Hallo paper: 256, 512, 1024, with and without regional attention.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    quality: Annotated[
        bool,
        typer.Option(
            "--quality", help="Measure no times, but how much videos differ from the first.", rich_help_panel=_WHAT
        ),
    ] = False,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory", help="Instead: predicted memory against measured, with random weights.", rich_help_panel=_WHAT
        ),
    ] = False,
    repeats: Annotated[int, typer.Option(help="Timed runs of each scenario.", rich_help_panel=_WHAT)] = 3,
    portrait: Annotated[
        Path | None, typer.Option(help="Picture; by default the example's.", rich_help_panel=_INPUT)
    ] = None,
    audio: Annotated[Path | None, typer.Option(help="Sound; by default the example's.", rich_help_panel=_INPUT)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the report (JSON).", rich_help_panel=_OUTPUT)
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Earlier report to compare with.", rich_help_panel=_OUTPUT)
    ] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw a chart (PNG).", rich_help_panel=_OUTPUT)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_OUTPUT)] = False,
    scenario: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure how long a video takes."""
    files = _inputs(portrait, audio)
    if scenario is not None:
        _answer(scenario, *files, memory=memory)
        return
    from portraitanim.benchmarking.apart import run_all
    from portraitanim.benchmarking.report import load_report

    scenarios = _scenarios(
        {
            "presets": preset,
            "sizes_px": size,
            "frames": frames,
            "steps": steps,
            "dtypes": dtype,
            "devices": device,
            "speeds": speed,
            "variants": variant,
        },
        weights,
        assignments or [],
        repeats,
        table7,
    )
    if memory:
        others = {"--table7": table7, "--compare": compare, "--chart": chart, "--quality": quality, "--speed": speed}
        if any(others.values()):
            name = next(name for name, value in others.items() if value)
            raise InputError(f"--memory measures the networks' memory and nothing else: leave out {name}.")
        _check_writable(output)
        _check_memory(scenarios, output, as_json)
        return
    if quality:
        refused = {"--table7": table7, "--compare": compare, "--chart": chart}
        if any(refused.values()):
            name = next(name for name, value in refused.items() if value)
            raise InputError(f"--quality measures differences and no times: leave out {name}.")
        _check_writable(output)
        compare_quality(scenarios, files, output, as_json)
        return
    earlier = None if compare is None else load_report(compare)
    if chart is not None and chart.suffix.lower() != ".png":
        raise InputError(f"The chart is a PNG: got {chart}, expected a name that ends in .png.")
    _check_writable(output, chart)
    with console.progress().task("Measuring", len(scenarios)) as task:

        def run(one: Scenario) -> ScenarioResult:
            task.describe(one.label)
            result = _run_apart(one, *files)
            task.advance()
            return result

        report = run_all(scenarios, run)
    _show(report, earlier, output, chart, as_json, table7)
    if report.failures:
        raise typer.Exit(6 if report.results else report.failures[0].exit_code)


def _scenarios(
    axes: dict[str, Any], weights: str, assignments: list[str], repeats: int, table7: bool
) -> list[Scenario]:
    from portraitanim.benchmarking import scenarios

    if table7:
        if len(axes["presets"] or []) > 1 or weights not in (scenarios.AUTO_WEIGHTS, scenarios.RANDOM_WEIGHTS):
            raise InputError("--table7 measures one preset with random weights: leave out the others, and --weights.")
        if axes["speeds"] or axes["variants"]:
            raise InputError("--table7 varies size and attention only: leave out --speed and --variant.")
        several = [name for name in ("frames", "steps", "dtypes", "devices") if len(axes[name] or []) > 1]
        if several or assignments:
            raise InputError(f"--table7 varies size and attention only: give {(several or ['--set'])[0]} at most once.")
        return scenarios.table7(
            axes["sizes_px"] or scenarios.TABLE7_SIZES_PX,
            preset=(axes["presets"] or ["hallo"])[0],
            num_frames=(axes["frames"] or [16])[0],
            num_steps=(axes["steps"] or [None])[0],
            dtype=(axes["dtypes"] or ["auto"])[0],
            device=(axes["devices"] or ["auto"])[0],
            num_repeats=repeats,
        )
    is_named = weights not in (scenarios.AUTO_WEIGHTS, scenarios.RANDOM_WEIGHTS)
    return scenarios.expand(
        axes["presets"] or [None if is_named else "tiny"],
        axes["sizes_px"] or [None],
        axes["frames"] or [50],
        axes["steps"] or [None],
        axes["dtypes"] or ["auto"],
        axes["devices"] or ["auto"],
        axes["speeds"] or ["exact"],
        axes["variants"] or [""],
        weights=weights,
        assignments=assignments,
        num_repeats=repeats,
    )


def _inputs(portrait: Path | None, audio: Path | None) -> tuple[Path, Path]:
    """What was given, or the examples of a clone."""
    import portraitanim
    from portraitanim.media.files import existing_file

    examples = Path(portraitanim.__file__).resolve().parents[1] / "examples"
    found = []
    for given, name, kind in ((portrait, "portrait.jpg", "picture"), (audio, "speech.wav", "sound")):
        if given is None and not (examples / name).is_file():
            raise InputError("This installation has no examples to measure with: give --portrait and --audio.")
        found.append(existing_file(given or examples / name, kind).resolve())
    return found[0], found[1]


def _run_apart(scenario: Scenario, portrait: Path, audio: Path) -> ScenarioResult:
    from portraitanim.benchmarking.apart import encode_scenario, run_apart

    words = [sys.executable, "-m", "portraitanim", *(["--quiet"] if console.quiet else []), "bench"]
    words += ["--portrait", str(portrait), "--audio", str(audio)]
    result: ScenarioResult = run_apart([*words, "--scenario", encode_scenario(scenario)])
    return result


def _check_memory(scenarios: list[Scenario], output: Path | None, as_json: bool) -> None:
    """Predicted against measured memory, each scenario in a process of its own."""
    from portraitanim.benchmarking.apart import encode_scenario, run_apart
    from portraitanim.benchmarking.memory_result import MemoryCheck

    checks: list[MemoryCheck] = []
    with console.progress().task("Measuring memory", len(scenarios)) as task:
        for scenario in scenarios:
            task.describe(scenario.label)
            words = [sys.executable, "-m", "portraitanim", "bench", "--memory", "--scenario", encode_scenario(scenario)]
            checks.append(run_apart(words, MemoryCheck.from_dict))
            task.advance()
    values = [check.to_dict() for check in checks]
    write_report(values, output)
    console.json(values) if as_json else show_memory_checks(checks)
    if not all(check.is_close for check in checks):
        console.error("A prediction is more than 10 % away from what was measured.")
        raise typer.Exit(1)


def _answer(scenario: str, portrait: Path, audio: Path, *, memory: bool = False) -> None:
    """In the process of one scenario: measure, and print one line of JSON."""
    from portraitanim.benchmarking.apart import answer, decode_scenario

    decoded = decode_scenario(scenario)
    if memory:
        from portraitanim.benchmarking.memory_check import check_memory

        result = answer(lambda: check_memory(decoded))
    else:
        from portraitanim.benchmarking.runner import run_scenario

        result = answer(lambda: run_scenario(decoded, open_scenario, portrait, audio))
    sys.stdout.write(json.dumps(result) + "\n")


def _show(
    report: BenchmarkReport,
    earlier: BenchmarkReport | None,
    output: Path | None,
    chart: Path | None,
    as_json: bool,
    table7: bool,
) -> None:
    from dataclasses import replace

    from portraitanim.benchmarking.report import compare, differing_machines

    for failure in report.failures:
        console.error(f"{failure.label}: {failure.message}")
    nothing_to_compare: InputError | None = None
    if earlier is not None and report.results:
        try:
            report = replace(report, comparisons=compare(earlier, report.results))
        except InputError as error:
            nothing_to_compare = error
        for difference in differing_machines(earlier, report.results):
            console.note(f"warning: The machine is not the same. {difference}.")
    # Shown before anything else can go wrong: what took so long to measure must not be lost.
    if as_json:
        console.json(report.to_dict())
    elif report.results:
        show_table7(report.results) if table7 else show_results(report.results)
        show_stages(report.results)
        show_comparisons(report.comparisons)
        show_machines(report.results)
    write_report(report.to_dict(), output)
    if chart is not None and report.results:
        from portraitanim.benchmarking.chart import draw_chart

        console.note(f"Chart: {draw_chart(report, chart)}")
    if nothing_to_compare is not None:
        raise nothing_to_compare


def _check_writable(*paths: Path | None) -> None:
    """Make the folders of what will be written, before minutes are spent on measuring."""
    from portraitanim.media.files import prepare_output

    for path in paths:
        if path is not None:
            prepare_output(path)
