"""What the engine trains: a module, its samples and its loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from portraitanim.errors import PortraitAnimError


class TrainingTask(Protocol):
    """One kind of training; the engine knows nothing else about it.

    Attributes:
        module: what is trained; its parameters with ``requires_grad`` learn. Its forward takes a batch and returns the
            loss, so that a distributed wrapper sees every pass.
    """

    @property
    def module(self) -> nn.Module:
        """See above."""
        ...

    def sample(self, number: int) -> dict[str, Any]:
        """The sample of this number, the same whenever it is asked for; numbers go on over all epochs."""

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of samples, as the module's forward takes it."""

    def save(self, folder: Path, device: torch.device) -> None:
        """Write the weights as they are now into a folder that the rest of the package reads."""


def move(batch: Any, device: torch.device) -> Any:
    """The batch with all its tensors on ``device``."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: move(value, device) for name, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(move(value, device) for value in batch)
    return batch


class StepSampler:
    """Which samples each step reads in one process; a step's samples do not depend on how many processes share them.

    Args:
        first_step: steps that were made before.
        num_steps: steps in all.
        batch_size: samples of one forward pass.
        accumulation_steps: passes per step.
        rank: number of this process.
        num_processes: how many there are.
    """

    def __init__(
        self, first_step: int, num_steps: int, batch_size: int, accumulation_steps: int, rank: int, num_processes: int
    ) -> None:
        self.first_step, self.num_steps = first_step, num_steps
        self.batch_size, self.accumulation_steps = batch_size, accumulation_steps
        self.rank, self.num_processes = rank, num_processes

    def __len__(self) -> int:
        return (self.num_steps - self.first_step) * self.accumulation_steps

    def __iter__(self) -> Any:
        for micro in range(self.first_step * self.accumulation_steps, self.num_steps * self.accumulation_steps):
            first = (micro * self.num_processes + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


class SampleSource(torch.utils.data.Dataset):
    """A task's samples for torch's ``DataLoader``; a sample that cannot be made is the error that says why.

    An error that a worker raises reaches the main process with the worker's traceback as its message.
    """

    def __init__(self, task: TrainingTask) -> None:
        self.task = task

    def __getitem__(self, number: int) -> dict[str, Any] | PortraitAnimError:
        try:
            return self.task.sample(number)
        except PortraitAnimError as error:
            return error

    def collate(self, samples: list[dict[str, Any] | PortraitAnimError]) -> dict[str, Any] | PortraitAnimError:
        """The task's batch, or the first error."""
        made = [sample for sample in samples if not isinstance(sample, PortraitAnimError)]
        errors = (sample for sample in samples if isinstance(sample, PortraitAnimError))
        return self.task.collate(made) if len(made) == len(samples) else next(errors)
