"""What DeepSpeed is told: the recipe's values reach it, and what contradicts them is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portraitanim.config.training import EngineConfig
from portraitanim.errors import ConfigError
from portraitanim.training import zero_settings
from portraitanim.training.zero_settings import zero_plugin

RECIPE = EngineConfig(batch_size=2, accumulation_steps=3, max_gradient_norm=0.5)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``accelerate launch --use_deepspeed`` with four processes says it, DeepSpeed being installed or not."""
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr(zero_settings, "is_deepspeed_available", lambda: True)


def _file(folder: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "ds.json"
    path.write_text(settings if isinstance(settings, str) else json.dumps(settings))
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(path))


def test_without_deepspeed_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    assert zero_plugin(RECIPE, "no", False) is None


def test_the_recipe_fills_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "1")
    plugin = zero_plugin(RECIPE, "no", False)
    assert plugin is not None
    settings = plugin.deepspeed_config
    assert settings["zero_optimization"]["stage"] == 1
    assert settings["train_micro_batch_size_per_gpu"] == 2
    assert settings["gradient_accumulation_steps"] == 3
    assert settings["train_batch_size"] == 24
    assert settings["gradient_clipping"] == 0.5
    assert "torch_autocast" not in settings


def test_bf16_rounds_as_autocast_does_and_keeps_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auto = {"train_batch_size": "auto", "gradient_clipping": "auto", "bf16": {"enabled": "auto"}}
    _file(tmp_path, {**auto, "zero_optimization": {"stage": 2, "overlap_comm": True}}, monkeypatch)
    plugin = zero_plugin(RECIPE, "bf16", False)
    assert plugin is not None
    assert plugin.deepspeed_config["torch_autocast"]["dtype"] == "bfloat16"
    assert not plugin.deepspeed_config.get("bf16", {}).get("enabled")
    assert plugin.deepspeed_config["zero_optimization"]["overlap_comm"] is True
    assert plugin.deepspeed_config["gradient_clipping"] == 0.5


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ZERO_STAGE": "0"}, "must be 1 or 2 here, got 0"),
        ({"ZERO_STAGE": "3"}, "stage 3.*Take stage 2.*--use_fsdp --fsdp_version 2"),
        ({"OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, "offload_optimizer to cpu.*Leave it out"),
        ({"OFFLOAD_PARAM_DEVICE": "nvme"}, "offload_param to nvme.*Leave it out"),
        ({"CONFIG_FILE": "missing.json"}, "missing.json.*cannot be read"),
    ],
)
def test_a_command_line_that_cannot_be_followed_is_refused(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"ACCELERATE_DEEPSPEED_{name}", value)
    with pytest.raises(ConfigError, match=message):
        zero_plugin(RECIPE, "no", False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{", "cannot be read as JSON"),
        ({"train_batch_size": 24}, 'lacks "zero_optimization"'),
        ({"optimizer": {"type": "Adam"}}, r'"optimizer", which the recipe decides \(engine.optimizer\)'),
        ({"scheduler": {"type": "WarmupLR"}}, '"scheduler", which the recipe decides'),
        ({"bf16": {"enabled": True}}, r"recipe decides \(engine.mixed_precision\)"),
        ({"gradient_clipping": 1.0}, r"gradient_clipping 1.0, but the recipe has 0.5 \(engine.max_gradient_norm\)"),
        ({"gradient_accumulation_steps": 1}, r"but the recipe has 3 \(engine.accumulation_steps\)"),
        ({"train_micro_batch_size_per_gpu": 1}, r"but the recipe has 2 \(engine.batch_size\)"),
        ({"train_batch_size": 6}, "but the recipe has 24 .*4 processes"),
        ({"gradient_cliping": 0.5}, "did you mean gradient_clipping"),
        ({"elasticity": {"enabled": True}}, "elasticity, which is unknown or has no effect here"),
        ({"zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"}}, "Give a value, or leave it out"),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}, "offload_optimizer to cpu"),
        ({"zero_optimization": {"stage": 2, "stage3_max_reuse_distance": 1}}, "zero_optimization.stage3_max"),
    ],
)
def test_a_file_that_contradicts_the_recipe_is_refused(
    settings: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(settings, dict) and "lacks" not in message:
        settings = {"zero_optimization": {"stage": 2}, **settings}
    _file(tmp_path, settings, monkeypatch)
    with pytest.raises(ConfigError, match=message):
        zero_plugin(RECIPE, "no", False)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DEEPSPEED_ZERO_STAGE", "1", "--zero_stage 1, but .* has another stage"),
        ("DEEPSPEED_OFFLOAD_PARAM_DEVICE", "cpu", "offload_param to cpu"),
        ("GRADIENT_ACCUMULATION_STEPS", "4", "gradient_accumulation_steps 4, but .* has 3"),
        ("GRADIENT_CLIPPING", "1.0", "gradient_clipping 1.0, but the recipe has 0.5"),
    ],
)
def test_a_file_and_a_command_line_that_differ_are_refused(
    variable: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = {"gradient_accumulation_steps": 3, "gradient_clipping": "auto"}
    _file(tmp_path, {**file, "zero_optimization": {"stage": 2, "offload_param": {"device": "none"}}}, monkeypatch)
    monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    with pytest.raises(ConfigError, match=message):
        zero_plugin(RECIPE, "no", False)


@pytest.mark.parametrize(
    ("config", "precision", "leaves_gpu_alone", "message"),
    [
        (EngineConfig(optimizer="adafactor"), "no", False, "adamw or sgd with DeepSpeed, got adafactor"),
        (EngineConfig(optimizer="adamw-8bit"), "no", False, "adamw or sgd with DeepSpeed, got adamw-8bit"),
        (EngineConfig(), "fp16", False, "mixed_precision=bf16 or fp32"),
        (EngineConfig(), "no", True, "Leave out --device cpu"),
    ],
)
def test_a_recipe_that_deepspeed_cannot_follow_is_refused(
    config: EngineConfig, precision: str, leaves_gpu_alone: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        zero_plugin(config, precision, leaves_gpu_alone)


def test_deepspeed_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_settings, "is_deepspeed_available", lambda: False)
    with pytest.raises(ConfigError, match="not installed: pip install deepspeed"):
        zero_plugin(RECIPE, "no", False)
