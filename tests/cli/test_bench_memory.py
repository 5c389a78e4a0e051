"""``bench --memory`` and ``animate --max-vram`` as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portraitanim.benchmarking import apart
from portraitanim.benchmarking.memory_result import MemoryCheck
from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.cli.app import run
from tests.examples import PORTRAIT, SPEECH
from tests.small_weights import small_weights

Cli = Callable[..., tuple[int, str, str]]

MIDDLE = Path(__file__).resolve().parents[2] / "examples" / "presets" / "middle.yaml"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            run([*map(str, words)])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


@pytest.mark.parametrize(("measured", "code"), [(950_000_000, 0), (800_000_000, 1)])
def test_prediction_that_is_off_is_a_failure(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, measured: int, code: int
) -> None:
    def made_up(command: list[str], read: Callable[[dict[str, Any]], MemoryCheck]) -> MemoryCheck:
        assert "--memory" in command
        sizes = {"predicted_bytes": 10**9, "measured_bytes": measured, "parameter_bytes": 4 * 10**8}
        check = MemoryCheck(scenario=Scenario(size_px=64), **sizes)
        return read(json.loads(json.dumps(check.to_dict())))

    monkeypatch.setattr(apart, "run_apart", made_up)
    got, out, err = cli("bench", "--memory", "--output", "memory.json")
    assert got == code, err
    assert ("1000 MB" in out, f"{measured // 10**6} MB" in out) == (True, True)
    assert json.loads(Path("memory.json").read_text())[0]["measured_bytes"] == measured


def test_memory_and_times_are_not_measured_together(cli: Cli) -> None:
    code, _, err = cli("bench", "--memory", "--table7")
    assert (code, "leave out --table7" in err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_prediction_is_within_ten_per_cent(cli: Cli, dtype: str) -> None:
    words = ["--preset", "tiny", "--preset", MIDDLE, "--size", 192, "--dtype", dtype, "--device", "cpu"]
    code, out, err = cli("bench", "--memory", *words)
    assert code == 0, out + err


def test_expected_memory_is_told_and_kept(cli: Cli, tmp_path: Path) -> None:
    small_weights(tmp_path / "weights")
    words = ["animate", PORTRAIT, SPEECH, "--weights", "weights", "--device", "cpu", "--no-cache", "--dtype", "fp32"]
    code, _, err = cli(*words, "--duration", 0.1, "--output", "a.mp4", "--max-vram", "64G")
    assert code == 0, err
    assert "of memory expected" in err
    code, _, err = cli(*words, "--output", "b.mp4", "--max-vram", "90M")
    assert code == 5
    assert "90 MB are not enough" in err
    assert "the least is" in err
    assert not Path("b.mp4").exists()
