"""Run one function over many tasks in processes that may crash, hang or be killed, and lose nothing but that task.

`concurrent.futures` gives up the whole pool when one worker dies, and its workers outlive a killed parent. Codecs and
face models are native code: on damaged files they do crash.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from portraitanim.errors import InputError

logger = logging.getLogger(__name__)

Task = TypeVar("Task")

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_ORPHAN_CHECK_SECONDS = 0.5
_TIMEOUT_CHECK_SECONDS = 1.0
_MAX_RESTARTS_IN_A_ROW = 5


@dataclass(frozen=True, kw_only=True)
class Done(Generic[Task]):
    """How a task ended.

    Attributes:
        task: the task.
        value: what the function returned, or ``None``.
        crash: why there is no value: the process died, or took too long.
    """

    task: Task
    value: Any = None
    crash: str | None = None


def run_tasks(
    function: Callable[[Task], Any],
    tasks: Sequence[Task],
    num_workers: int,
    *,
    timeout_seconds: float | None = None,
) -> Iterator[Done[Task]]:
    """Call a function for every task, in any order.

    Args:
        function: importable by name. Log records that it makes are handled in this process. What it raises ends the
            run; errors of a single task are its own to catch.
        tasks: picklable.
        num_workers: processes; 0 calls the function in this process.
        timeout_seconds: a task that takes longer is ended; has no effect without processes.

    Yields:
        Each task as soon as it has ended.

    Raises:
        InputError: ``num_workers`` is negative.
        RuntimeError: processes die before they begin, time and again.
        Exception: what the function raised.
    """
    if num_workers < 0:
        raise InputError(f"The number of workers must be 0 or more, got {num_workers}.")
    if num_workers == 0:
        for task in tasks:
            yield Done(task=task, value=function(task))
        return
    pool = _Pool(function, min(num_workers, len(tasks)), timeout_seconds)
    try:
        yield from pool.run(deque(tasks))
    finally:
        pool.stop()


class _Worker:
    """One process, and the task it has."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        with _single_threaded():
            self.process = context.Process(target=_serve, args=(function, theirs, os.getpid()), daemon=True)
            self.process.start()
        theirs.close()
        self.task: Any = None
        self.began = 0.0
        self.is_busy = self.is_ready = False

    def give(self, task: Any) -> None:
        self.task, self.is_busy, self.began = task, True, time.monotonic()
        with suppress(OSError):  # it died meanwhile: its end is noticed where all ends are
            self.pipe.send(task)

    def end(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()


class _Pool:
    def __init__(self, function: Callable[[Any], Any], num_workers: int, timeout_seconds: float | None) -> None:
        self._function = function
        self._timeout_seconds = timeout_seconds
        self._workers = [_Worker(function) for _ in range(num_workers)]
        self._num_failed_starts = 0

    def run(self, tasks: deque[Any]) -> Iterator[Done[Any]]:
        num_left = len(tasks)
        while num_left:
            for worker in self._workers:
                if not worker.is_busy and tasks:
                    worker.give(tasks.popleft())
            for worker in self._ended():
                for done in self._collect(worker, tasks):
                    num_left -= 1
                    yield done

    def stop(self) -> None:
        for worker in self._workers:
            worker.end()
        self._workers = []

    def _ended(self) -> list[_Worker]:
        """Workers that have something to say, have died, or have had their time."""
        signals = [signal for worker in self._workers for signal in (worker.pipe, worker.process.sentinel)]
        ready = set(wait(signals, timeout=_TIMEOUT_CHECK_SECONDS))
        return [
            worker
            for worker in self._workers
            if worker.pipe in ready or worker.process.sentinel in ready or self._is_late(worker)
        ]

    def _is_late(self, worker: _Worker) -> bool:
        limit = self._timeout_seconds
        return limit is not None and worker.is_busy and time.monotonic() - worker.began > limit

    def _collect(self, worker: _Worker, tasks: deque[Any]) -> Iterator[Done[Any]]:
        try:
            while worker.pipe.poll():
                kind, content = worker.pipe.recv()
                if kind == "ready":
                    worker.is_ready, self._num_failed_starts = True, 0
                elif kind == "log":
                    logging.getLogger(content.name).handle(content)
                elif kind == "error":
                    raise content
                else:
                    worker.is_busy = False
                    yield Done(task=worker.task, value=content)
            if worker.process.is_alive() and not self._is_late(worker):
                return
        except (EOFError, ConnectionError):
            pass
        yield from self._replace(worker, tasks)

    def _replace(self, worker: _Worker, tasks: deque[Any]) -> Iterator[Done[Any]]:
        late = self._is_late(worker)
        worker.end()
        code = worker.process.exitcode
        if worker.is_busy and worker.is_ready:
            reason = f"took more than {self._timeout_seconds:g} s" if late else f"ended its process (exit code {code})"
            logger.warning("A task %s: %s", reason, worker.task)
            yield Done(task=worker.task, crash=reason)
        elif worker.is_busy:
            tasks.appendleft(worker.task)  # it never began
            self._num_failed_starts += 1
            if self._num_failed_starts >= _MAX_RESTARTS_IN_A_ROW:
                raise RuntimeError(f"Worker processes end before they begin (exit code {code}). Try --workers 0.")
        self._workers[self._workers.index(worker)] = _Worker(self._function)


def _serve(function: Callable[[Any], Any], pipe: Connection, parent: int) -> None:
    """The process: one task after another, until the parent is gone."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _log_through(pipe)
    _limit_threads()
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        pipe.send(("ready", None))
        while True:
            task = pipe.recv()
            try:
                answer = ("done", function(task))
            except Exception as error:
                answer = ("error", error)
            pipe.send(answer)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ORPHAN_CHECK_SECONDS)
    os._exit(1)


def _log_through(pipe: Connection) -> None:
    package = logging.getLogger("portraitanim")
    package.handlers[:] = [_PipeHandler(pipe)]
    package.setLevel(logging.INFO)
    package.propagate = False


class _PipeHandler(logging.Handler):
    """Sends records to the parent, their text already made."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe
        self._lock = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        with self._lock, suppress(OSError):
            self._pipe.send(("log", record))


def _limit_threads() -> None:
    import cv2

    cv2.setNumThreads(1)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes that start inside use one thread each for arithmetic."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
