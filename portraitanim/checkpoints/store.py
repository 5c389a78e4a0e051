"""Where installed weights live, and what is there. No torch here."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from portraitanim.checkpoints.manifest import MANIFEST_NAME, VerificationReport, read_manifest, verify_folder
from portraitanim.checkpoints.registry import REGISTRY, find_entry
from portraitanim.config.audio import AUDIO_ENCODER_FOLDER, AudioConfig
from portraitanim.errors import MissingWeightsError
from portraitanim.progress import ProgressReporter, SilentProgress

WEIGHTS_VARIABLE = "PORTRAITANIM_WEIGHTS"
"""Environment variable that names another folder for installed weights."""


def weights_folder() -> Path:
    """Folder of all installed weights: ``PORTRAITANIM_WEIGHTS``, else in the platform's cache of this user."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    return Path(named).expanduser().absolute() if named else user_cache_path("portraitanim") / "weights"


def folder_of(name: str) -> Path:
    """Where the weights of that name are, or would be."""
    return weights_folder() / find_entry(name).name


def installed(name: str) -> Path | None:
    """Folder of installed weights, or ``None``.

    Raises:
        InputError: there are no weights of that name.
    """
    folder = folder_of(name)
    return folder if (folder / MANIFEST_NAME).is_file() else None


def require(name: str) -> Path:
    """Folder of installed weights.

    Raises:
        MissingWeightsError: they are not installed; the message has the command that does it.
    """
    folder = installed(name)
    if folder is None:
        raise MissingWeightsError(
            f"The weights {name} are not installed in {weights_folder()}. Run: portraitanim weights pull {name}"
        )
    return folder


def installed_names() -> list[str]:
    """Names of all installed weights, in the order of the registry."""
    return [name for name in REGISTRY if installed(name) is not None]


def audio_encoder_folder(pipeline_folder: Path, audio: AudioConfig) -> Path | None:
    """Folder of the audio encoder of weights: their own, else the installed one; ``None`` where it has no weights.

    Args:
        pipeline_folder: what `portraitanim.checkpoints.convert.convert` or `portraitanim.training.trainer.train` wrote.
        audio: from the preset.

    Raises:
        MissingWeightsError: there is neither.
    """
    if audio.family == "log-mel":
        return None
    own = pipeline_folder / AUDIO_ENCODER_FOLDER
    if own.is_dir():
        return own
    if audio.is_family:
        raise MissingWeightsError(
            f"{pipeline_folder} has no {AUDIO_ENCODER_FOLDER}, the {audio.encoder} checkpoint that these weights were "
            "trained with. Copy the whole folder that train wrote."
        )
    return require(audio.encoder)


def verify(name_or_folder: str, progress: ProgressReporter | None = None) -> VerificationReport:
    """Compare installed weights, or a converted folder, with the bytes that were recorded.

    Args:
        name_or_folder: a name from the registry, or the path of a folder with ``portraitanim.json``.
        progress: told the bytes that are read.

    Raises:
        MissingWeightsError: they are not installed, or the folder has no manifest.
        DamagedWeightsError: the manifest cannot be read. Other damage is in the report.
    """
    is_path = name_or_folder not in REGISTRY and (os.sep in name_or_folder or Path(name_or_folder).is_dir())
    folder = Path(name_or_folder) if is_path else require(name_or_folder)
    total = sum(record.size_bytes for record in read_manifest(folder).files)
    with (progress or SilentProgress()).task(f"Verifying {name_or_folder}", total) as task:
        return verify_folder(folder, task.advance)
