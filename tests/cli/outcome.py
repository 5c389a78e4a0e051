"""What running a command gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Outcome:
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]
