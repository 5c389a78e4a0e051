"""Freed memory goes back to the system, where a process is told to."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HOLES = """
import sys
import numpy as np, psutil
from portraitanim.runtime import return_freed_memory

if sys.argv[1] == "told":
    return_freed_memory()
del_me = np.ones(31 * 2**20, np.uint8)
del del_me  # from here on, glibc keeps blocks of up to this size
blocks = [np.ones(4 * 2**20, np.uint8) for _ in range(20)]
before = psutil.Process().memory_info().rss
blocks = blocks[::2]
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' allocators give large blocks back by themselves")
def test_holes_between_blocks_are_given_back() -> None:
    def freed(word: str) -> int:
        done = subprocess.run([sys.executable, "-c", _HOLES, word], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert freed("told") > 35 * 2**20, "ten blocks of 4 MB"
    assert freed("untold") < 5 * 2**20, "glibc does not need to be told any more: drop return_freed_memory"
