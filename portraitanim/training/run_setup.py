"""Around a run: its number format, where it is logged, and what it ends with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from portraitanim.errors import ConfigError
from portraitanim.runtime import resolve_dtype


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

    needs = {"tensorboard": (is_tensorboard_available, "tensorboardX"), "wandb": (is_wandb_available, "wandb")}
    for name in names:
        is_available, package = needs[name]
        if not is_available():
            raise ConfigError(
                f"engine.trackers names {name}, which is not installed. Run: pip install {package}, or leave it out: "
                f"--set engine.trackers=[{','.join(other for other in names if other != name)}]"
            )
    return list(names)
