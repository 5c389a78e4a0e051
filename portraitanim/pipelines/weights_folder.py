"""A folder of weights: a diffusers pipeline, and the preset that says what it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from portraitanim.config.audio import AUDIO_ENCODER_FOLDER
from portraitanim.config.presets import load_preset
from portraitanim.config.schema import Preset, to_dict
from portraitanim.errors import ConfigError, DamagedWeightsError, InputError, MissingWeightsError
from portraitanim.media.files import whole_file

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderTiny

    from portraitanim.models.embedders import AudioProjection
    from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline

PRESET_FILE = "preset.yaml"
"""The full preset, in folders of weights whose system is not one of those that this package carries."""

_INDEX = "model_index.json"


def read_preset(folder: Path) -> Preset:
    """The system that the weights belong to, without loading them.

    Raises:
        MissingWeightsError: the folder holds no pipeline.
        DamagedWeightsError: its index or preset cannot be read.
    """
    index = folder / _INDEX
    if not index.is_file():
        raise MissingWeightsError(
            f"{folder} holds no pipeline (no {_INDEX}). Name a folder that 'portraitanim weights convert' or "
            "'portraitanim train' wrote."
        )
    try:
        values = json.loads(index.read_text(encoding="utf-8"))
        own = folder / PRESET_FILE
        name = str(own) if own.is_file() else values["preset"]
        preset = load_preset(name, {"sampling": values["sampling"], "quirks": values["quirks"]})
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise DamagedWeightsError(f"{index} cannot be read ({error}). Install or convert the weights again.") from error
    if not preset.audio.is_family:
        return preset
    return replace(preset, audio=replace(preset.audio, weights=str(folder / AUDIO_ENCODER_FOLDER)))


def write_preset(preset: Preset, folder: Path) -> Path:
    """Put the full preset into a weights folder, so that `read_preset` finds it.

    An audio encoder that has no name belongs into the folder, too; where it was, is not written.
    """
    path = folder / PRESET_FILE
    values = to_dict(replace(preset, audio=replace(preset.audio, weights=None)))
    with whole_file(path) as partial:
        partial.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def named_folder(key: str, folder: str) -> Path:
    """The folder that a config names; what is none would be taken by diffusers for a name on a hub, and looked up.

    Raises:
        InputError: there is no such folder.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError(f"{key} is {folder!r}, and there is no such folder. Name a folder that 'train' wrote.")
    return path


def load_autoencoder(folder: Path, device: torch.device) -> Any:
    """The autoencoder of a weights folder, or of a folder with nothing else, in float32.

    Raises:
        MissingWeightsError: it holds none.
        DamagedWeightsError: it cannot be read.
    """
    import torch
    from diffusers import AutoencoderKL

    own = _component_folder(folder, "vae", "autoencoder", "Name weights, or a folder that train wrote.")
    with _reading(str(own), "Install it again."):
        autoencoder = AutoencoderKL.from_pretrained(own, torch_dtype=torch.float32)
    return autoencoder.to(device).requires_grad_(False).eval()


def load_audio_projection(folder: Path) -> AudioProjection:
    """The audio projection of a weights folder, or of a folder with nothing else.

    Raises:
        MissingWeightsError: it holds none.
        DamagedWeightsError: it cannot be read.
    """
    from portraitanim.models.embedders import AudioProjection

    advice = "Name a folder that train --stage audio wrote."
    own = _component_folder(folder, "audio_projection", "audio projection", advice)
    with _reading(str(own), "Train it again."):
        return AudioProjection.from_pretrained(own)


def load_pipeline(folder: Path, dtype: torch.dtype) -> PortraitAnimationPipeline:
    """Read the networks of a weights folder.

    Raises:
        DamagedWeightsError: a file is missing or cannot be read.
    """
    from diffusers.utils import logging as diffusers_logging

    from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline

    diffusers_logging.disable_progress_bar()
    with _reading(f"The weights in {folder}", "Install them again."):
        return PortraitAnimationPipeline.from_pretrained(folder, dtype=dtype)


def load_small_decoder(folder: Path, dtype: torch.dtype, device: torch.device) -> AutoencoderTiny:
    """Read a TAESD-compatible autoencoder, whose decoder takes the place of the weights' own.

    Raises:
        DamagedWeightsError: a file is missing or cannot be read.
    """
    from diffusers import AutoencoderTiny

    with _reading(f"The small decoder in {folder}", "Install it again."):
        decoder = AutoencoderTiny.from_pretrained(folder, torch_dtype=dtype)
    return decoder.to(device).eval()


def _component_folder(folder: Path, name: str, what: str, advice: str) -> Path:
    """Where a component is: in a folder of its own below a pipeline's, or in the folder that is named itself."""
    own = folder / name if (folder / _INDEX).is_file() else folder
    if not (own / "config.json").is_file():
        raise MissingWeightsError(f"{folder} holds no {what}. {advice}")
    return own


@contextmanager
def _reading(what: str, advice: str) -> Iterator[None]:
    """Turn what diffusers raises for a missing or damaged file into an error that says what to do."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DamagedWeightsError(f"{what} cannot be read ({reason}). {advice}") from error
