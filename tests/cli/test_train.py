"""``portraitanim train`` from the outside: what it runs, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from portraitanim.cli.app import run
from portraitanim.config.schema import to_dict
from tests.unit.training.recipes import small_dataset, small_recipe


def _exit_code(*arguments: str) -> int:
    try:
        run(["train", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    values = to_dict(small_recipe("tiny", tmp_path / "nowhere"))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"preset": "tiny", "stages": {"2": values}}), encoding="utf-8")
    return path


def test_trains_and_prints_json(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = small_dataset(tmp_path / "data", "tiny")
    arguments = [str(recipe), "--stage", "2", "--data", str(data), "-o", str(tmp_path / "run"), "--device", "cpu"]
    assert _exit_code(*arguments, "--set", "engine.num_steps=1", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["num_steps"] == 1
    assert (Path(result["weights"]) / "model_index.json").is_file()
    assert _exit_code(*arguments) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--set", "engine.num_stepz=1"], "Did you mean engine.num_steps?"),
        (["--device", "gpu"], "--device is auto or cpu"),
        (["--stage", "1"], "Its stages: 2."),
    ],
)
def test_mistakes_are_named(
    changed: list[str], message: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(recipe), "--stage", "2", "-o", str(tmp_path / "run"), *changed]
    assert _exit_code(*arguments) == 2
    assert message in capsys.readouterr().err


def test_unknown_recipe_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("halo", "--stage", "1", "-o", str(tmp_path)) == 2
    assert "Did you mean hallo?" in capsys.readouterr().err
