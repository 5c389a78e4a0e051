"""A chart of a report as a PNG: where each scenario's time goes, per frame."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from portraitanim.benchmarking.report import STAGES, BenchmarkReport, ScenarioResult
from portraitanim.errors import InputError
from portraitanim.media.files import whole_file

# Okabe and Ito's colours, which people with any colour vision can tell apart, and greys.
_COLOURS = {
    "audio": "#56B4E9",
    "face": "#F0E442",
    "reference": "#E69F00",
    "conditioning": "#CC79A7",
    "denoising": "#0072B2",
    "decoding": "#D55E00",
    "drift_guard": "#999999",
    "encoding": "#009E73",
    "keeping": "#555555",
    "other": "#DDDDDD",
}
_WIDTH_PX, _BAR_PX, _ROW_PX, _EDGE_PX, _TEXT_PX = 1200, 26, 66, 24, 16
_INK, _PAPER = "#222222", "#FFFFFF"


def draw_chart(report: BenchmarkReport, path: str | Path) -> Path:
    """Draw one bar per scenario: milliseconds per frame, split into stages, with the spread of the total.

    Args:
        report: with at least one result.
        path: the PNG.

    Raises:
        InputError: there is no result, or the name does not end in ``.png``.
        MediaError: it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"The chart is a PNG: got {path}, expected a name that ends in .png.")
    if not report.results:
        raise InputError("There is no result to draw.")
    legend_rows = -(-len(_COLOURS) // 5)
    height = 2 * _EDGE_PX + 46 + legend_rows * 26 + len(report.results) * _ROW_PX
    image = Image.new("RGB", (_WIDTH_PX, height), _PAPER)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(_TEXT_PX)
    pen.text((_EDGE_PX, _EDGE_PX), "Milliseconds per frame, everything included", fill=_INK, font=font)
    top = _legend(pen, font, _EDGE_PX + 36)
    longest = max(result.seconds_per_frame.high for result in report.results)
    for result in report.results:
        _bar(pen, font, top, result, longest)
        top += _ROW_PX
    with whole_file(path) as partial:
        image.save(partial)
    return path


def _legend(pen: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, top: int) -> int:
    for number, (stage, colour) in enumerate(_COLOURS.items()):
        row, column = divmod(number, 5)
        left, upper = _EDGE_PX + column * 225, top + row * 26
        pen.rectangle((left, upper, left + 16, upper + 16), fill=colour)
        pen.text((left + 24, upper - 1), stage.replace("_", " "), fill=_INK, font=font)
    return top + -(-len(_COLOURS) // 5) * 26 + 10


def _bar(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    top: int,
    result: ScenarioResult,
    longest: float,
) -> None:
    scale = (_WIDTH_PX - 2 * _EDGE_PX) / longest
    total = result.seconds_per_frame
    text = (
        f"{result.scenario.label}, weights {result.weights}: {1000 * total.median:.1f} ms "
        f"({1000 * total.low:.1f} to {1000 * total.high:.1f}), {result.frames_per_second.median:.2f} frames per second"
    )
    pen.text((_EDGE_PX, top), text, fill=_INK, font=font)
    # Stages that overlap on a GPU add up to more than the total: they are drawn to its length.
    shrink = 1 / max(1.0, result.covered_share)
    left, upper = float(_EDGE_PX), top + 24
    shares = [(stage, result.stage_shares.get(stage, 0.0) * shrink) for stage in STAGES]
    for stage, share in [*shares, ("other", max(0.0, 1 - result.covered_share))]:
        right = left + share * total.median * scale
        if right - left >= 1:
            pen.rectangle((left, upper, right, upper + _BAR_PX), fill=_COLOURS[stage])
        left = right
    middle = upper + _BAR_PX / 2
    ends = [_EDGE_PX + value * scale for value in (total.low, total.high)]
    pen.line((ends[0], middle, ends[1], middle), fill=_INK, width=2)
    for end in ends:
        pen.line((end, middle - 5, end, middle + 5), fill=_INK, width=2)
