"""Which clips a result stands on, and how much of their list that is. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from portraitanim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ClipList:
    """A list of clips and its coverage.

    Attributes:
        dataset: ``hdtf``, ``celebv``, ``wild``, or the lists that a prepared dataset was made from.
        test_share: share of the identities that is held out; ``None`` where that is not known.
        split_seed: which ones.
        num_listed: entries of the list: of its test split, or of the whole list where `prep` split what it kept.
        num_found: those whose video is on disk.
        num_used: those of which a clip is used.
        num_clips: clips that are used; a long video gives several.
        fingerprint: 16 hexadecimal digits, equal exactly when the same stretches of the same entries are used.
    """

    dataset: str
    test_share: float | None
    split_seed: int | None
    num_listed: int
    num_found: int
    num_used: int
    num_clips: int
    fingerprint: str

    def __str__(self) -> str:
        return (
            f"{self.dataset}: {self.num_listed} listed, {self.num_found} found on disk, {self.num_used} used, "
            f"which give {self.num_clips} clips; fingerprint of the list {self.fingerprint}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClipList:
        """Read what `to_dict` gave.

        Raises:
            InputError: other fields.
        """
        if set(values) != {field.name for field in fields(cls)}:
            raise InputError(f"Not a list of clips: it has the fields {', '.join(sorted(values)) or 'none'}.")
        return cls(**values)
