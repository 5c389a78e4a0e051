"""A machine's share of the sources."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from portraitanim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A machine's share of the work.

    Attributes:
        index: from 1.
        count: how many machines there are.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"A shard is I/N with I from 1 to N, got {self.index}/{self.count}.")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/8``.

        Raises:
            InputError: it is something else.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None:
            raise InputError(f"A shard is I/N, such as 2/8, got {text!r}.")
        return cls(index=int(match.group(1)), count=int(match.group(2)))

    def has(self, source_name: str) -> bool:
        """Whether a source belongs to this share; each belongs to exactly one."""
        return int(hashlib.sha256(source_name.encode()).hexdigest(), 16) % self.count == self.index - 1
