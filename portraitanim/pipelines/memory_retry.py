"""What happens when a device has less memory than was predicted: once more, the next smaller way."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

import torch

from portraitanim.errors import OutOfMemoryError

if TYPE_CHECKING:
    from portraitanim.pipelines.animator_parts import AnimatorParts

logger = logging.getLogger(__name__)

_WORDS = ("can't allocate memory", "not enough memory", "out of memory")
"""What the allocators of CPUs and of Apple's GPUs say: they raise a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError, OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def take_smaller_plan(parts: AnimatorParts) -> None:
    """Let the networks work in the next smaller way; call it where nothing of the failed run is alive any more."""
    plan, *parts.smaller_plans = parts.smaller_plans
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    logger.warning("The memory was not enough. Once more, with less: %s", plan.describe())
    parts.execution = plan.execution
    is_offloaded = hasattr(parts.pipeline.denoising_unet, "_hf_hook")
    if plan.is_offloaded and not is_offloaded:
        device = parts.pipeline.device
        parts.pipeline.to("cpu")
        parts.pipeline.enable_model_cpu_offload(device=device)
