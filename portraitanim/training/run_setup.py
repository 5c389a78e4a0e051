"""Around a run: its number format, where it is logged, and what it ends with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from portraitanim.runtime import resolve_dtype


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        output: its folder.
        weights: folder of the weights.
        num_steps: steps that were made, resumed ones included.
        loss: mean over the last logged steps.
        seconds: of this sitting.
    """

    output: Path
    weights: Path
    num_steps: int
    loss: float
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


def installed_trackers(names: tuple[str, ...]) -> list[str]:
    """Those of the named trackers that are installed."""
    from accelerate.utils import is_tensorboard_available, is_wandb_available

    available = {"tensorboard": is_tensorboard_available, "wandb": is_wandb_available}
    return [name for name in names if name not in available or available[name]()]
