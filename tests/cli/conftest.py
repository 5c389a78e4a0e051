from __future__ import annotations

from pathlib import Path

import pytest

from portraitanim.cli.app import run
from tests.cli.outcome import Cli, Outcome


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process."""

    def call(*words: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            run([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code=int(ended.value.code or 0), out=captured.out, err=captured.err)

    return call
