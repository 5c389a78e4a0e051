"""What the workers of the pool's tests do; imported by name in their processes."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path


def square(number: int) -> int:
    return number * number


def threads_and_square(number: int) -> tuple[str, int]:
    return os.environ["OMP_NUM_THREADS"], number * number


def crash_on_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def hang_on_seven(number: int) -> int:
    if number == 7:
        time.sleep(60)
    return number


def warn(number: int) -> int:
    logging.getLogger("portraitanim.tests").warning("number %d is odd", number)
    return number


def full_disk(number: int) -> int:
    raise OSError(28, "No space left on device")


def touch_and_sleep(folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)
