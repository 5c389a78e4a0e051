"""FSDP: two processes, each with half of every parameter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from portraitanim.config.schema import to_dict
from portraitanim.config.training import EngineConfig
from portraitanim.errors import ConfigError
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from portraitanim.training.checkpoint import list_checkpoints
from portraitanim.training.sharding import require_supported
from portraitanim.training.trainer import train
from tests.small_networks import conditioning
from tests.unit.training.recipes import small_dataset, small_recipe

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_spread_parameters_learn_resume_and_animate_as_whole_ones(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", "echomimic")
    # With AdamW, epsilon 1 comes close to plain gradient descent, so that rounding is not made large.
    engine = {"num_steps": 4, "epsilon": 1.0, "ema_decay": 0.9, "checkpoint_every_steps": 2}
    # Of samples 0 to 7, only number 3 loses its portrait: one process alone does not use the reference network.
    drops = {"reference": 0.3}
    alone = small_recipe("echomimic", data, engine=engine, drops=drops)
    train(alone, tmp_path / "one", device="cpu")
    recipe = small_recipe("echomimic", data, engine={**engine, "batch_size": 1}, drops=drops)
    (tmp_path / "recipe.json").write_text(json.dumps(to_dict(recipe)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29618"]
    script = ["-m", "tests.unit.training.spread_training"]
    folders = [str(tmp_path / name) for name in ("recipe.json", "two", "resumed")]
    done = subprocess.run(
        [*launcher, *script, *folders], capture_output=True, text=True, check=False, timeout=900, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]

    # A checkpoint of two processes is whole: one process goes on from it.
    (tmp_path / "alone").mkdir()
    shutil.copytree(list_checkpoints(tmp_path / "two")[0], tmp_path / "alone" / "checkpoint-0000002")
    train(alone, tmp_path / "alone", resume=True, device="cpu")

    one, *others = (list_checkpoints(tmp_path / name)[-1] for name in ("one", "two", "resumed", "alone"))
    for name in ("parameters", "optimizer", "average"):
        expected = load_file(one / f"{name}.safetensors")
        spread, resumed, continued = (load_file(folder / f"{name}.safetensors") for folder in others)
        assert expected.keys() == spread.keys() == resumed.keys() == continued.keys()
        for key, value in expected.items():
            assert torch.equal(spread[key], resumed[key]), key
            # fp32, added up in another order; gradients that are zero but for rounding are of 1e-12.
            allowed = 1e-4 * float(value.abs().max()) + 1e-10
            assert float((value - spread[key]).abs().max()) <= allowed, key
            assert float((value - continued[key]).abs().max()) <= allowed, key
    pipes = [PortraitAnimationPipeline.from_pretrained(tmp_path / name / "weights") for name in ("one", "two")]
    frames = [p(conditioning("echomimic", 4), generator=torch.Generator().manual_seed(0)).frames for p in pipes]
    torch.testing.assert_close(*frames, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("told", "optimizer", "cpu", "message"),
    [
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "adamw", False, "Megatron-LM.*--use_fsdp --fsdp_version 2"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, "adamw", True, "on a CPU.*Without --use_fsdp"),
        ({"ACCELERATE_USE_FSDP": "true"}, "adamw", False, "version 1.*--fsdp_version 2"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "adamw", False, "NO_WRAP"),
        ({"FSDP_TRANSFORMER_CLS_TO_WRAP": "BasicTransformerBlock"}, "adamw", False, "NO_WRAP"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "adamw", False, "gradient_checkpointing=true"),
        ({}, "adamw-8bit", False, "adamw or sgd"),
    ],
)
def test_what_would_not_train_as_it_should_is_refused(
    told: dict[str, str], optimizer: str, cpu: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(name.startswith("ACCELERATE") for name in told):
        told = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", **told}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        require_supported(EngineConfig(optimizer=optimizer), cpu)
