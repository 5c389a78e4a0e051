from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portraitanim.data.preparation.worker_pool import run_tasks
from portraitanim.errors import InputError
from tests.unit.data.preparation import pool_functions as work

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_task_is_done_once(num_workers: int) -> None:
    done = list(run_tasks(work.square, list(range(9)), num_workers))
    assert sorted((d.task, d.value) for d in done) == [(n, n * n) for n in range(9)]


def test_workers_use_one_thread_each_and_the_parent_keeps_its_own_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert [d.value for d in run_tasks(work.threads_and_square, [3], 1)] == [("1", 9)]
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_task_that_kills_its_process_loses_only_itself() -> None:
    done = {d.task: d for d in run_tasks(work.crash_on_seven, list(range(10)), 2)}
    assert done[7].crash == "ended its process (exit code -9)"
    assert {n: d.value for n, d in done.items() if n != 7} == {n: n for n in range(10) if n != 7}


def test_task_that_hangs_is_ended() -> None:
    began = time.monotonic()
    done = {d.task: d for d in run_tasks(work.hang_on_seven, [7, 8], 1, timeout_seconds=3.0)}
    assert done[7].crash == "took more than 3 s"
    assert done[8].value == 8
    assert time.monotonic() - began < 40


def test_log_of_a_worker_is_the_log_of_the_parent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="portraitanim"):
        list(run_tasks(work.warn, [3], 1))
    assert "number 3 is odd" in caplog.text


@pytest.mark.parametrize("num_workers", [0, 1])
def test_error_that_is_no_tasks_fault_ends_the_run(num_workers: int) -> None:
    with pytest.raises(OSError, match="No space left"):
        list(run_tasks(work.full_disk, [1, 2], num_workers))


def test_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(InputError, match="0 or more"):
        list(run_tasks(work.square, [1], -1))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "from portraitanim.data.preparation.worker_pool import run_tasks\n"
        "from tests.unit.data.preparation.pool_functions import touch_and_sleep\n"
        f"if __name__ == '__main__': list(run_tasks(touch_and_sleep, [{str(tmp_path)!r}], 1))\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, cwd=ROOT)
    try:
        worker = _wait_for(lambda: next((int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()), None))
        parent.kill()
    finally:
        parent.kill()
        parent.wait()
    assert _wait_for(lambda: not _is_alive(worker))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A process that ended and was not waited for still has its number.
    status = Path(f"/proc/{process}/status")
    return not (status.is_file() and "State:\tZ" in status.read_text())


def _wait_for(condition, seconds: float = 30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")
