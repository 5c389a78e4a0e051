"""Files that are either whole or absent: checks before reading, a partial name while writing."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from portraitanim.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE_BYTES = 1 << 22
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def existing_file(path: str | Path, kind: str) -> Path:
    """Check that a path is an ordinary file with something in it.

    Pipes and devices are refused: reading one could wait for ever.

    Args:
        path: what the user named.
        kind: what it should be, for the message ("picture", "sound", "video").

    Raises:
        MediaError: it is absent, a folder, a device, empty or not readable.
    """
    path = Path(path)
    try:
        found = path.exists()
    except OSError as error:  # a folder on the way may not be entered, or the name is too long
        raise MediaError(f"{path} cannot be reached ({error.strerror}). Expected a {kind} file.") from error
    if not found:
        raise MediaError(f"{path} does not exist. Expected a {kind} file: check the name and the folder.")
    if path.is_dir():
        raise MediaError(f"{path} is a folder. Expected a {kind} file: name one file inside it.")
    if not path.is_file():
        raise MediaError(f"{path} is a pipe or device. Expected a {kind} file: save it to disk first.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes). Expected a {kind} file: copy it again.")
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path} may not be read by you. Expected a {kind} file: change its permissions.")
    return path


def sha256_of(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Hex sha256 of a file, read in pieces.

    Args:
        path: the file.
        on_bytes: called with the length of each piece, to show progress.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            if on_bytes is not None:
                on_bytes(len(piece))
    return digest.hexdigest()


def partial_path(path: Path) -> Path:
    """The name that a file has until it is complete: ``clip.mp4`` becomes ``clip.partial.mp4``."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def prepare_output(path: str | Path) -> Path:
    """Check that a file can be put at ``path`` and make its folder.

    Raises:
        MediaError: the path is a folder, or its folder cannot be made.
    """
    path = Path(path)
    if path.is_dir():
        raise MediaError(f"Cannot write {path}: it is a folder. Name a file inside it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    return path


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its final name in one step.

    Raises:
        MediaError: the system refuses.
    """
    try:
        os.replace(partial, path)
    except OSError as error:
        raise write_error(path, error) from error


def replace_folder(partial: Path, path: Path) -> None:
    """Give a finished folder its final name, instead of an older folder, which stays where that fails.

    Raises:
        OSError: the system refuses.
    """
    if not path.exists():
        os.replace(partial, path)
        return
    old = partial.with_name(f"{partial.name}-old")
    discard(old)
    os.replace(path, old)
    try:
        os.replace(partial, path)
    except OSError:
        os.replace(old, path)
        raise
    discard(old)


def discard(partial: Path) -> None:
    """Remove an unfinished file or folder; never raises, as it runs while another error is on its way."""
    with suppress(OSError):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_file(path: str | Path, *, is_shared: bool = False) -> Iterator[Path]:
    """Write to a partial name; the final name appears only when the block ends without an error.

    Args:
        path: the final name.
        is_shared: several processes may write it at once: each has a partial name of its own, the last to end counts.

    Yields:
        The partial path, with the suffix of the final one.

    Raises:
        MediaError: the system refuses to write.
    """
    path = prepare_output(path)
    partial = partial_path(path.with_stem(f"{path.stem}-{os.getpid()}") if is_shared else path)
    try:
        yield partial
        publish(partial, path)
    except Exception as error:
        cause = system_error(error)
        if cause is None:
            raise
        raise write_error(path, cause) from error
    finally:
        discard(partial)


def system_error(error: BaseException) -> OSError | None:
    """The system's error that this one is, or that libraries written in Rust put into the text of their own."""
    if isinstance(error, OSError):
        return error
    found = _OS_ERROR.search(str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def write_error(path: Path, error: BaseException) -> MediaError:
    """Say in a person's words why a file could not be written."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return MediaError(f"Cannot write {path}: the disk is full. Free space or choose another --output.")
    if code == errno.EFBIG:
        return MediaError(f"Cannot write {path}: so large a file is not allowed. Choose another --output.")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MediaError(f"Cannot write {path}: no permission. Choose another --output.")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return MediaError(f"Cannot write {path}: {reason}. Choose another --output or format.")
