"""How much of a list was there and was used, and a fingerprint of the clips that were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from portraitanim.data.preparation.sources import SourceClip
from portraitanim.data.records import ClipRecord


@dataclass(frozen=True, kw_only=True)
class ListedSource:
    """One line of a list: what of a `SourceClip` does not depend on the machine, and whether it was there."""

    name: str
    dataset: str
    path: str
    start_seconds: float
    end_seconds: float | None
    is_found: bool

    @classmethod
    def of(cls, clip: SourceClip) -> ListedSource:
        """The line of a source."""
        return cls(
            name=clip.name,
            dataset=clip.dataset,
            path=clip.path,
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
            is_found=clip.video is not None,
        )


@dataclass(frozen=True, kw_only=True)
class CoverageRow:
    """What became of one list.

    Attributes:
        dataset: name of the list.
        num_listed: clips in the list.
        num_found: those whose video is on disk.
        num_used: those of which at least one clip was kept.
        num_kept: clips that were kept.
        kept_seconds: their length.
    """

    dataset: str
    num_listed: int
    num_found: int
    num_used: int
    num_kept: int
    kept_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data."""
        return asdict(self)


def coverage(listing: Sequence[ListedSource], kept: Sequence[ClipRecord]) -> list[CoverageRow]:
    """One row for each list, in alphabetical order."""
    rows = []
    for dataset in sorted({source.dataset for source in listing}):
        listed = [source for source in listing if source.dataset == dataset]
        clips = [record for record in kept if record.source.get("dataset") == dataset]
        rows.append(
            CoverageRow(
                dataset=dataset,
                num_listed=len(listed),
                num_found=sum(source.is_found for source in listed),
                num_used=len({record.source.get("name") for record in clips}),
                num_kept=len(clips),
                kept_seconds=round(sum(record.duration_seconds for record in clips), 3),
            )
        )
    return rows


def fingerprint(kept: Iterable[ClipRecord]) -> str:
    """16 hexadecimal digits that are the same exactly when the same stretches of the same sources were kept.

    Names, times and the split count; where the videos lie, how they are encoded and how they scored does not.
    """
    lines = sorted(
        f"{record.source.get('dataset')} {record.source.get('name')} {record.source.get('start_seconds')} "
        f"{record.source.get('end_seconds')} {record.split}"
        for record in kept
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
