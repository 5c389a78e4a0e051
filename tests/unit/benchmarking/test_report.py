"""Numbers that follow from numbers, the JSON file, comparison and chart."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from portraitanim.benchmarking.apart import ScenarioError, answer, run_all, run_apart
from portraitanim.benchmarking.chart import draw_chart
from portraitanim.benchmarking.report import BenchmarkReport, ScenarioResult, compare, differing_machines, load_report
from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.errors import FaceError, InputError
from portraitanim.media.image import load_image
from tests.unit.benchmarking.results import made_up_result


def saved(report: BenchmarkReport, path: Path) -> Path:
    path.write_text(json.dumps(report.to_dict()), encoding="utf-8")
    return path


def test_derived_numbers() -> None:
    result = made_up_result()
    assert result.seconds_per_frame.median == pytest.approx(0.105)
    assert result.frames_per_second.median == pytest.approx(20 / 2.1)
    assert result.compute_seconds_per_video_second.median == pytest.approx(1.05)
    assert result.stage_shares == pytest.approx({"denoising": 0.5, "decoding": 0.25})
    assert result.covered_share == pytest.approx(0.75)
    assert result.flops_per_frame == pytest.approx(6.3e9 / 20)
    assert result.denoiser_utilisation == pytest.approx(0.5)  # 4.2 GFLOP in 1.05 s, of 8 GFLOP/s
    assert result.utilisation == pytest.approx(6.3e9 / 2.1 / 8e9)


def test_report_survives_json(tmp_path: Path) -> None:
    report = BenchmarkReport(results=(made_up_result(notes=("a note",)),), created="2026-01-01")
    assert load_report(saved(report, tmp_path / "report.json")) == report


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "no report of bench"),
        ('{"schema_version": 1, "results": [{}]}', "damaged"),
    ],
)
def test_file_that_is_no_report_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_report(path)


def test_only_what_changed_is_called_different() -> None:
    old = BenchmarkReport(results=(made_up_result(),))
    verdicts = {c.quantity: c.verdict for c in compare(old, [made_up_result((1.0, 1.05, 1.1))])}
    assert verdicts["seconds per frame"] == "x0.500"
    assert verdicts["denoising seconds"] == "x0.500"
    assert verdicts["seconds to the first frame"] == "no difference seen"
    assert "peak device bytes" not in verdicts


def test_other_scenarios_are_not_compared() -> None:
    other = replace(made_up_result().scenario, size_px=128)
    with pytest.raises(InputError, match="No scenario is in both reports"):
        compare(BenchmarkReport(results=(made_up_result(scenario=other),)), [made_up_result()])


def test_change_of_machine_is_told() -> None:
    now = made_up_result()
    before = made_up_result(machine={**now.machine, "num_threads": 8})
    assert differing_machines(BenchmarkReport(results=(before,)), [now]) == ["num_threads: 8 before, 1 now"]


def test_bars_of_the_chart_are_as_long_as_the_stages(tmp_path: Path) -> None:
    path = draw_chart(BenchmarkReport(results=(made_up_result((2.0, 2.0, 2.0)),)), tmp_path / "chart.png")
    picture = load_image(path).astype(int)
    row = picture[:, -24 - 66 + 24 + 5]  # five pixels into the bar of the last row
    lengths = {
        name: int((np.abs(row - np.array(colour)[:, None]).sum(0) == 0).sum())
        for name, colour in {"denoising": (0, 0x72, 0xB2), "decoding": (0xD5, 0x5E, 0), "other": (0xDD,) * 3}.items()
    }
    assert lengths["denoising"] == pytest.approx((1200 - 48) / 2, abs=2)
    assert lengths["decoding"] == pytest.approx((1200 - 48) / 4, abs=2)
    assert lengths["other"] == pytest.approx((1200 - 48) / 4, abs=2)


def test_chart_needs_a_result_and_a_png(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no result"):
        draw_chart(BenchmarkReport(results=()), tmp_path / "chart.png")
    with pytest.raises(InputError, match=r"ends in \.png"):
        draw_chart(BenchmarkReport(results=(made_up_result(),)), tmp_path / "chart.jpg")


def test_failed_scenario_does_not_stop_the_others() -> None:
    def run(scenario: Scenario) -> ScenarioResult:
        if scenario.size_px == 64:
            raise FaceError("no face")
        return made_up_result(scenario=scenario)

    report = run_all([Scenario(size_px=64), Scenario(size_px=128)], run)
    assert [result.scenario.size_px for result in report.results] == [128]
    assert [(failure.message, failure.exit_code) for failure in report.failures] == [("no face", 3)]


def test_result_of_another_process_is_read() -> None:
    printed = json.dumps(answer(made_up_result))
    assert run_apart([sys.executable, "-c", f"print('noise'); print({printed!r})"]) == made_up_result()


def test_only_want_of_memory_is_told_as_such() -> None:
    def fails_with(text: str) -> ScenarioResult:
        raise RuntimeError(text)

    assert answer(lambda: fails_with("CUDA out of memory"))["exit_code"] == 5
    with pytest.raises(RuntimeError, match="memory format"):
        answer(lambda: fails_with("unsupported memory format"))


def fails() -> ScenarioResult:
    raise FaceError("no face")


@pytest.mark.parametrize(
    ("program", "message", "exit_code"),
    [
        (f"print({json.dumps(answer(fails))!r})", "no face", 3),
        ("import os; os.kill(os.getpid(), 9)", "lack of memory", 5),
        ("raise SystemExit(7)", "code 7 and no result", 1),
    ],
    ids=["its own error", "killed", "no answer"],
)
def test_failure_of_another_process_is_told(program: str, message: str, exit_code: int) -> None:
    with pytest.raises(ScenarioError, match=message) as caught:
        run_apart([sys.executable, "-S", "-c", program])
    assert caught.value.exit_code == exit_code
