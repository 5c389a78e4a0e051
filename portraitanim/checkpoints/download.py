"""Installing weights from the hub or their publishers; what is there already stays. No torch until used."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from portraitanim.checkpoints.file_download import download_file
from portraitanim.checkpoints.folder_swap import written_whole
from portraitanim.checkpoints.manifest import git_sha1_of, record_file, write_manifest
from portraitanim.checkpoints.registry import REGISTRY, WeightsEntry, find_entry
from portraitanim.checkpoints.store import folder_of, installed
from portraitanim.errors import CheckpointError, DamagedWeightsError, NetworkUnavailableError, PortraitAnimError
from portraitanim.media.files import sha256_of
from portraitanim.progress import ProgressReporter, ProgressTask, SilentProgress

logger = logging.getLogger(__name__)

_PROBE_SECONDS = 10.0


def names_to_install(name: str) -> list[str]:
    """A name and all that it needs, in the order in which they are installed."""
    entry = find_entry(name)
    needed = [inner for need in entry.needs for inner in names_to_install(need)]
    return list(dict.fromkeys([*needed, entry.name]))


def pull(
    name: str,
    *,
    dtype: str = "keep",
    overwrite: bool = False,
    progress: ProgressReporter | None = None,
) -> Path:
    """Download one set of weights and install it; what it needs is not followed, see `names_to_install`.

    The hub's client keeps downloads in its own cache (``HF_HOME``) and goes on where an earlier one broke off.

    Args:
        name: a name from the registry.
        dtype: number format of converted weights, see `portraitanim.checkpoints.convert.DTYPES`.
        overwrite: whether to install again what is installed.
        progress: told the bytes.

    Returns:
        The folder of the installed weights.

    Raises:
        InputError: there are no weights of that name.
        NetworkUnavailableError: the hub cannot be reached, or offline mode is on.
        PortraitAnimError: the hub refuses, or the disk is full.
        DamagedWeightsError: a file has another sha256 than was published.
    """
    entry = find_entry(name)
    target = folder_of(name)
    if installed(name) is not None and not overwrite:
        return target
    reporter = progress or SilentProgress()
    get = _download if entry.repo_id else download_file
    files = [get(entry, path, reporter) for path in entry.files]
    for published, file in zip(entry.files, files, strict=True):
        _check_sha256(entry, published, file)
    # The hub's cache keeps a repository's files under one folder per commit, laid out as in the repository.
    snapshot = Path(str(files[0]).removesuffix(entry.files[0]))
    origin = f"{entry.repo_id}@{snapshot.name}" if entry.repo_id else ", ".join(entry.urls.values())
    if not entry.converts:
        _copy(entry, files, target, overwrite, origin)
        return target
    from portraitanim.checkpoints.convert import convert

    try:
        convert(name, snapshot, target, dtype=dtype, overwrite=overwrite, progress=reporter, origin=origin)
    except CheckpointError as error:
        raise DamagedWeightsError(f"The download of {name} cannot be used: {error}") from None
    if not entry.repo_id:  # unlike the hub's cache, nobody else uses these
        shutil.rmtree(snapshot)
    return target


def _download(entry: WeightsEntry, path: str, progress: ProgressReporter) -> Path:
    from huggingface_hub import hf_hub_download

    with _plain_errors(entry, path):
        bar = _progress_bar(path, progress)
        return Path(hf_hub_download(entry.repo_id, path, tqdm_class=bar, local_files_only=not _hub_answers()))


def _hub_answers() -> bool:
    """Ask once: the client itself tries for half a minute before it says that there is no network."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PROBE_SECONDS)
    except Exception as error:  # the transport, and so its errors, differs between releases of the client
        logger.debug("%s does not answer: %s", constants.ENDPOINT, error)
        return False
    return True


