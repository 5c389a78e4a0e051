"""The process's entrance: what must be settled before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_CALL = """
import os, sys
sys.argv[1:] = ["--version"]
from portraitanim.__main__ import main
early = "torch" in sys.modules
try:
    main()
except SystemExit:
    print(os.environ["GOMP_SPINCOUNT"], early)
"""


@pytest.mark.parametrize(("own_choice", "expected"), [(None, "2000"), ("77", "77")])
def test_waiting_threads_spin_briefly_unless_the_user_chose(own_choice: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if own_choice is not None:
        environment["GOMP_SPINCOUNT"] = own_choice
    result = subprocess.run([sys.executable, "-c", _CALL], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1].split() == [expected, "False"]
