"""What `test_zero` runs in each of its processes: folders of the runs, and of another run to go on from."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import accelerate
from torch import Tensor

from portraitanim.config.schema import from_dict
from portraitanim.config.training import TrainingConfig
from portraitanim.errors import TrainingError
from portraitanim.training import run_setup
from portraitanim.training.checkpoint import list_checkpoints
from portraitanim.training.engine import TrainingEngine
from portraitanim.training.trainer import train
from tests.unit.training.test_engine import LineTask, config


class LastingAccelerator(accelerate.Accelerator):
    """Keeps the processes together for the next training."""

    def end_training(self) -> None:
        """Keeps them."""


def _go_on(recipe: TrainingConfig, start: Path, output: Path) -> None:
    """Train on from the first checkpoint of another run."""
    if os.environ["RANK"] == "0":
        output.mkdir()
        shutil.copytree(list_checkpoints(start)[0], output / list_checkpoints(start)[0].name)
    accelerate.PartialState().wait_for_everyone()
    train(recipe, output, resume=True)


def _message(task: LineTask, output: Path) -> str:
    try:
        TrainingEngine(task, config(), output).run()
    except TrainingError as error:
        return str(error)
    return ""


def _not_a_number(loss: Tensor) -> Tensor:
    return loss * float("nan")


def _terminate(loss: Tensor) -> Tensor:
    os.kill(os.getpid(), signal.SIGTERM)
    return loss


if __name__ == "__main__":
    run_setup.Accelerator = LastingAccelerator  # type: ignore[misc]
    root, is_first = Path(sys.argv[1]), os.environ["RANK"] == "0"
    recipe = from_dict(TrainingConfig, json.loads((root / "recipe.json").read_text(encoding="utf-8")))
    train(recipe, root / "two")
    _go_on(recipe, root / "two", root / "resumed")
    _go_on(recipe, root / "one", root / "joined")
    # Only one process sees the number, or gets the signal.
    ends = {
        "nan": _message(LineTask(None if is_first else 4, _not_a_number), root / "nan"),
        "signal": _message(LineTask(None if is_first else 3, _terminate), root / "signal"),
    }
    (root / f"ends-{os.environ['RANK']}.json").write_text(json.dumps(ends))
