"""Which generated video belongs to which true one: two folders with equal names, or a list of pairs. No torch here."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portraitanim.errors import InputError
from portraitanim.media.files import sha256_of

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")


@dataclass(frozen=True, kw_only=True)
class ClipPair:
    """A generated video and the true one.

    Attributes:
        name: unique in a run; names files of the result.
        generated: the video that is judged.
        true: what it should be.
        audio: the sound it was made from, where the generated file has none.
    """

    name: str
    generated: Path
    true: Path
    audio: Path | None = None

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            raise InputError(f"{self.name!r} cannot name a clip: it must be a file name without folders.")


def pair_folders(generated: Path, true: Path) -> tuple[list[ClipPair], list[str]]:
    """Pair the videos of two folders, or two files, by their names without suffix.

    Returns:
        The pairs by name, and a sentence for each kind of video that has no partner.

    Raises:
        InputError: a folder is missing or has no video, names are not unique, or nothing pairs.
    """
    if generated.is_file() and true.is_file():
        return [ClipPair(name=generated.stem, generated=generated, true=true)], []
    ours, theirs = _videos(generated), _videos(true)
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        raise InputError(
            f"No video of {generated} has the name of one of {true} (such as {min(ours)} and {min(theirs)}). "
            "Give them equal names, or a list with --pairs."
        )
    notes = []
    for folder, alone in ((generated, ours.keys() - theirs.keys()), (true, theirs.keys() - ours.keys())):
        if alone:
            shown = ", ".join(sorted(alone)[:4]) + (", …" if len(alone) > 4 else "")
            notes.append(f"{len(alone)} of {folder} without a partner: {shown}.")
    return [ClipPair(name=name, generated=ours[name], true=theirs[name]) for name in common], notes


def read_pairs(path: Path) -> list[ClipPair]:
    """Read a list of pairs: CSV with a header, or JSON lines, with ``generated``, ``true``, and optionally ``name``
    and ``audio``. Relative paths start at the list's folder.

    Raises:
        InputError: no such file, another layout, or a name twice.
    """  # noqa: D205
    if not path.is_file():
        raise InputError(f"There is no list of pairs {path}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(text.splitlines()))
        pairs = [_pair(row, path, number) for number, row in enumerate(rows, 1)]
    except (ValueError, UnicodeDecodeError, AttributeError) as error:
        raise InputError(f"{path} is no list of pairs ({error}). Expected CSV or .jsonl.") from None
    if not pairs:
        raise InputError(f"{path} lists no pairs.")
    names = [pair.name for pair in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path} names {len(twice)} clips twice, such as {twice[0]}. Add a column name.")
    return pairs


def content_hash(path: Path) -> str:
    """Hex sha256 of a file; of a file that cannot be read, a text that says so."""
    try:
        return sha256_of(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def hash_of_list(true_hashes: Mapping[str, str]) -> str:
    """Hash of a list of clips: name → sha256 of the true video."""
    text = json.dumps(dict(sorted(true_hashes.items())))
    return hashlib.sha256(text.encode()).hexdigest()


def _videos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Name two folders, or two videos.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise InputError(f"{found[path.stem]} and {path.name} have one name. Rename one of them.")
            found[path.stem] = path
    if not found:
        raise InputError(f"{folder} has no video ({', '.join(VIDEO_SUFFIXES)}).")
    return found


def _pair(row: Mapping[str, str | None], path: Path, number: int) -> ClipPair:
    missing = [name for name in ("generated", "true") if not row.get(name)]
    if missing:
        raise InputError(f"{path}, entry {number}: no {' and no '.join(missing)}. Expected generated, true.")
    generated, true, audio = (_beside(path, row.get(name)) for name in ("generated", "true", "audio"))
    assert generated is not None
    assert true is not None
    return ClipPair(name=row.get("name") or generated.stem, generated=generated, true=true, audio=audio)


def _beside(path: Path, name: str | None) -> Path | None:
    return path.parent / name if name else None
