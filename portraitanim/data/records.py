"""A prepared dataset on disk: what `prep` and the clip synthesizer write, `train` and `eval` read.

DATASET/
  dataset.json                 format version, size, rate: what all clips share
  manifest.jsonl               one `ClipRecord` per line, paths relative to DATASET
  rejected.jsonl               what was dropped and why (prep only)
  clips/CLIP_ID/video.mp4      square face crop, H.264, at the dataset's size and rate
  clips/CLIP_ID/audio.flac     mono, 16 kHz, as long as the video to within one frame
  clips/CLIP_ID/face.safetensors
                               landmarks (frames, 478, 3) float32, pixels of the crop
                               masks (3, rows, columns) uint8, pose, expression, lip, for all frames
                               identity (512,) float32, where an identity encoder was installed
  clips/CLIP_ID/audio-ENCODER.safetensors
                               states (frames, layers, dim) of one audio encoder, float16, at the video rate, or at
                               the rate_hz of the file's metadata (Whisper: 50)
  clips/CLIP_ID/stills.safetensors
                               pictures (stills, 3, size, size) uint8 and landmarks (stills, 478, 3) float32: other
                               portraits of the person in the same clothes and light (synthetic clips only)
  clips/CLIP_ID/latents.safetensors
                               latents (frames, channels, height / 8, width / 8) float16, scaled; stills, the same
                               of the stills, where there are any
  prep/                        what a run of prep goes on from (`portraitanim.data.preparation.state`); may be deleted
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from portraitanim.errors import InputError
from portraitanim.media.files import whole_file

FORMAT_VERSION = 1
MANIFEST = "manifest.jsonl"
REJECTED = "rejected.jsonl"
SETTINGS = "dataset.json"
VIDEO, AUDIO, FACE = "video.mp4", "audio.flac", "face.safetensors"
STILLS, LATENTS = "stills.safetensors", "latents.safetensors"
"""Names of a clip's files. Readers take them from the manifest."""

Split = Literal["train", "test"]


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """One prepared clip. Paths are POSIX and relative to the dataset's root.

    Attributes:
        clip_id: name of the clip's folder, unique in the dataset.
        identity: name of the person; clips of one person stay in one split, unless all show the same one.
        split: ``train`` or ``test``.
        video: the face crop.
        audio: its sound, or ``None`` for a silent clip.
        face: landmarks, masks, and the identity embedding where there is one.
        audio_states: encoder name → file of its states.
        stills: other portraits of the person, which training may take for the reference, or ``None``.
        latents: the clip as scaled latents, or ``None``.
        num_frames: frames of the video.
        fps: frames per second.
        size_px: side of the square picture.
        scores: what was measured of the clip, by name.
        source: where it comes from: path, start and end in seconds, sha256, and what else is known.
        sha256: file → hash of its bytes, for every file above.
    """

    clip_id: str
    identity: str
    split: Split
    video: str
    face: str
    num_frames: int
    fps: float
    size_px: int
    audio: str | None = None
    audio_states: dict[str, str] = field(default_factory=dict)
    stills: str | None = None
    latents: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.split not in ("train", "test"):
            raise InputError(f"Clip {self.clip_id}: split must be train or test, got {self.split!r}.")
        for path in self.files():
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise InputError(f"Clip {self.clip_id}: {path} leaves the dataset's folder.")

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.fps

    def files(self) -> list[str]:
        """Every file of the clip, relative to the root."""
        paths = [self.video, self.face, self.audio, self.stills, self.latents, *self.audio_states.values()]
        return [path for path in paths if path is not None]

    def to_json(self) -> str:
        """The record as one line."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str, where: str = "manifest") -> ClipRecord:
        """Read a line that `to_json` wrote.

        Raises:
            InputError: not JSON, or not the fields of a record.
        """
        try:
            values = json.loads(line)
            unknown = set(values) - {f.name for f in fields(cls)}
            if unknown:
                raise InputError(f"{where}: unknown field {sorted(unknown)[0]!r} in a clip record.")
            return cls(**values)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{where}: not a clip record ({error}).") from None


def read_manifest(root: Path) -> Iterator[ClipRecord]:
    """The clips of the dataset in ``root``.

    Raises:
        InputError: there is no manifest, or a line of it is damaged.
    """
    path = Path(root) / MANIFEST
    if not path.is_file():
        raise InputError(f"{root} is not a prepared dataset: it has no {MANIFEST}. Make one with 'portraitanim prep'.")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield ClipRecord.from_json(line, f"{path}, line {number}")


def write_manifest(root: Path, records: Iterable[ClipRecord]) -> Path:
    """Write the manifest in one piece, sorted by clip; several processes may do so at once."""
    path = Path(root) / MANIFEST
    text = "".join(record.to_json() + "\n" for record in sorted(records, key=lambda record: record.clip_id))
    with whole_file(path, is_shared=True) as partial:
        partial.write_text(text, encoding="utf-8")
    return path
