"""How long work tells its caller how far it is, without knowing what shows it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class ProgressTask(Protocol):
    """One running piece of work."""

    def advance(self, amount: float = 1.0) -> None:
        """Report that ``amount`` more units are done."""

    def describe(self, description: str) -> None:
        """Say what is being done now."""


class ProgressReporter(Protocol):
    """Shows, or ignores, the progress of named tasks."""

    def task(self, description: str, total: float | None = None) -> AbstractContextManager[ProgressTask]:
        """Open a task of ``total`` units (``None``: unknown) and close it on leaving the context."""


class SilentTask:
    """Shows nothing."""

    def advance(self, amount: float = 1.0) -> None:
        return None

    def describe(self, description: str) -> None:
        return None


class SilentProgress:
    """The default reporter: shows nothing."""

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[ProgressTask]:
        """See `ProgressReporter.task`."""
        yield SilentTask()
