"""The loop on a task of one layer: what it reads, when it saves, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from portraitanim.config.training import EngineConfig
from portraitanim.errors import CheckpointError, ConfigError, InputError, MediaError, TrainingError
from portraitanim.training import checkpoint
from portraitanim.training.checkpoint import list_checkpoints
from portraitanim.training.engine import TrainingEngine
from portraitanim.training.run_setup import TRACKER_INSTALLS
from portraitanim.training.task import StepSampler


class LineTask:
    """Learns a line; may do something at one of the steps."""

    def __init__(self, at_step: int | None = None, action: Any = None) -> None:
        torch.manual_seed(0)
        self.module = LineObjective(at_step, action)
        self.read: list[int] = []

    def sample(self, number: int) -> dict[str, Tensor]:
        self.read.append(number)
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(3, generator=generator)
        return {"x": x, "y": x.sum()[None]}

    def collate(self, samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def save(self, folder: Path, device: torch.device) -> None:
        torch.save(self.module.layer.state_dict(), folder / "layer.pt")


class LineObjective(nn.Module):
    def __init__(self, at_step: int | None, action: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.at_step, self.action, self.calls = at_step, action, 0

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        loss = (self.layer(batch["x"]) - batch["y"]).square().mean()
        if self.calls == self.at_step:
            loss = self.action(loss)
        return loss, {"square": loss.detach()}


def config(**changes: Any) -> EngineConfig:
    values: dict[str, Any] = {
        "num_steps": 4,
        "batch_size": 2,
        "learning_rate": 0.05,
        "warmup_steps": 2,
        "decay": "cosine",
        "mixed_precision": "fp32",
        "ema_decay": 0.9,
        "checkpoint_every_steps": 2,
        "log_every_steps": 1,
        "trackers": (),
    }
    return EngineConfig(**{**values, **changes})


def engine(task: LineTask, output: Path, **changes: Any) -> TrainingEngine:
    return TrainingEngine(task, config(**changes), output, device="cpu")


def everything(folder: Path) -> dict[str, Tensor]:
    return {
        f"{path.name}/{key}": value for path in folder.glob("*.safetensors") for key, value in load_file(path).items()
    }


def test_the_loss_falls(tmp_path: Path) -> None:
    result = engine(LineTask(), tmp_path, num_steps=150, checkpoint_every_steps=150).run()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-10:]) < 0.05 * sum(losses[:10])
    assert result.num_steps == 150


def test_two_and_two_steps_equal_four_bit_for_bit(tmp_path: Path) -> None:
    def stop(loss: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGTERM)
        return loss

    engine(LineTask(), tmp_path / "whole").run()
    with pytest.raises(TrainingError, match=r"SIGTERM after step 2 of 4.*--resume"):
        engine(LineTask(at_step=2, action=stop), tmp_path / "parts").run()
    task = LineTask()
    engine(task, tmp_path / "parts").run(resume=True)
    assert task.read == [4, 5, 6, 7]  # the samples of steps 3 and 4
    whole, parts = (everything(list_checkpoints(tmp_path / name)[-1]) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_8_bit_adam_keeps_8_bits_and_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")

    def wide() -> LineTask:
        # Below 4096 numbers a parameter's state stays in 32 bits: of this layer the weight has 8 bits, the bias 32.
        task = LineTask()
        task.module.layer = nn.Sequential(nn.Linear(3, 2048), nn.Linear(2048, 1))
        return task

    engine(wide(), tmp_path / "whole", optimizer="adamw-8bit").run()
    first, last = list_checkpoints(tmp_path / "whole")
    (tmp_path / "parts").mkdir()
    first.rename(tmp_path / "parts" / first.name)
    engine(wide(), tmp_path / "parts", optimizer="adamw-8bit").run(resume=True)
    whole, parts = everything(last), everything(list_checkpoints(tmp_path / "parts")[-1])
    assert {value.dtype for key, value in whole.items() if "state" in key} == {torch.uint8, torch.float32}
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_accumulated_passes_equal_one_large_batch(tmp_path: Path) -> None:
    # Equal up to the order of additions in fp32.
    engine(LineTask(), tmp_path / "one", batch_size=4).run()
    engine(LineTask(), tmp_path / "two", batch_size=2, accumulation_steps=2).run()
    one, two = (everything(list_checkpoints(tmp_path / name)[-1]) for name in ("one", "two"))
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-5, atol=1e-6)


def test_samples_of_a_step_do_not_depend_on_the_number_of_processes() -> None:
    alone = list(StepSampler(1, 3, 4, 2, 0, 1))
    shared = [list(StepSampler(1, 3, 2, 2, rank, 2)) for rank in range(2)]
    assert alone == [first + second for first, second in zip(*shared, strict=True)]
    assert alone[0] == [8, 9, 10, 11]


def test_loss_that_is_no_number_ends_the_run_and_leaves_the_last_state(tmp_path: Path) -> None:
    task = LineTask(at_step=4, action=lambda loss: loss * float("nan"))
    with pytest.raises(TrainingError, match=r"step 4 is nan.*checkpoint-0000002.*learning_rate"):
        engine(task, tmp_path).run()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-0000002"]
    engine(LineTask(), tmp_path).run(resume=True)
    assert list_checkpoints(tmp_path)[-1].name == "checkpoint-0000004"


def test_full_disk_ends_the_run_and_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = checkpoint.save_file

    def full_from_step_4(tensors: dict[str, Tensor], path: Path) -> None:
        if "0000004" in str(path):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full_from_step_4)
    with pytest.raises(TrainingError, match=r"disk is full.*checkpoint-0000002"):
        engine(LineTask(), tmp_path).run()
    assert [path.name for path in tmp_path.iterdir() if "checkpoint" in path.name] == ["checkpoint-0000002"]
    assert (tmp_path / "weights" / "layer.pt").is_file()


def test_oldest_checkpoints_are_removed(tmp_path: Path) -> None:
    engine(LineTask(), tmp_path, num_steps=6, checkpoint_every_steps=1, keep_checkpoints=2).run()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-0000005", "checkpoint-0000006"]


def test_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    engine(LineTask(), tmp_path).run()
    with pytest.raises(CheckpointError, match="--resume"):
        engine(LineTask(), tmp_path).run()


def test_checkpoint_of_other_parameters_is_refused(tmp_path: Path) -> None:
    engine(LineTask(), tmp_path).run()
    other = LineTask()
    other.module.layer = nn.Linear(3, 1, bias=False)
    with pytest.raises(CheckpointError, match="other parameters"):
        engine(other, tmp_path).run(resume=True)


def test_written_weights_are_the_average(tmp_path: Path) -> None:
    engine(LineTask(), tmp_path).run()
    saved = torch.load(tmp_path / "weights" / "layer.pt", weights_only=True)
    tensors = everything(list_checkpoints(tmp_path)[-1])
    assert torch.equal(saved["weight"], tensors["average.safetensors/layer.weight"])
    assert not torch.equal(saved["weight"], tensors["parameters.safetensors/layer.weight"])


def _logged_steps(output: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (output / "log.jsonl").read_text().splitlines()]


def test_the_last_step_is_logged_however_rarely_others_are(tmp_path: Path) -> None:
    engine(LineTask(), tmp_path, log_every_steps=3).run()
    assert _logged_steps(tmp_path) == [3, 4]


def test_steps_behind_the_checkpoint_of_a_killed_run_are_logged_once(tmp_path: Path) -> None:
    def stop(loss: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGTERM)
        return loss

    with pytest.raises(TrainingError):
        engine(LineTask(at_step=2, action=stop), tmp_path).run()
    with (tmp_path / "log.jsonl").open("a") as lines:  # killed in the middle of the line of step 4
        lines.write('{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    engine(LineTask(), tmp_path).run(resume=True)
    assert _logged_steps(tmp_path) == [1, 2, 3, 4]


def test_a_finished_run_that_is_resumed_has_no_loss_and_its_weights(tmp_path: Path) -> None:
    engine(LineTask(), tmp_path).run()
    shutil.rmtree(tmp_path / "weights")  # killed behind its last checkpoint
    result = engine(LineTask(), tmp_path).run(resume=True)
    assert result.num_steps == 4
    assert result.loss is None
    assert (tmp_path / "weights" / "layer.pt").is_file()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_sample_that_cannot_be_made_says_why_and_no_more(num_workers: int, tmp_path: Path) -> None:
    task = LineTask()
    drawn = task.sample

    def sample(number: int) -> dict[str, Tensor]:
        if number == 5:
            raise InputError("Clip 5 has no sound.")
        return drawn(number)

    task.sample = sample  # type: ignore[method-assign]
    with pytest.raises(InputError) as raised:
        engine(task, tmp_path, num_workers=num_workers).run()
    assert str(raised.value) == "Clip 5 has no sound."


def test_time_of_a_step_is_without_validation(tmp_path: Path) -> None:
    def validate(folder: Path, step: int) -> dict[str, float]:
        time.sleep(2)
        return {}

    TrainingEngine(LineTask(), config(), tmp_path, device="cpu", validate=validate, validate_every_steps=2).run()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (third,) = [line["seconds_per_step"] for line in lines if line["step"] == 3]
    assert third < 2


def test_tensorboard_is_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    engine(LineTask(), tmp_path, trackers=("tensorboard",)).run()
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    assert b"learning_rate" in events.read_bytes()


def test_a_tracker_that_is_not_installed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.utils.is_wandb_available", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'wandb<0.28.1', or leave it out: --set engine.trackers=\[\]"):
        engine(LineTask(), tmp_path, trackers=("wandb",))


def test_the_wandb_that_an_error_names_is_the_one_of_the_extra() -> None:
    pyproject = Path(__file__).parents[3] / "pyproject.toml"
    (requirement,) = re.findall(r'^wandb = \["(.+)"\]$', pyproject.read_text(encoding="utf-8"), re.MULTILINE)
    assert TRACKER_INSTALLS["wandb"] == f"pip install '{requirement}'"


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"engine.trackers must be some of tensorboard, wandb, got 'tensorbord'"):
        config(trackers=("tensorbord",))


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(MediaError, match="Cannot write"):
        engine(LineTask(), tmp_path / "run").run()


def test_a_signal_to_the_whole_process_group_saves_the_state(tmp_path: Path) -> None:
    """As batch systems and terminals send it: the processes that make samples get it, too."""
    task = LineTask()
    drawn, trainer = task.sample, os.getpid()

    def sample(number: int) -> dict[str, Tensor]:
        if number == 4:
            os.kill(trainer, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return drawn(number)

    task.sample = sample  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="Stopped by SIGTERM after step"):
        engine(task, tmp_path, num_steps=30, num_workers=1).run()
    assert list_checkpoints(tmp_path)
