"""Which parameters learn, by which optimizer, and how fast at each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from portraitanim.config.training import EngineConfig
from portraitanim.errors import ConfigError


def choose_trainable(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Let the parameters learn that the patterns name, and freeze the others.

    Args:
        module: whose parameters.
        patterns: as in a shell; a parameter learns if one matches its name and none that begins with ``!`` does.

    Returns:
        The names of those that learn.

    Raises:
        ConfigError: a pattern matches nothing, or nothing is left to learn.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern.removeprefix("!")) for name in names):
            tops = sorted({".".join(name.split(".")[:2]) for name in names})
            raise ConfigError(f"trainable: {pattern!r} matches no parameter. They begin with {', '.join(tops)}.")
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    chosen = []
    for name, parameter in module.named_parameters():
        learns = any(fnmatchcase(name, p) for p in wanted) and not any(fnmatchcase(name, p) for p in unwanted)
        parameter.requires_grad_(learns)
        if learns:
            chosen.append(name)
    if not chosen:
        raise ConfigError(f"trainable: {list(patterns)} leave no parameter that learns.")
    return chosen


def own_memory(module: nn.Module) -> nn.Module:
    """Move weights that were read from a file out of its memory map.

    There they begin at any address, on which the last bits of sums depend: a run that is resumed would not repeat them.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()
    return module


def make_optimizer(parameters: Sequence[nn.Parameter], config: EngineConfig) -> torch.optim.Optimizer:
    """The optimizer of a config; the 8-bit form of AdamW needs bitsandbytes.

    Raises:
        ConfigError: bitsandbytes is not installed.
    """
    arguments: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": config.betas,
        "weight_decay": config.weight_decay,
        "eps": config.epsilon,
    }
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    if config.optimizer == "adafactor":
        return torch.optim.Adafactor(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **arguments)
    try:
        import bitsandbytes
    except ImportError:
        raise ConfigError(
            "engine.optimizer adamw-8bit needs bitsandbytes: pip install bitsandbytes, or set "
            "engine.optimizer=adamw, or adafactor to save as much memory."
        ) from None
    return bitsandbytes.optim.AdamW8bit(parameters, **arguments)


def learning_rate(step: int, config: EngineConfig) -> float:
    """The rate of a step (counted from 0): linear warm-up, then constant or a half cosine down to the final ratio."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return config.learning_rate
    length = max(config.num_steps - config.warmup_steps, 1)
    falling = 0.5 * (1 + math.cos(math.pi * min((step - config.warmup_steps) / length, 1.0)))
    return config.learning_rate * (config.final_learning_rate_ratio + (1 - config.final_learning_rate_ratio) * falling)
