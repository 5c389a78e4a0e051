"""Around a run: its number format, where it is logged, and what it ends with."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from portraitanim.config.training import EngineConfig
from portraitanim.errors import ConfigError
from portraitanim.runtime import resolve_dtype
from portraitanim.training.sharding import require_supported
from portraitanim.training.zero_settings import zero_plugin

TRACKER_INSTALLS = {
    "tensorboard": "pip install tensorboardX",
    # Later releases need protobuf 5 or above, and mediapipe one below 5.
    "wandb": "pip install 'wandb<0.28.1'",
}
"""What to run where a tracker is not installed."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        output: its folder.
        weights: folder of the weights.
        num_steps: steps that were made, resumed ones included.
        loss: mean over the last steps, ``None`` where none was left to make.
        seconds: of this sitting.
    """

    output: Path
    weights: Path
    num_steps: int
    loss: float | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "output": str(self.output),
            "weights": str(self.weights),
            "num_steps": self.num_steps,
            "loss": self.loss,
            "seconds": round(self.seconds, 3),
        }


def make_accelerator(config: EngineConfig, output: Path, device: str | None) -> Accelerator:
    """What puts a run onto its devices, as ``accelerate launch`` was told.

    Args:
        config: of the engine.
        output: folder of the run.
        device: ``None`` lets accelerate choose, ``"cpu"`` keeps it from a GPU.

    Raises:
        ConfigError: it was told to train in a way that would fail, or would be left out without a word.
    """
    # accelerate remembers the number format of the process's first run.
    AcceleratorState._reset_state()
    has_gpu = torch.cuda.is_available()
    cpu = device == "cpu" or not has_gpu
    require_supported(config, cpu)
    precision = precision_name(config.mixed_precision, cpu)
    zero = zero_plugin(config, precision, cpu and has_gpu)
    # A process whose samples all lost their portrait gives the reference network no gradient.
    handlers: list[Any] = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    if zero is not None and cpu:
        handlers.append(InitProcessGroupKwargs(backend="gloo"))  # accelerate names none for DeepSpeed on a CPU
    with redirect_stdout(sys.stderr):  # DeepSpeed reports on stdout, which is for results
        return Accelerator(
            # DeepSpeed's number format is in its settings. Told to use a CPU, accelerate would leave DeepSpeed out.
            mixed_precision=precision if zero is None else "no",
            cpu=cpu and zero is None,
            deepspeed_plugin=zero,
            gradient_accumulation_steps=config.accumulation_steps,
            log_with=require_trackers(config.trackers) or None,
            project_dir=str(output),
            kwargs_handlers=handlers,
        )


def precision_name(name: str, cpu: bool) -> str:
    """The number format of ``engine.mixed_precision`` as accelerate calls it."""
    if name == "auto":
        dtype = resolve_dtype("auto", torch.device("cpu" if cpu else "cuda"))
        return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype, "no")
    return "no" if name == "fp32" else name


def require_trackers(names: tuple[str, ...]) -> list[str]:
    """The named trackers, all of which are installed.

    Raises:
        ConfigError: one is not; a run of days should not end without the log that was asked for.
    """
    from accelerate.utils import is_tensorboard_available, is_wandb_available

    is_available = {"tensorboard": is_tensorboard_available, "wandb": is_wandb_available}
    for name in names:
        if not is_available[name]():
            raise ConfigError(
                f"engine.trackers names {name}, which is not installed. Run: {TRACKER_INSTALLS[name]}, or leave it "
                f"out: --set engine.trackers=[{','.join(other for other in names if other != name)}]"
            )
    return list(names)
