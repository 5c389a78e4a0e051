"""DeepSpeed: two processes, each with half of the optimizer's state."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import is_deepspeed_available
from safetensors.torch import load_file
from torch import Tensor, nn

from portraitanim.config.schema import to_dict
from portraitanim.errors import CheckpointError
from portraitanim.training.checkpoint import list_checkpoints
from portraitanim.training.engine import LOG
from portraitanim.training.trainer import train
from portraitanim.training.zero import gradients_together, restore_zero
from tests.unit.training.recipes import small_dataset, small_recipe

ROOT = Path(__file__).resolve().parents[3]
# Small pieces, so that one step has many of them.
PIECES = {"reduce_bucket_size": 20000, "allgather_bucket_size": 20000, "overlap_comm": True}


class Branches(nn.Module):
    """A loss that may leave out the first of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor, with_first: bool) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.first(x) if with_first else x
        return self.second(x).square().mean(), {}


def _order(module: Branches, with_first: bool) -> Iterator[str]:
    seen: list[str] = []
    handles = [
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: seen.append(name))
        for name, parameter in module.named_parameters()
    ]
    module(torch.ones(1, 2), with_first)[0].backward()
    for handle in handles:
        handle.remove()
    yield from seen


def test_gradients_appear_in_one_order_whatever_is_used() -> None:
    torch.manual_seed(0)
    module, plain = Branches(), Branches()
    plain.load_state_dict(module.state_dict())
    gradients_together(module)
    with_first, without = list(_order(module, True)), list(_order(module, False))
    assert with_first == without
    assert len(with_first) == 4


@pytest.mark.parametrize("with_first", [True, False])
def test_gradients_that_appear_together_are_the_same(with_first: bool) -> None:
    torch.manual_seed(0)
    module, plain = Branches(), Branches()
    plain.load_state_dict(module.state_dict())
    gradients_together(module)
    for one in (module, plain):
        (3 * one(torch.ones(1, 2), with_first)[0]).backward()
    for mine, expected in zip(module.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None
        assert torch.equal(mine.grad, torch.zeros_like(mine) if expected.grad is None else expected.grad)


class Row:
    """As much of DeepSpeed's optimizer as is looked at before the state is taken."""

    def __init__(self) -> None:
        self.optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(6))])

    def refresh_fp32_params(self) -> None:
        """Nothing to do here."""


def test_state_of_another_optimizer_is_refused() -> None:
    adafactor = {"0.step": torch.tensor(2.0), "0.row_var": torch.zeros(2, 1), "0.col_var": torch.zeros(1, 3)}
    with pytest.raises(CheckpointError, match="another optimizer"):
        restore_zero(Row(), [torch.zeros(2, 3)], adafactor)


def _launch(root: Path, port: int, *options: str) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--use_deepspeed", *options]
    plain = ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    script = ["--main_process_port", str(port), "-m", "tests.unit.training.zero_training", str(root)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *plain, *script],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _rates(folder: Path) -> list[float]:
    return [json.loads(line)["learning_rate"] for line in (folder / LOG).read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(not is_deepspeed_available(), reason="deepspeed is not installed: pip install -e '.[deepspeed]'")
@pytest.mark.parametrize(("stage", "optimizer"), [(1, "adamw"), (2, "adamw"), (2, "sgd")])
def test_two_processes_learn_and_resume_as_one(stage: int, optimizer: str, tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", "echomimic")
    engine: dict[str, Any] = {
        **{"num_steps": 4, "checkpoint_every_steps": 2, "accumulation_steps": 2, "optimizer": optimizer},
        # With AdamW, epsilon 1 comes close to plain gradient descent, so that rounding is not made large.
        **{"epsilon": 1.0, "ema_decay": 0.9, "warmup_steps": 2, "decay": "cosine", "learning_rate": 0.1},
        # Less than any gradient's norm here: each is clipped.
        "max_gradient_norm": 0.01,
    }
    # One process now and then loses all its portraits, so that it alone does not use the reference network.
    drops = {"reference": 0.3}
    alone = small_recipe("echomimic", data, engine=engine, drops=drops)
    train(alone, tmp_path / "one", device="cpu")
    recipe = small_recipe("echomimic", data, engine={**engine, "batch_size": 1}, drops=drops)
    (tmp_path / "recipe.json").write_text(json.dumps(to_dict(recipe)))
    if optimizer == "adamw":
        options = ["--zero_stage", str(stage)]
    else:
        (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": stage, **PIECES}}))
        options = ["--deepspeed_config_file", str(tmp_path / "ds.json")]
    _launch(tmp_path, 29630 + stage, *options)

    # A checkpoint of two processes is whole: one process without DeepSpeed goes on from it.
    (tmp_path / "alone").mkdir()
    shutil.copytree(list_checkpoints(tmp_path / "two")[0], tmp_path / "alone" / "checkpoint-0000002")
    train(alone, tmp_path / "alone", resume=True, device="cpu")

    one, two, *others = (list_checkpoints(tmp_path / name)[-1] for name in ("one", "two", "resumed", "alone", "joined"))
    for name in ("parameters", "optimizer", "average"):
        expected, spread = load_file(one / f"{name}.safetensors"), load_file(two / f"{name}.safetensors")
        resumed, continued, joined = (load_file(folder / f"{name}.safetensors") for folder in others)
        assert expected.keys() == spread.keys() == resumed.keys() == continued.keys() == joined.keys()
        for key, value in expected.items():
            assert torch.equal(spread[key], resumed[key]), key
            # fp32, added up in another order; gradients that are zero but for rounding are of 1e-12.
            allowed = 1e-4 * float(value.abs().max()) + 1e-10
            for other in (spread, continued, joined):
                assert float((value - other[key]).abs().max()) <= allowed, key
    assert _rates(tmp_path / "one") == _rates(tmp_path / "two")
    for rank in (0, 1):
        ends = json.loads((tmp_path / f"ends-{rank}.json").read_text())
        assert "step 4" in ends["nan"]
        assert "checkpoint-0000002" in ends["nan"]
        assert "after step 3 of 4" in ends["signal"]
        assert "checkpoint-0000003" in ends["signal"]
