"""How ``portraitanim bench`` shows its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from portraitanim.cli.console import console

if TYPE_CHECKING:
    from portraitanim.benchmarking.measures import Comparison, Measure
    from portraitanim.benchmarking.memory_result import MemoryCheck
    from portraitanim.benchmarking.quality import QualityReport
    from portraitanim.benchmarking.report import ScenarioResult


def show_results(results: Sequence[ScenarioResult]) -> None:
    """One row per scenario: medians, with the spread of the main number."""
    columns = (
        "scenario",
        "weights",
        "s per frame",
        "frames/s",
        "steady",
        "s per s of video",
        "first frame",
        "memory",
        "GPU",
        "TFLOP/frame",
        "of peak",
    )
    console.table(columns, [_row(result) for result in results])


def _row(result: ScenarioResult) -> tuple[str, ...]:
    about = "" if result.flops_are_exact else "about "
    return (
        result.scenario.label,
        result.weights,
        _spread(result.seconds_per_frame),
        _number(result.frames_per_second.median),
        "" if result.steady_fps is None else _number(result.steady_fps.median),
        _number(result.compute_seconds_per_video_second.median),
        f"{_number(result.first_frame_seconds.median)} s",
        _gigabytes(result.peak_host_bytes),
        _gigabytes(result.peak_device_bytes),
        f"{about}{_number(result.flops_per_frame / 1e12)}",
        f"{_percent(result.utilisation)} (denoising {_percent(result.denoiser_utilisation)})",
    )


def show_stages(results: Sequence[ScenarioResult]) -> None:
    """Share of each stage in the total."""
    from portraitanim.benchmarking.report import STAGES

    names = [stage for stage in STAGES if any(stage in result.stage_seconds for result in results)]
    rows = []
    for result in results:
        shares = result.stage_shares
        cells = [_percent(shares.get(stage)) for stage in names]
        rows.append((result.scenario.label, *cells, _percent(result.covered_share)))
    console.result("")
    console.table(("share of the total", *(name.replace("_", " ") for name in names), "sum"), rows)


def show_table7(results: Sequence[ScenarioResult]) -> None:
    """The layout of table 7 of the Hallo paper: rows with and without the attention, a pair of columns per size."""
    sizes = sorted({result.scenario.size_px or 0 for result in results})
    columns = ["regional audio attention"]
    for size in sizes:
        columns += [f"{size}x{size} memory", "s per frame"]
    rows = []
    for regional in (False, True):
        row = ["with" if regional else "without"]
        for size in sizes:
            found = [r for r in results if (r.scenario.size_px, r.scenario.regional_audio) == (size, regional)]
            if not found:
                row += ["failed", ""]
                continue
            row += [_gigabytes(found[0].peak_device_bytes or found[0].peak_host_bytes)]
            row += [_spread(found[0].seconds_per_frame)]
        rows.append(tuple(row))
    console.table(columns, rows)


def show_memory_checks(checks: Sequence[MemoryCheck]) -> None:
    """Predicted against measured memory."""
    rows = [
        (
            check.scenario.label,
            f"{check.parameter_bytes / 1e6:.0f} MB",
            f"{check.predicted_bytes / 1e6:.0f} MB",
            f"{check.measured_bytes / 1e6:.0f} MB",
            f"{check.ratio:.3f}" + ("" if check.is_close else " (off)"),
        )
        for check in checks
    ]
    console.table(("scenario", "parameters", "predicted", "measured", "predicted / measured"), rows)


def show_comparisons(comparisons: Sequence[Comparison]) -> None:
    """New by old: a ratio, or that none can be seen."""
    if not comparisons:
        return
    rows = [(c.scenario, c.quantity, _spread(c.old), _spread(c.new), c.verdict) for c in comparisons]
    console.result("")
    console.table(("scenario", "quantity", "before", "now", "now / before"), rows)


def show_quality(report: QualityReport) -> None:
    """How much each video differs from the first of its kind."""
    columns = ("scenario", "PSNR", "SSIM", "LPIPS", "lips, face widths", "faces", "latents, first to last clip")
    rows = []
    for item in report.differences:
        drift = [f"{100 * share:.2g} %" for share in (item.latent_drift[:1] + item.latent_drift[-1:])]
        rows.append(
            (
                item.label,
                f"{item.psnr_db:.1f} dB",
                f"{item.ssim:.4f}",
                "" if item.lpips is None else f"{item.lpips:.4f}",
                "" if item.lip_distance is None else f"{item.lip_distance:.4f}",
                f"{item.num_faces} of {item.num_frames}",
                " to ".join(drift),
            )
        )
    console.table(columns, rows)
    for line in dict.fromkeys(f"Compared with: {item.baseline}." for item in report.differences):
        console.note(line)
    for line in dict.fromkeys(note for item in report.differences for note in item.notes):
        console.note(line)


def show_machines(results: Sequence[ScenarioResult]) -> None:
    """What the numbers were measured on, and what to know about them."""
    lines = [
        f"{m['device']}, {m['num_threads']} threads on {m['num_cores']} cores, torch {m['torch']}, "
        f"Python {m['python']}, {m['platform']}, load average {m['load_average']}, "
        f"matrix peak {result.peak_flops_per_second / 1e12:.3g} TFLOP/s"
        for result in results
        for m in [result.machine]
    ]
    notes = [note for result in results for note in result.notes]
    for line in dict.fromkeys([*lines, *notes]):
        console.note(line)


def _spread(measure: Measure) -> str:
    return f"{_number(measure.median)} ({_number(measure.low)} to {_number(measure.high)})"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1e6 else f"{value:.3e}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _gigabytes(measure: Measure | None) -> str:
    return "" if measure is None else f"{measure.median / 1e9:.2f} GB"