@contextmanager
def _plain_errors(entry: WeightsEntry, path: str) -> Iterator[None]:
    """Turn the hub client's errors into sentences."""
    import huggingface_hub.errors as hub

    what = f"{path} of {entry.repo_id}"
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    by_hand = f"Or get it elsewhere and run: portraitanim weights convert FOLDER --system {entry.name}"
    advice = by_hand if entry.converts else "Or put it into the hub's cache from another computer (HF_HOME)."
    try:
        yield
    except hub.GatedRepoError:
        raise PortraitAnimError(
            f"{host} gives {what} only to users who accepted its terms. Log in: hf auth login"
        ) from None
    except (hub.RepositoryNotFoundError, hub.RemoteEntryNotFoundError, hub.RevisionNotFoundError):
        raise PortraitAnimError(f"{host} has no {what}: it was moved or removed. {advice}") from None
    except (hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError) as error:
        if _is_offline():
            raise NetworkUnavailableError(
                f"{what} is not in the hub's cache, and offline mode is on (HF_HUB_OFFLINE). Unset it. {advice}"
            ) from None
        raise _unreachable(host, what, advice, error) from None
    except OSError as error:
        if isinstance(error, hub.HfHubHTTPError | ConnectionError | TimeoutError) or error.errno is None:
            raise _unreachable(host, what, advice, error) from None
        raise PortraitAnimError(f"Could not keep {what} in the hub's cache: {error.strerror or error}.") from None
    except Exception as error:
        # The client's transport differs between releases (requests, httpx, xet); all have an error of this kind.
        if "http" in type(error).__module__ or "requests" in type(error).__module__:
            raise _unreachable(host, what, advice, error) from None
        raise


def _unreachable(host: str, what: str, advice: str, error: Exception) -> NetworkUnavailableError:
    logger.debug("The hub client said: %s", error)
    return NetworkUnavailableError(f"{host} cannot be reached for {what}. Check the network and try again. {advice}")


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _check_sha256(entry: WeightsEntry, published: str, file: Path) -> None:
    for expected, actual in (
        (entry.sha256.get(published), sha256_of),
        (entry.git_sha1.get(published), git_sha1_of),
    ):
        if expected is None or actual(file).startswith(expected):
            continue
        if not entry.repo_id:
            file.unlink(missing_ok=True)
        raise DamagedWeightsError(
            f"{published} of {entry.repo_id or entry.page} has other bytes than this version knows "
            f"({expected[:12]}…). It is damaged or was replaced: remove it from the hub's cache, where it is there, "
            "and try again."
        )


def _copy(entry: WeightsEntry, files: list[Path], target: Path, overwrite: bool, origin: str) -> None:
    with written_whole(target, overwrite, sum(file.stat().st_size for file in files)) as partial:
        for file in files:
            shutil.copyfile(file, partial / file.name)
        records = [record_file(partial / file.name, partial) for file in files]
        write_manifest(partial, entry.name, entry.licence, records, origin)


def licence_notes(names: list[str]) -> list[str]:
    """One sentence for each set of weights that is not known to be free for all use."""
    notes = []
    for entry in (REGISTRY[name] for name in names):
        if entry.commercial_use == "no":
            notes.append(f"Licence of {entry.name}: {entry.licence}.")
        elif entry.commercial_use == "unknown":
            notes.append(f"Licence of {entry.name}: {entry.licence}; read {entry.page}")
    return notes


def _progress_bar(path: str, progress: ProgressReporter) -> Any:
    """A class like tqdm's, which the hub's client makes its bars from, that reports to ours."""
    from tqdm import tqdm

    class HubProgress(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            total, done = options.get("total"), options.get("initial", 0)
            self._context: AbstractContextManager[ProgressTask] | None = progress.task(f"Downloading {path}", total)
            self._task = self._context.__enter__()
            self._task.advance(done or 0)
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            self._task.advance(n or 0)
            return None

        def close(self) -> None:
            if self._context is not None:
                self._context.__exit__(None, None, None)
                self._context = None
            super().close()

    return HubProgress
