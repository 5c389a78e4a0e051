"""Where finished clips are kept, so that an interrupted video can go on."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from portraitanim.pipelines.sampling_run import Generators


class ClipStore(Protocol):
    """Keeps finished clips, so that an interrupted video can go on."""

    def load(self, number: int) -> tuple[Tensor, Tensor | None] | None:
        """Latents of a finished clip and the state of the noise generator after it, or ``None``."""
        ...

    def save(self, number: int, latents: Tensor, generator_state: Tensor | None) -> None:
        """Keep a clip that was just finished."""
        ...

    def load_step(self, number: int) -> tuple[int, Tensor] | None:
        """How many steps of an unfinished clip are done, and its latents after them, or ``None``."""
        ...

    def save_step(self, number: int, num_steps_done: int, latents: Tensor) -> None:
        """Take note of a step; a store may keep some only."""
        ...


def restore_clip(store: ClipStore | None, number: int, noise: Tensor, generator: Generators) -> Tensor | None:
    """A clip that was finished before, and the generator as it was then."""
    kept = None if store is None else store.load(number)
    if kept is None:
        return None
    latents, state = kept
    if isinstance(generator, torch.Generator) and state is not None:
        generator.set_state(state)
    return latents.to(noise)


def keep_clip(store: ClipStore | None, number: int, latents: Tensor, generator: Generators) -> None:
    """Keep a finished clip, and the generator as it is after it."""
    if store is not None and bool(torch.isfinite(latents).all()):  # a broken clip is not worth going on from
        state = generator.get_state() if isinstance(generator, torch.Generator) else None
        store.save(number, latents, state)
