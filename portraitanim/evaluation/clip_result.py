"""What was measured of one clip: one JSON line, a file of features, a strip of thumbnails. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from portraitanim.errors import InputError

CLIPS_FILE = "clips.jsonl"
FEATURES_FOLDER = "features"
THUMBNAILS_FOLDER = "thumbnails"
SIDES = ("generated", "true")


@dataclass(frozen=True, kw_only=True)
class ClipResult:
    """One clip.

    Attributes:
        name: of the pair.
        generated: path of the generated video.
        true: path of the true one.
        generated_sha256: content of the generated video.
        true_sha256: content of the true one.
        num_frames: frames that were compared.
        values: metric → value of the generated clip; ``None`` where there is none, with the reason in the notes.
        true_values: the same of the true clip, for metrics that look at one clip.
        num_features: set metric → samples of each side.
        notes: what should be known about the values.
        error: why nothing was measured, or empty.
        seconds: how long it took.
    """

    name: str
    generated: str
    true: str
    generated_sha256: str
    true_sha256: str
    num_frames: int = 0
    values: dict[str, float | None] = field(default_factory=dict)
    true_values: dict[str, float | None] = field(default_factory=dict)
    num_features: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0

    @property
    def is_measured(self) -> bool:
        """Whether it counts."""
        return not self.error

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClipResult:
        """Read what `to_json` wrote.

        Raises:
            InputError: other fields.
        """
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise InputError(f"Unknown field {sorted(unknown)[0]!r} in the result of a clip.")
        return cls(**{**values, "notes": tuple(values.get("notes", ()))})


def features_path(output: Path, name: str) -> Path:
    """File of a clip's features."""
    return output / FEATURES_FOLDER / f"{name}.safetensors"


def thumbnail_path(output: Path, name: str) -> Path:
    """Picture of a clip: generated frames above the true ones."""
    return output / THUMBNAILS_FOLDER / f"{name}.jpg"


def read_clip_results(output: Path) -> Iterator[ClipResult]:
    """Results of an earlier run; a last line that a kill cut off is passed over.

    Raises:
        InputError: a whole line is damaged.
    """
    path = output / CLIPS_FILE
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                return
            try:
                yield ClipResult.from_dict(json.loads(line))
            except (ValueError, TypeError, AttributeError) as error:
                raise InputError(f"{path}, line {number}: not the result of a clip ({error}).") from None
