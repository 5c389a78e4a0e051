"""What a run of `prep` has done so far, on disk, so that a killed run goes on where it stopped.

DATASET/prep/
  settings.json          the config of this dataset
  judges.json            the networks by which its clips are judged
  scans/SOURCE.json      one source: its candidates, or why it cannot be read
  sound/SOURCE.flac      its sound, mono, 16 kHz
  outcomes/CLIP.json     one candidate: its scores, whether it is kept, its record
  thumbs/CLIP.jpg        a small picture of it, for the report
  features/CLIP.json     what add_features has written for it
  work/PROCESS/          unfinished clips
  shards/I-of-N.json     a machine's share that is finished
  run-SHARE.lock         held by the process that works on a share

Every file is written under another name first. The folder may be deleted when the dataset is done.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, TypeVar

from portraitanim.data.preparation.scenes import Candidate
from portraitanim.errors import InputError
from portraitanim.media.files import publish, write_error

logger = logging.getLogger(__name__)

FOLDER = "prep"
SETTINGS_FILE = "settings.json"


@dataclass(frozen=True, kw_only=True)
class SourceScan:
    """What is in a source.

    Attributes:
        name: of the source.
        size_bytes: of the video file; a file of another size is scanned anew.
        modified_ns: when the video file was last written; one that could not be read is tried again when this changes.
            ``None`` where it is not known.
        sha256: of the video file.
        has_sound: whether there is a sound track.
        candidates: stretches without a cut.
        error: why it cannot be read, or ``None``.
    """

    name: str
    size_bytes: int
    modified_ns: int | None = None
    sha256: str = ""
    has_sound: bool = False
    candidates: tuple[Candidate, ...] = ()
    error: str | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SourceScan:
        """Read what `asdict` gave."""
        return cls(**{**values, "candidates": tuple(Candidate(**item) for item in values["candidates"])})


@dataclass(frozen=True, kw_only=True)
class ClipOutcome:
    """What became of a candidate.

    Attributes:
        clip_id: its name.
        source_name: the source it was cut from.
        dataset: where the source is listed.
        identity: the person, as far as the source tells.
        source: path, times and hash, for the record.
        is_written: whether the clip's files are there.
        has_sound: whether the clip has sound.
        scores: what was measured.
        error: why it could not be measured, or ``None``.
        num_frames: frames of the written clip.
        sha256: file of the written clip → hash of its bytes.
        picture_hash: see `portraitanim.data.preparation.clip_writing.picture_hash`.
        mouth: opening of the mouth in each frame of a written clip, to find copies by.
    """

    clip_id: str
    source_name: str
    dataset: str
    identity: str
    source: dict[str, Any]
    is_written: bool = False
    has_sound: bool = False
    scores: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    num_frames: int = 0
    sha256: dict[str, str] = field(default_factory=dict)
    picture_hash: str = ""
    mouth: tuple[float, ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClipOutcome:
        """Read what `asdict` gave."""
        return cls(**{**values, "mouth": tuple(values["mouth"])})


_Stored = TypeVar("_Stored", SourceScan, ClipOutcome)


@dataclass(frozen=True)
class PreparationState:
    """The state below a dataset's root; only paths, so that processes can be given it.

    Attributes:
        root: the dataset.
    """

    root: Path

    @property
    def folder(self) -> Path:
        """Everything here is below this folder."""
        return self.root / FOLDER

    def sound(self, source_name: str) -> Path:
        """The sound of a source."""
        return self.folder / "sound" / f"{source_name}.flac"

    def thumb(self, clip_id: str) -> Path:
        """The small picture of a candidate."""
        return self.folder / "thumbs" / f"{clip_id}.jpg"

    def scan(self, source_name: str) -> SourceScan | None:
        """The scan of a source, or ``None`` if there is no whole one."""
        return _load(self._scan_path(source_name), SourceScan)

    def save_scan(self, scan: SourceScan) -> None:
        """Keep the scan of a source."""
        write_json(self._scan_path(scan.name), asdict(scan))

    def outcome(self, clip_id: str) -> ClipOutcome | None:
        """What became of a candidate, or ``None`` if that is not known."""
        return _load(self._outcome_path(clip_id), ClipOutcome)

    def save_outcome(self, outcome: ClipOutcome) -> None:
        """Keep what became of a candidate."""
        write_json(self._outcome_path(outcome.clip_id), asdict(outcome))

    def forget(self, clip_id: str) -> None:
        """Make a candidate undone."""
        self._outcome_path(clip_id).unlink(missing_ok=True)
        shutil.rmtree(self.root / "clips" / clip_id, ignore_errors=True)

    def clear_work(self) -> None:
        """Remove what killed processes left unfinished."""
        shutil.rmtree(self.folder / "work", ignore_errors=True)

    def _scan_path(self, source_name: str) -> Path:
        return self.folder / "scans" / f"{source_name}.json"

    def _outcome_path(self, clip_id: str) -> Path:
        return self.folder / "outcomes" / f"{clip_id}.json"


def write_json(path: Path, values: Any) -> None:
    """Write JSON in one step, safe beside other processes that write other files or the same.

    Raises:
        MediaError: the system refuses to write (disk full, no permission).
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(values, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        publish(partial, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read JSON; ``None`` where the file is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def only_run(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, so that two runs do not write one dataset.

    Raises:
        InputError: another process holds it.
        MediaError: nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a+")
    except OSError as error:
        raise write_error(path, error) from error
    with opened as file:
        if not _lock(file):
            raise InputError(
                f"Another run of prep is writing here ({path}). Wait for it, or give each run its own --shard."
            )
        yield


def _load(path: Path, cls: type[_Stored]) -> _Stored | None:
    values = read_json(path)
    # Fields may lack that earlier versions did not have.
    if not isinstance(values, dict) or not set(values) <= {f.name for f in fields(cls)}:
        return None
    with suppress(TypeError, ValueError, KeyError):
        return cls.from_dict(values)
    return None


def _lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        logger.warning("This disk has no locks; see to it that only one run of prep writes to it.")
    return True
