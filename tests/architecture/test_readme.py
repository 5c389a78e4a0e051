"""What the README tells people to type is what CI types, and its numbers are those of the results in ``examples/``."""

from __future__ import annotations

import json
import os
import re
import runpy
from pathlib import Path

import pytest

from portraitanim.benchmarking.memory_result import MemoryCheck
from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.config.sweep import load_sweep
from portraitanim.errors import InputError
from portraitanim.evaluation.protocol import EvaluationProtocol, Fingerprint
from portraitanim.evaluation.report import EvaluationReport, MetricValue

_ROOT = Path(__file__).resolve().parents[2]


def _commands(section: str) -> list[str]:
    text = (_ROOT / "README.md").read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def test_ci_runs_the_commands_of_the_readme_in_their_order() -> None:
    script = [re.sub(r"\s+-q\b", "", line) for line in (_ROOT / ".ci" / "run").read_text().splitlines()]
    make_environment, *others = _commands("Set up") + _commands("Tests")
    assert make_environment.startswith("python3.11 -m venv")  # CI puts its environment elsewhere
    assert [line for line in script if line in others] == others


def test_ci_can_be_run() -> None:
    assert os.access(_ROOT / ".ci" / "run", os.X_OK)


# --- tables of results ------------------------------------------------------------------------------------------

_TABLES = runpy.run_path(str(_ROOT / "examples" / "readme_tables.py"))


def _report(title: str, ssim: float) -> EvaluationReport:
    fingerprint = Fingerprint(
        protocol=EvaluationProtocol(metrics=("ssim",)), clips="c", num_clips=2, num_frames=50, weights={}, versions={}
    )
    metrics = {"ssim": MetricValue(value=ssim, num_clips=2)}
    return EvaluationReport(
        title=title, fingerprint=fingerprint, metrics=metrics, notes=("Animated by the weights x.",)
    )


def test_tables_of_the_readme_are_those_of_the_committed_results() -> None:
    text = (_ROOT / "README.md").read_text(encoding="utf-8")
    assert _TABLES["with_tables"](text, _ROOT / "examples") == text


def test_results_replace_the_table_at_their_place_and_nothing_else(tmp_path: Path) -> None:
    empty = "before\n<!-- results: tiny_sweep -->\n<!-- end of results -->\nafter\n"
    assert _TABLES["with_tables"](empty, tmp_path) == empty
    reports = [_report("sound, lip 0", 0.5), _report("sound, lip 1", 0.75)]
    (tmp_path / "tiny_sweep.json").write_text(json.dumps([report.to_dict() for report in reports]))
    filled = _TABLES["with_tables"](empty, tmp_path)
    assert f"### {load_sweep('tiny').title}" in filled
    assert "| sound, lip 0 | 0.500 |\n| sound, lip 1 | **0.750** |" in filled
    assert filled.count("- Animated by the weights x.") == 1
    assert (filled[:7], filled[-7:]) == ("before\n", "\nafter\n")
    assert _TABLES["with_tables"](filled, tmp_path) == filled
    with pytest.raises(InputError, match="no place for a table"):
        _TABLES["with_tables"]("text", tmp_path)
    with pytest.raises(InputError, match="no tables of 'dance'"):
        _TABLES["with_tables"]("<!-- results: tiny_dance -->\n<!-- end of results -->", tmp_path)


def test_memory_checks_become_a_table(tmp_path: Path) -> None:
    sizes = {"predicted_bytes": 95_000_000, "measured_bytes": 100_000_000, "parameter_bytes": 60_000_000}
    check = MemoryCheck(scenario=Scenario(size_px=64, dtype="fp32"), **sizes)
    (tmp_path / "some_memory.json").write_text(json.dumps([check.to_dict()]))
    filled = _TABLES["with_tables"]("<!-- results: some_memory -->\n<!-- end of results -->", tmp_path)
    assert "| tiny, 64 px, fp32 | 60 MB | 95 MB | 100 MB | 0.95 |" in filled
