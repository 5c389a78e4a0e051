"""What the README tells people to type is what CI types."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def _commands(section: str) -> list[str]:
    text = (_ROOT / "README.md").read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def test_ci_runs_the_commands_of_the_readme_in_their_order() -> None:
    script = [re.sub(r"\s+-q\b", "", line) for line in (_ROOT / ".ci" / "run").read_text().splitlines()]
    make_environment, *others = _commands("Set up") + _commands("Tests")
    assert make_environment.startswith("python3.11 -m venv")  # CI puts its environment elsewhere
    assert [line for line in script if line in others] == others


def test_ci_can_be_run() -> None:
    assert os.access(_ROOT / ".ci" / "run", os.X_OK)
