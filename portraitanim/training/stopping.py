"""Signals that end a run after the step that is being made."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator


class OrderlyStop:
    """Notes SIGTERM and SIGINT; a second one ends the run at once."""

    def __init__(self) -> None:
        self.name: str | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block, the signals are noted."""

        def note(number: int, frame: Any) -> None:
            del frame
            if self.name:
                raise KeyboardInterrupt
            self.name = signal.Signals(number).name

        try:
            before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # signals belong to the main thread; elsewhere its owner decides
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator) -> str | None:
        """The signal that ends the run; all processes must ask, since one may get it a step before another."""
        if accelerator.num_processes == 1:
            return self.name
        if self.name:
            accelerator.set_trigger()
        return (self.name or "a signal") if accelerator.check_trigger() else None


def leave_signals_to_the_trainer(worker: int) -> None:
    """Called in a process that makes samples, which batch systems signal, too: its end would end the run unsaved.

    It ends with the run, and by itself when the trainer is gone.
    """
    del worker
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
