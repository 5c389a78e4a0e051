"""Files that lie on plain web servers: fetched in pieces, and gone on with where an earlier attempt broke off."""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from portraitanim.checkpoints.registry import WeightsEntry
from portraitanim.checkpoints.store import weights_folder
from portraitanim.errors import NetworkUnavailableError, PortraitAnimError
from portraitanim.progress import ProgressReporter

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20


def download_file(entry: WeightsEntry, name: str, progress: ProgressReporter) -> Path:
    """Fetch one file of weights that are not on the hub.

    It is kept under ``downloads`` in the folder of the weights until they are installed.

    Args:
        entry: the weights.
        name: one of ``entry.files``.
        progress: told the bytes.

    Returns:
        Where the file is, whole.

    Raises:
        NetworkUnavailableError: the server cannot be reached, or the connection broke.
        PortraitAnimError: the server refuses, or the disk is full.
    """
    target = weights_folder() / "downloads" / entry.name / name
    if target.is_file():
        return target
    partial = target.with_name(target.name + ".partial")
    advice = f"Or get the file elsewhere and run: portraitanim weights convert FOLDER --system {entry.name}"
    url = entry.urls[name]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, partial, name, progress)
        partial.replace(target)
    except urllib.error.HTTPError as error:
        raise PortraitAnimError(f"{url} answers {error.code} ({error.reason}). {advice}") from None
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        logger.debug("%s: %s", url, error)
        raise NetworkUnavailableError(
            f"{url} cannot be reached, or broke off. Check the network and try again; it goes on where it stopped. "
            f"{advice}"
        ) from None
    except OSError as error:
        raise PortraitAnimError(f"Could not write {partial}: {error.strerror or error}.") from None
    return target


def _fetch(url: str, partial: Path, name: str, progress: ProgressReporter) -> None:
    done = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise
        # All of it was there already, or it is another file now: the checksum would say, so it is fetched anew.
        partial.unlink()
        _fetch(url, partial, name, progress)
        return
    with answer:
        # A server that does not know ranges sends the whole file.
        done = done if answer.status == HTTPStatus.PARTIAL_CONTENT else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        with progress.task(f"Downloading {name}", total) as task, partial.open("ab" if done else "wb") as file:
            task.advance(done)
            while chunk := answer.read(_CHUNK_BYTES):
                file.write(chunk)
                task.advance(len(chunk))
                done += len(chunk)
    if total is not None and done < total:
        raise ConnectionError(f"{done} of {total} bytes came")
