"""What `test_spread_training` runs in each of its processes: recipe, folder of the run, folder of a resumed one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import accelerate
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from portraitanim.config.schema import from_dict
from portraitanim.config.training import TrainingConfig
from portraitanim.training import run_setup
from portraitanim.training.checkpoint import list_checkpoints
from portraitanim.training.trainer import train


class SpreadingAccelerator(accelerate.Accelerator):
    """accelerate itself leaves FSDP out on a CPU, where torch can do it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.state.distributed_type = DistributedType.FSDP
        self.state.fsdp_plugin = FullyShardedDataParallelPlugin()

    def end_training(self) -> None:
        """Keeps the processes together for the second training."""


if __name__ == "__main__":
    os.environ["FSDP_VERSION"] = "2"
    run_setup.Accelerator = SpreadingAccelerator  # type: ignore[misc]
    recipe, whole, parts = (Path(argument) for argument in sys.argv[1:])
    config = from_dict(TrainingConfig, json.loads(recipe.read_text(encoding="utf-8")))
    train(config, whole, device="cpu")
    if os.environ["RANK"] == "0":
        parts.mkdir()
        shutil.copytree(list_checkpoints(whole)[0], parts / list_checkpoints(whole)[0].name)
    accelerate.PartialState().wait_for_everyone()
    train(config, parts, resume=True, device="cpu")
