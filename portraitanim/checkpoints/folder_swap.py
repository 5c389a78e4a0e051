"""A folder that appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from portraitanim.errors import InputError, PortraitAnimError
from portraitanim.media.files import replace_folder

_GIB = 1 << 30


@contextmanager
def written_whole(target: Path, overwrite: bool, size_bytes: int = 0) -> Iterator[Path]:
    """Give an empty folder to write to; it takes the place of ``target`` when the block ends without error.

    Whatever goes wrong, also an interrupt, what was written is removed and ``target`` is as it was.

    Args:
        target: the folder to make.
        overwrite: whether an existing one may be replaced.
        size_bytes: what will be written, to refuse at once when the disk is too small.

    Raises:
        InputError: the target exists, and ``overwrite`` is off, or it is not a folder.
        PortraitAnimError: the disk is full, or not writable.
    """
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file. Name a folder.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise InputError(f"{target} is there already. Use --overwrite to replace it.")
    partial = target.with_name(f".{target.name}-{uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        free = shutil.disk_usage(partial).free
        if free < size_bytes:
            raise PortraitAnimError(
                f"{target} needs {size_bytes / _GIB:.1f} GiB, and {free / _GIB:.1f} GiB are free there. "
                "Make room, or choose another folder."
            )
        yield partial
        replace_folder(partial, target)
    except OSError as error:
        raise PortraitAnimError(
            f"Could not write {target}: {error.strerror or error}. Nothing was left behind."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
