"""The one place that writes to the terminal: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from portraitanim.progress import ProgressReporter, ProgressTask, SilentProgress, SilentTask

# Wider than any line of ours: a pipe has no edge at which a path should be broken.
_NO_EDGE = 10_000
# Totals from here on are bytes in every task of this package; smaller ones are counts.
_BYTES_FROM = 1 << 16


class Console:
    """Sink of the command line. Colours and bars only on a terminal, and no colours with ``NO_COLOR``."""

    def __init__(self) -> None:
        self.debug = False
        self.quiet = False

    def result(self, text: str) -> None:
        """A line of the result."""
        self._stdout().print(escape(text), soft_wrap=True, highlight=False)

    def json(self, data: Any) -> None:
        """The result for programs."""
        sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table as result; plain columns where stdout is no terminal."""
        out = self._stdout()
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            # Long texts fold on a terminal; names must stay whole, to be copied.
            table.add_column(column, no_wrap=column == columns[0], overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        out.print(table)

    def note(self, text: str) -> None:
        """Something the user should know; silent with ``--quiet``."""
        if not self.quiet:
            self._stderr().print(escape(text), soft_wrap=True, highlight=False)

    def error(self, text: str) -> None:
        """Why the command failed, on one line."""
        line = " ".join(text.split())
        self._stderr().print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True, highlight=False)

    def traceback(self) -> None:
        """The traceback of the exception being handled."""
        self._stderr().print_exception(suppress=[], width=None)

    def progress(self) -> ProgressReporter:
        """A reporter for library calls: bars on a terminal, one line per task elsewhere, nothing with ``--quiet``."""
        return SilentProgress() if self.quiet else _RichProgress(self._stderr())

    def set_up_logging(self, verbose: bool) -> None:
        """Show the library's log on stderr: warnings, or everything."""
        level = logging.DEBUG if self.debug else logging.INFO if verbose else logging.WARNING
        handler: logging.Handler
        if sys.stderr.isatty():
            handler = RichHandler(console=self._stderr(), show_time=False, show_path=False, markup=False)
        else:  # RichHandler fills each line up with spaces to the edge, which a pipe does not have.
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        logger = logging.getLogger("portraitanim")
        logger.handlers[:] = [handler]
        logger.setLevel(logging.ERROR if self.quiet else level)

    # Made anew for each line, so that redirected streams are followed.
    @staticmethod
    def _stdout() -> RichConsole:
        return _rich_console(stderr=False)

    @staticmethod
    def _stderr() -> RichConsole:
        return _rich_console(stderr=True)


def _rich_console(stderr: bool) -> RichConsole:
    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream.isatty()
    return RichConsole(stderr=stderr, force_terminal=is_terminal, width=None if is_terminal else _NO_EDGE)


class _RichTask:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: float = 1.0) -> None:
        self._bars.advance(self._task, amount)

    def describe(self, description: str) -> None:
        self._bars.update(self._task, description=escape(description))


class _RichProgress:
    """`ProgressReporter` that draws with rich; tasks may be nested."""

    def __init__(self, console: RichConsole) -> None:
        self._console = console
        self._bars: Progress | None = None

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[ProgressTask]:
        """See `ProgressReporter.task`."""
        if not self._console.is_terminal:
            self._console.print(f"{escape(description)} …", soft_wrap=True, highlight=False)
            yield SilentTask()
            return
        if self._bars is not None:
            task = self._bars.add_task(escape(description), total=total)
            try:
                yield _RichTask(self._bars, task)
            finally:
                self._bars.remove_task(task)
            return
        with Progress(*_columns(total), console=self._console) as bars:
            self._bars = bars
            try:
                yield _RichTask(bars, bars.add_task(escape(description), total=total))
            finally:
                self._bars = None


def _columns(total: float | None) -> list[Any]:
    if total is not None and total >= _BYTES_FROM:
        return [TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()]
    return [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn()]


class _Speed(ProgressColumn):
    """Units per second, or seconds per unit where one takes longer than a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


console = Console()
"""The console of this process."""
