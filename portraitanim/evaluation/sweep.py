"""Run a sweep: every row animates the same clips and is measured by the same protocol; then table and plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from portraitanim.config.sweep import SweepConfig
from portraitanim.errors import InputError
from portraitanim.evaluation.catalogue import METRICS
from portraitanim.evaluation.held_out import HeldOut
from portraitanim.evaluation.protocol import EvaluationProtocol
from portraitanim.evaluation.reanimation import reanimate
from portraitanim.evaluation.report import EvaluationReport
from portraitanim.evaluation.runner import evaluate
from portraitanim.evaluation.tables import build_table, render
from portraitanim.media.files import whole_file
from portraitanim.pipelines.animator import Animator
from portraitanim.progress import ProgressReporter, SilentProgress

TABLE_FILE = "table.md"
_VIDEOS, _RESULT = "videos", "result"


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep gave.

    Attributes:
        reports: one per row that was run.
        left_out: row → why it was not.
        table: path of the table.
        plots: paths of the plots.
    """

    reports: tuple[EvaluationReport, ...]
    left_out: Mapping[str, str]
    table: Path
    plots: tuple[Path, ...]


def run_sweep(
    config: SweepConfig,
    held_out: HeldOut,
    output: Path,
    *,
    open_animator: Callable[[str | None, bool], Animator],
    protocol: EvaluationProtocol,
    run_weights: Mapping[str, str] | None = None,
    weights: Mapping[str, Path] | None = None,
    device: str = "auto",
    num_workers: int = 1,
    progress: ProgressReporter | None = None,
) -> SweepResult:
    """Animate and measure every row; rows that are finished in ``output`` are not made again.

    Args:
        config: the rows.
        held_out: what every row animates.
        output: folder of the sweep.
        open_animator: called with the name or folder of a row's weights (``None``: those of the command) and whether
            landmarks drive.
        protocol: how it is measured; the sweep's metrics replace its own. Without a size, the clips are compared at
            the size that is generated.
        run_weights: row → weights, for rows that need their own.
        weights: of the networks that measure, see `portraitanim.evaluation.runner.evaluate`.
        device: where those run.
        num_workers: processes that measure.
        progress: told rows and clips.

    Raises:
        InputError: weights for a row that does not exist, not one row can be run, or a folder with other settings.
    """
    own = dict(run_weights or {})
    rows = config.rows()
    strangers = sorted(set(own) - {run.name for run in rows})
    if strangers:
        raise InputError(f"The sweep has no row {strangers[0]!r}. It has {', '.join(run.name for run in rows)}.")
    left_out = {run.name: f"needs {run.needs_weights}" for run in rows if run.needs_weights and run.name not in own}
    ready = [run for run in rows if run.name not in left_out]
    if not ready:
        raise InputError(
            f"No row of {config.title!r} can be run: {'; '.join(f'{n} {w}' for n, w in left_out.items())}."
        )
    if config.metrics:
        protocol = replace(protocol, metrics=config.metrics)
    reporter = progress or SilentProgress()
    reports = []
    opened: dict[tuple[str | None, bool], Animator] = {}
    with reporter.task(f"Sweep {config.title}", len(ready)) as task:
        for run in ready:
            key = (own.get(run.name), "landmarks" in run.drive)
            if key not in opened:
                opened.clear()  # one set of weights in memory at a time
                opened[key] = open_animator(*key)
            animator = opened[key]
            folder = output / run.folder_name
            pairs, notes = reanimate(
                animator, held_out.clips, folder / _VIDEOS, config.options_of(run), drive=run.drive, progress=reporter
            )
            size = protocol.size_px or config.options_of(run).size_px or animator.preset.sampling.size_px
            reports.append(
                evaluate(
                    pairs,
                    replace(protocol, size_px=size),
                    folder / _RESULT,
                    title=run.name,
                    weights=weights,
                    device=device,
                    num_workers=num_workers,
                    resume=(folder / _RESULT).is_dir(),
                    notes=[*held_out.notes, *notes],
                    clip_list=held_out.clip_list,
                    progress=reporter,
                )
            )
            task.advance()
    table = _write_table(config, reports, left_out, output)
    return SweepResult(reports=tuple(reports), left_out=left_out, table=table, plots=_plots(config, reports, output))


def _write_table(
    config: SweepConfig, reports: Sequence[EvaluationReport], left_out: Mapping[str, str], output: Path
) -> Path:
    parts = [f"# {config.title}", config.about, render(build_table(reports), "markdown")]
    parts += [f"- {name} was not run: {reason}" for name, reason in left_out.items()]
    with whole_file(output / TABLE_FILE) as partial:
        partial.write_text("\n\n".join(part for part in parts if part).rstrip() + "\n", encoding="utf-8")
    return output / TABLE_FILE


def _plots(config: SweepConfig, reports: Sequence[EvaluationReport], output: Path) -> tuple[Path, ...]:
    """One picture per metric: over the grid's first option, one line per combination of the others."""
    names = [name for name in config.plot if any(name in report.metrics for report in reports)]
    if not config.grid or not names:
        return ()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = {run.name: run.options for run in config.rows()}
    first, *others = config.grid
    paths = []
    for name in names:
        lines: dict[str, list[tuple[float, float]]] = {}
        for report in reports:
            options, found = rows[report.title], report.metrics.get(name)
            if found is None or found.value is None or not all(key in options for key in config.grid):
                continue
            label = ", ".join(f"{key} {options[key]}" for key in others)
            lines.setdefault(label, []).append((float(options[first]), found.value))
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for label, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=label or None)
        axes.set_xlabel(first)
        axes.set_ylabel(f"{METRICS[name].label} {METRICS[name].arrow}")
        if others:
            axes.legend(fontsize="small")
        with whole_file(output / f"{name}.png") as partial:
            FigureCanvasAgg(figure).print_png(str(partial))
        paths.append(output / f"{name}.png")
    return tuple(paths)
