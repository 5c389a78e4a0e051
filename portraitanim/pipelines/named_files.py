"""The files that a person names for a run: inputs that must be there, an output that must not."""

from __future__ import annotations

import os
from pathlib import Path

from portraitanim.errors import InputError
from portraitanim.media.files import existing_file
from portraitanim.media.video_formats import video_format

_MAX_NAME_BYTES = 235
"""File systems allow 255; the sidecar and unfinished files are called after the video."""


def check_files(
    portrait: str | Path, audio: str | Path | None, driving: str | Path | None, output: Path, *, overwrite: bool
) -> None:
    """Refuse files that are not there, and an output that is.

    Raises:
        InputError: which one, and what to do.
    """
    existing_file(portrait, "picture")
    if audio is not None:
        existing_file(audio, "sound")
    if driving is not None and not Path(driving).is_dir():
        existing_file(driving, "driving video or landmark")
    if output.name in ("", ".."):
        raise InputError(f"{str(output)!r} is no name for a video. Use --output with a name such as talk.mp4.")
    if len(os.fsencode(output.name)) > _MAX_NAME_BYTES:
        raise InputError(f"The name {output.name[:40]}… is too long for a file. Use --output with a shorter one.")
    video_format(output)
    try:
        taken = output.exists() and not (output.is_dir() and not any(output.iterdir()))
    except OSError as error:
        raise InputError(f"{output} cannot be looked at ({error.strerror}). Choose another --output.") from error
    if taken and not overwrite:
        raise InputError(f"{output} exists already. Use --overwrite to replace it, or another --output.")
    if taken and output.is_dir():
        raise InputError(f"{output} is a folder that is not empty; it is not overwritten. Use another --output.")
    for source in (portrait, audio, driving):
        if source is not None and taken and Path(source).resolve() == output.resolve():
            raise InputError(f"{output} is an input of this run and must not be overwritten. Use another --output.")
