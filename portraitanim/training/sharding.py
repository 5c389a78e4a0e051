"""Parameters that are spread over the processes (FSDP 2), and their optimizer's state; checkpoints hold them whole."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import disable_fsdp_ram_efficient_loading
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from portraitanim.config.training import EngineConfig
from portraitanim.errors import ConfigError
from portraitanim.training.checkpoint import flatten_optimizer, restore_optimizer
from portraitanim.training.zero import is_zero, restore_zero, whole_zero


def require_supported(config: EngineConfig, cpu: bool) -> None:
    """Look at what ``accelerate launch`` was told, before it acts on it.

    Raises:
        ConfigError: it was told to train in a way that would fail, or would be left out without a word.
    """
    if _told("ACCELERATE_USE_MEGATRON_LM"):
        raise ConfigError(
            "accelerate was told to use Megatron-LM, which trains networks of its own. FSDP spreads the same tensors: "
            "accelerate launch --use_fsdp --fsdp_version 2."
        )
    if not _told("ACCELERATE_USE_FSDP"):
        return
    if cpu:
        raise ConfigError(
            "accelerate was told to use FSDP, which it leaves out on a CPU. Without --use_fsdp the processes share "
            "the samples, each with all parameters."
        )
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError("accelerate was told to use FSDP version 1. Add --fsdp_version 2 (fsdp_version: 2).")
    if os.environ.get("FSDP_AUTO_WRAP_POLICY") == "SIZE_BASED_WRAP" or os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP"):
        raise ConfigError(
            "accelerate was told to gather parameters layer by layer, but these networks call parts of layers ahead of "
            "the step. Leave out fsdp_transformer_layer_cls_to_wrap and set fsdp_auto_wrap_policy: NO_WRAP."
        )
    if _told("FSDP_ACTIVATION_CHECKPOINTING"):
        raise ConfigError("Set engine.gradient_checkpointing=true instead of fsdp_activation_checkpointing.")
    if config.optimizer not in ("adamw", "sgd"):
        raise ConfigError(
            f"engine.optimizer must be adamw or sgd with FSDP, got {config.optimizer}, whose state does not follow the "
            "shape of the parameters that it belongs to, so it cannot be spread with them."
        )


def module_to_spread(accelerator: Accelerator, module: nn.Module) -> nn.Module:
    """A copy of ``module`` for accelerate to spread; the module itself stays whole, in the memory of the CPU."""
    plugin = accelerator.state.fsdp_plugin
    # Each process has built all of it. transformers, too, would leave the weights of later models empty.
    disable_fsdp_ram_efficient_loading()
    plugin.cpu_ram_efficient_loading = False
    # Numbers are rounded where autocast does it, as on one GPU; the noise and its schedule stay in fp32.
    plugin.mixed_precision_policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    spread = copy.deepcopy(module)
    spread.register_forward_hook(_use_every_parameter)
    return spread


def gather(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole tensors of spread ones; all processes must call it.

    Args:
        tensors: by name; those that are not spread are left as they are.
        keep: whether this process wants them; if not, it gets nothing.
    """
    whole = {}
    for name, value in tensors.items():
        full = value.full_tensor().detach().cpu() if isinstance(value, DTensor) else value
        if keep:
            whole[name] = full
    return whole


def spread_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, the same in all processes, spread as ``parameter`` is if it has its shape."""
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    mesh = parameter.device_mesh
    return distribute_tensor(value.to(mesh.device_type), mesh, parameter.placements)


def whole_optimizer(
    optimizer: AcceleratedOptimizer, learning: Mapping[str, Tensor], keep: bool
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `flatten_optimizer` gives without spreading; all processes must call it.

    Args:
        optimizer: as accelerate prepared it.
        learning: its parameters by name, in its order.
        keep: whether this process wants the tensors; if not, it gets none.
    """
    if is_zero(optimizer):
        return whole_zero(optimizer.optimizer, list(learning.values()), keep), {}
    tensors, values = flatten_optimizer(optimizer.optimizer)
    return gather(tensors, keep), values


def restore_whole_optimizer(
    optimizer: AcceleratedOptimizer, learning: Mapping[str, Tensor], tensors: dict[str, Tensor], values: dict[str, Any]
) -> None:
    """Bring back what `whole_optimizer` gave, by whatever number of processes, after the parameters themselves."""
    parameters = list(learning.values())
    if is_zero(optimizer):
        return restore_zero(optimizer.optimizer, parameters, tensors)
    spread = {key: spread_like(value, parameters[int(key.split(".")[0])]) for key, value in tensors.items()}
    restore_optimizer(optimizer.optimizer, spread, values)


@contextmanager
def weights_in(module: nn.Module, values: Mapping[str, Tensor], device: torch.device) -> Iterator[None]:
    """Within the block, a whole module that is not trained itself has ``values`` as its parameters, on ``device``."""
    with torch.no_grad():
        for name, value in values.items():
            module.get_parameter(name).copy_(value)
    module.to(device)
    try:
        yield
    finally:
        module.to("cpu")


def _use_every_parameter(module: nn.Module, inputs: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
    """Give every parameter a gradient, if only of zeros.

    FSDP adds up the gradients of all parameters in one piece, which must have the same parts in each process; a process
    whose samples all lost their portrait does not use the reference network.
    """
    del inputs
    loss, parts = output
    unused = sum(parameter.sum() for parameter in module.parameters() if parameter.requires_grad)
    return loss + 0 * unused, parts


def _told(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("true", "1")
