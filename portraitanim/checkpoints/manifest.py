"""``portraitanim.json``: what a weights folder holds, made from which files, and the sha256 of each. No torch here."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from portraitanim.errors import DamagedWeightsError, MissingWeightsError
from portraitanim.media.files import sha256_of

MANIFEST_NAME = "portraitanim.json"
_FORMAT = 1
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file by its bytes; ``path`` is relative to the folder, with forward slashes."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content of ``portraitanim.json``.

    Attributes:
        name: name in the registry, such as ``hallo``.
        licence: licence of the weights, as the registry knows it.
        files: every file of the folder but the manifest.
        sources: the published files that it was made from.
        versions: software that wrote it.
        origin: where the sources came from, such as the hub's repository and commit; empty for a local folder.
    """

    name: str
    licence: str
    files: tuple[FileRecord, ...]
    sources: tuple[FileRecord, ...]
    versions: Mapping[str, str]
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class FileState:
    """Result for one file of `verify_folder`."""

    path: str
    state: Literal["intact", "missing", "damaged"]
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class VerificationReport:
    """Result of `verify_folder`; ``files`` are in the manifest's order."""

    name: str
    folder: str
    files: tuple[FileState, ...]

    @property
    def is_intact(self) -> bool:
        """Whether every file has the bytes that were recorded."""
        return all(file.state == "intact" for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"intact": self.is_intact, **asdict(self)}

    def raise_if_damaged(self) -> None:
        """Stop here unless all is intact.

        Raises:
            DamagedWeightsError: names the files.
        """
        bad = [f"{file.path} is {file.state}{f' ({file.detail})' if file.detail else ''}" for file in self.files]
        bad = [text for text, file in zip(bad, self.files, strict=True) if file.state != "intact"]
        if bad:
            raise DamagedWeightsError(
                f"Weights {self.name} in {self.folder}: {'; '.join(bad)}. "
                f"Install them again: portraitanim weights pull {self.name} --overwrite"
            )


def record_file(path: Path, root: Path) -> FileRecord:
    """Size and sha256 of a file, named relative to ``root`` (by its name alone if it lies elsewhere)."""
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return FileRecord(path=name, size_bytes=path.stat().st_size, sha256=sha256_of(path))


def write_manifest(
    folder: Path, name: str, licence: str, sources: Iterable[FileRecord] = (), origin: str = ""
) -> Manifest:
    """Record every file of a folder in its ``portraitanim.json``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    manifest = Manifest(
        name=name,
        licence=licence,
        files=tuple(record_file(path, folder) for path in files),
        sources=tuple(sources),
        versions=_versions(),
        origin=origin,
    )
    text = json.dumps({"format": _FORMAT, **asdict(manifest)}, indent=2, ensure_ascii=False)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's ``portraitanim.json``.

    Raises:
        MissingWeightsError: there is none.
        DamagedWeightsError: it is not one that this version reads.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise MissingWeightsError(f"{folder} holds no weights of portraitanim: there is no {MANIFEST_NAME} in it.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != _FORMAT:
            raise ValueError("written by another version of portraitanim")
        for key in ("files", "sources"):
            values[key] = tuple(FileRecord(**record) for record in values[key])
        return Manifest(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedWeightsError(f"{path} cannot be read ({error}). Install these weights again.") from None


def verify_folder(folder: Path, on_bytes: Callable[[int], None] | None = None) -> VerificationReport:
    """Compare every recorded file of a folder with its sha256.

    Args:
        folder: holds ``portraitanim.json``.
        on_bytes: called with the number of bytes that were read since the last call.

    Raises:
        MissingWeightsError: there is no manifest.
        DamagedWeightsError: the manifest itself cannot be read.
    """
    manifest = read_manifest(folder)
    states = tuple(_state(folder, record, on_bytes) for record in manifest.files)
    return VerificationReport(name=manifest.name, folder=str(folder), files=states)


def _state(folder: Path, record: FileRecord, on_bytes: Callable[[int], None] | None) -> FileState:
    path = folder / record.path
    if not path.is_file():
        return FileState(path=record.path, state="missing")
    size = path.stat().st_size
    if size != record.size_bytes:
        detail = f"{size:,} bytes, {record.size_bytes:,} were written"
        return FileState(path=record.path, state="damaged", detail=detail)
    if sha256_of(path, on_bytes) != record.sha256:
        return FileState(path=record.path, state="damaged", detail="other bytes than were written")
    return FileState(path=record.path, state="intact")


def git_sha1_of(path: Path) -> str:
    """Hex hash by which git knows a file's content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("portraitanim", "torch", "diffusers", "transformers", "safetensors"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # portraitanim itself, in a source tree
            versions[package] = "unknown"
    return versions
