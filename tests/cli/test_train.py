"""``portraitanim train`` from the outside: what it runs, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from portraitanim.checkpoints.bundled import bundled_folder
from portraitanim.cli.app import run
from portraitanim.cli.train import _with_folders
from portraitanim.config.recipes import load_recipe, recipe_names
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
        (["--set", 'data.root=""'], "Give --data DATASET"),
        (["--set", "start=nowhere"], "No weights and no folder are called 'nowhere'"),
    ],
)
def test_mistakes_are_named(
    changed: list[str], message: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(recipe), "--stage", "2", "-o", str(tmp_path / "run"), *changed]
    assert _exit_code(*arguments) == 2
    assert message in capsys.readouterr().err


def test_fine_tuning_begins_with_the_weights_of_the_recipe_or_not_at_all(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    recipe.write_text(yaml.safe_dump({**values, "stages": {"finetune": values["stages"]["2"]}}), encoding="utf-8")
    assert _exit_code(str(recipe), "--stage", "finetune", "-o", str(tmp_path / "run")) == 2
    assert "--set start=WEIGHTS" in capsys.readouterr().err
    assert load_recipe("tiny", "finetune").start == "tiny"


@pytest.mark.parametrize("name", recipe_names())
def test_fine_tuning_validates(name: str) -> None:
    config = load_recipe(name, "finetune")
    assert 0 < config.validation.every_steps < config.engine.num_steps


def test_names_of_weights_become_their_folders() -> None:
    config, encoder = _with_folders(load_recipe("tiny", "2", {"start": "tiny", "autoencoder": "tiny"}))
    assert config.start == config.autoencoder == str(bundled_folder())
    assert encoder is None  # log-mel has no weights


def test_the_installed_audio_encoder_encodes_changed_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portraitanim.checkpoints.store.installed", lambda name: tmp_path / name)
    config, encoder = _with_folders(load_recipe("echomimic", "2"))
    assert encoder == tmp_path / "whisper-tiny"
    assert config.objective.lpips_weights == str(tmp_path / "lpips-vgg")


def test_unknown_recipe_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("halo", "--stage", "1", "-o", str(tmp_path)) == 2
    assert "Did you mean hallo?" in capsys.readouterr().err
