"""DeepSpeed's ZeRO 1 and 2: the optimizer's state and the gradients are spread; checkpoints hold the state whole."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils.deepspeed import DeepSpeedOptimizerWrapper
from torch import Tensor, nn

from portraitanim.errors import CheckpointError

logger = logging.getLogger(__name__)


def is_zero(optimizer: Any) -> bool:
    """Whether accelerate prepared this optimizer for DeepSpeed."""
    return isinstance(optimizer, DeepSpeedOptimizerWrapper)


def gradients_together(module: nn.Module) -> None:
    """Let all gradients of ``module`` appear in one order at the end of the backward pass, if only as zeros.

    ZeRO adds gradients up in the order in which they appear, which must be that of all processes; a process whose
    samples all lost their portrait does not use the reference network.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def hook(module: nn.Module, inputs: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        del module, inputs
        loss, parts = output
        return (_Together.apply([loss], *parameters) if loss.requires_grad else loss), parts

    module.register_forward_hook(hook)


def gradient_norm(engine: Any) -> float:
    """The norm before it was clipped; NaN if DeepSpeed left out the step since a gradient is not finite."""
    return float(engine.get_global_grad_norm()) if engine.was_step_applied() else math.nan


def whole_zero(optimizer: Any, parameters: Sequence[Tensor], keep: bool) -> dict[str, Tensor]:
    """The state of ZeRO's optimizer as `flatten_optimizer` gives that of a plain one; all processes must call it.

    Args:
        optimizer: DeepSpeed's, around that of the recipe.
        parameters: those that learn.
        keep: whether this process wants the tensors; if not, it gets none.
    """
    from deepspeed.utils import safe_get_full_optimizer_state

    part = _part(optimizer)
    whole = {}
    for name, value in optimizer.optimizer.state.get(part, {}).items():
        for number, parameter in enumerate(parameters):
            full = safe_get_full_optimizer_state(parameter, name) if value.shape == part.shape else value
            if keep:
                whole[f"{number}.{name}"] = full.detach().cpu().clone()
    return whole


def restore_zero(optimizer: Any, parameters: Sequence[Tensor], saved: dict[str, Tensor]) -> None:
    """Bring back what `whole_zero` or a plain run gave, after the parameters themselves.

    Raises:
        CheckpointError: it is the state of another optimizer.
    """
    optimizer.refresh_fp32_params()
    part = _part(optimizer)
    values = {(int(key.split(".", 1)[0]), key.split(".", 1)[1]): value for key, value in saved.items()}
    counts = [float(values.pop((number, "step"), 0.0)) for number in range(len(parameters))]
    if any(value.shape != parameters[number].shape for (number, _), value in values.items()):
        raise CheckpointError(
            "The checkpoint holds the state of another optimizer. Resume with the config that it was made with."
        )
    if not values:
        return
    from deepspeed.utils import safe_set_full_optimizer_state

    if min(counts) < max(counts):
        logger.warning(
            "The checkpoint counts %g to %g steps, since some parameters had no gradient in some of them. DeepSpeed "
            "has one count for all, %g: the next steps are nearly, not exactly, those of the run before.",
            min(counts),
            max(counts),
            max(counts),
        )
    state = {name: torch.zeros_like(part) for _, name in values}
    optimizer.optimizer.state[part] = {"step": torch.tensor(max(counts), device=part.device), **state}
    # Makes known which piece of the row is whose, as after a first step.
    optimizer._lazy_init_hp_params_optimizer_state()
    for (number, name), value in values.items():
        safe_set_full_optimizer_state(parameters[number], value.to(part.device), name)


class _Together(torch.autograd.Function):
    """A loss whose backward pass gives the gradients of all parameters at once."""

    @staticmethod
    def forward(ctx: Any, loss: list[Tensor], *parameters: nn.Parameter) -> Tensor:
        # In a list, so that autograd sees no way past this function.
        ctx.loss, ctx.parameters = loss, parameters
        return loss[0].detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = torch.autograd.grad(ctx.loss.pop(), ctx.parameters, gradient, allow_unused=True)
        return None, *(
            torch.zeros_like(parameter) if value is None else value
            for value, parameter in zip(found, ctx.parameters, strict=True)
        )


def _part(optimizer: Any) -> Tensor:
    """The numbers that this process updates, of all parameters in a row."""
    (group,) = optimizer.optimizer.param_groups
    (part,) = group["params"]
    return part
