"""``portraitanim bench`` as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from portraitanim.benchmarking.measures import Measure
from portraitanim.benchmarking.report import ScenarioResult
from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.cli import bench
from portraitanim.cli.app import run
from portraitanim.errors import FaceError
from portraitanim.media.image import load_image
from tests.examples import ROOT
from tests.small_weights import SIZE_PX, small_weights
from tests.unit.benchmarking.results import made_up_result

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs ``bench`` in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            run(["bench", *map(str, words)])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Scenario]:
    """Takes the place of the measuring processes: made-up numbers, and a list of what was asked for."""
    asked: list[Scenario] = []

    def run_apart(scenario: Scenario, portrait: Path, audio: Path) -> ScenarioResult:
        asked.append(scenario)
        assert portrait.is_file()
        assert audio.is_file()
        if scenario.size_px == 72:
            raise FaceError("no face in the picture")
        size = scenario.size_px or 64
        seconds = tuple(size / 64 * value for value in (2.0, 2.1, 2.2))
        resolved = replace(scenario, size_px=size, num_steps=4, dtype="fp32", device="cpu")
        return made_up_result(seconds, scenario=resolved, peak_host_bytes=Measure((size * 1e7,) * 3))

    monkeypatch.setattr(bench, "_run_apart", run_apart)
    return asked


def test_small_network_is_measured_in_a_process_of_its_own(cli: Cli, tmp_path: Path) -> None:
    small_weights(tmp_path / "weights")
    preset = tmp_path / "weights" / "preset.yaml"
    words = ["--preset", preset, "--weights", "random", "--frames", 6, "--repeats", 2, "--device", "cpu"]
    code, out, err = cli(*words, "--dtype", "fp32", "--json", "--output", "report.json", "--chart", "chart.png")
    assert code == 0, err
    printed = json.loads(out)
    assert printed == json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    (result,) = printed["results"]
    assert (result["num_frames"], result["scenario"]["size_px"], result["weights"]) == (6, SIZE_PX, "random")
    assert len(result["total_seconds"]["values"]) == 2
    assert result["stage_flops"]["denoising"] > 1e6
    assert load_image(tmp_path / "chart.png").shape[2] == 1200


def test_options_that_are_given_several_times_are_combined(cli: Cli, measured: list[Scenario]) -> None:
    code, out, _ = cli("--size", 64, "--size", 128, "--dtype", "fp32", "--dtype", "bf16", "--set", "sampling.seed=1")
    assert code == 0
    assert [(scenario.size_px, scenario.dtype) for scenario in measured] == [
        (64, "fp32"),
        (64, "bf16"),
        (128, "fp32"),
        (128, "bf16"),
    ]
    assert "0.105 (0.1 to 0.11)" in out
    assert "0.21 (0.2 to 0.22)" in out


def test_slower_run_is_told_and_equal_memory_is_no_difference(cli: Cli, measured: list[Scenario]) -> None:
    assert cli("--output", "before.json")[0] == 0
    report = json.loads(Path("before.json").read_text(encoding="utf-8"))
    report["results"][0]["total_seconds"]["values"] = [1.0, 1.05, 1.1]
    Path("before.json").write_text(json.dumps(report), encoding="utf-8")
    code, out, _ = cli("--compare", "before.json")
    assert code == 0
    for quantity, verdict in (("seconds per frame", "x2.000"), ("peak host bytes", "no difference seen")):
        (row,) = [line for line in out.splitlines() if quantity in line]
        assert row.rstrip().endswith(verdict)


def test_report_without_the_same_scenario_costs_no_results(cli: Cli, measured: list[Scenario]) -> None:
    assert cli("--output", "before.json")[0] == 0
    code, out, err = cli("--size", 128, "--compare", "before.json", "--output", "now.json")
    assert code == 2
    assert "No scenario is in both reports" in err
    assert "0.21 (0.2 to 0.22)" in out
    assert Path("now.json").is_file()


@pytest.mark.parametrize("option", ["--output", "--chart"])
@pytest.mark.parametrize("mode", [[], ["--quality"], ["--memory"]])
def test_files_that_cannot_be_written_are_refused_before_anything_is_measured(
    cli: Cli, measured: list[Scenario], option: str, mode: list[str]
) -> None:
    Path("file").write_text("")
    code, _, err = cli(*mode, option, "file/result.png")
    assert code == 2
    assert "leave out --chart" in err if mode and option == "--chart" else "Cannot write" in err
    assert not measured


def test_table7_has_one_row_with_and_one_without_regional_attention(cli: Cli, measured: list[Scenario]) -> None:
    code, out, _ = cli("--table7", "--steps", 4)
    assert code == 0
    assert [scenario.size_px for scenario in measured] == [256, 256, 512, 512, 1024, 1024]
    lines = out.splitlines()
    assert all(name in lines[0] for name in ("256x256 memory", "512x512 memory", "1024x1024 memory"))
    assert lines[1].startswith("without")
    assert lines[2].startswith("with ")
    assert "10.24 GB" in lines[2]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--preset", "halo"], 2, "Did you mean hallo"),
        (["--size", "250"], 2, "multiple of 8"),
        (["--portrait", "none.jpg"], 2, "none.jpg does not exist"),
        (["--compare", "none.json"], 2, "none.json cannot be read"),
        (["--chart", "chart.jpg"], 2, "ends in .png"),
        (["--table7", "--weights", "hallo"], 2, "--table7 measures one preset"),
        (["--table7", "--steps", "4", "--steps", "6"], 2, "give steps at most once"),
        (["--size", "72"], 3, "no face in the picture"),
        (["--size", "72", "--size", "64"], 6, "no face in the picture"),
    ],
)
def test_exit_codes_and_messages(cli: Cli, measured: list[Scenario], words: list[str], code: int, message: str) -> None:
    got, _, err = cli(*words)
    assert got == code
    assert message in err


def test_speeds_and_variants_are_combined_and_named(cli: Cli, measured: list[Scenario]) -> None:
    code, out, _ = cli("--speed", "exact", "--speed", "fast", "--variant", "plain", "--variant", "channels-last")
    assert code == 0
    assert [(scenario.speed, scenario.variant) for scenario in measured] == [
        ("exact", "plain"),
        ("exact", "channels-last"),
        ("fast", "plain"),
        ("fast", "channels-last"),
    ]
    assert "fast channels-last" in out


@pytest.mark.parametrize("mode", [[], ["--dry"]])
def test_script_for_gpus_gives_commands_that_bench_understands(
    cli: Cli, measured: list[Scenario], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: list[str]
) -> None:
    recorder, record = tmp_path / "recorder", tmp_path / "record"
    recorder.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" --end >> {record}\n')
    recorder.chmod(0o755)
    script = ROOT / "examples" / "measure_gpu.sh"
    environment = {**os.environ, "PYTHON": str(recorder)}
    subprocess.run(["bash", script, tmp_path / "results", *mode], check=True, env=environment, capture_output=True)
    commands = [text.split() for text in record.read_text().split("--end")[:-1]]
    assert len(commands) >= 7
    compared: list[list[Scenario]] = []
    remembered: list[list[Scenario]] = []
    monkeypatch.setattr(bench, "compare_quality", lambda scenarios, *rest: compared.append(scenarios))
    monkeypatch.setattr(bench, "_check_memory", lambda scenarios, *rest: remembered.append(scenarios))
    for words in commands:
        assert words[:3] == ["-m", "portraitanim", "bench"]
        code, _, err = cli(*words[3:])
        assert code == 0, err
    assert {"", "window-batch=4"} < {scenario.variant for scenario in measured}
    assert [scenario.speed for scenario in compared[0]] == ["exact", "balanced", "fast"]
    assert remembered[0]


def test_quality_of_the_speeds_is_shown(cli: Cli, tmp_path: Path) -> None:
    small_weights(tmp_path / "weights", num_inference_steps=2)
    preset = tmp_path / "weights" / "preset.yaml"
    words = ["--preset", preset, "--weights", "random", "--frames", 4, "--device", "cpu", "--dtype", "fp32"]
    code, out, err = cli(*words, "--speed", "fast", "--quality", "--output", "quality.json")
    assert code == 0, err
    (difference,) = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))["differences"]
    assert difference["notes"] == ["--speed fast: 1 step instead of 2."]
    assert f"{difference['psnr_db']:.1f} dB" in out
    assert "lpips-alex" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variant", "turbo"], "Unknown variant 'turbo'"),
        (["--speed", "turbo"], "--speed must be one of"),
        (["--quality", "--table7"], "leave out --table7"),
        (["--table7", "--speed", "fast"], "leave out --speed and --variant"),
    ],
)
def test_speeds_and_variants_that_cannot_be_measured(
    cli: Cli, measured: list[Scenario], words: list[str], message: str
) -> None:
    code, _, err = cli(*words)
    assert code == 2
    assert message in err
