"""The audio encoders of the published folders, as folders that `load_audio_encoder` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from portraitanim.audio import wav2vec, whisper
from portraitanim.audio.encoder_folders import CONFIG_FILE, WEIGHTS_FILE, read_encoder_config
from portraitanim.checkpoints.component import Component, shapes_of
from portraitanim.checkpoints.key_table import KeyTable, translate
from portraitanim.checkpoints.layouts import WAV2VEC_FILES, WHISPER_FILES
from portraitanim.errors import CheckpointError, ConfigError, DamagedWeightsError
from portraitanim.tensor_files import read_checkpoint

WAV2VEC_TABLE = KeyTable(
    what="wav2vec2-base-960h",
    renames=wav2vec.WAV2VEC_KEYS,
    unused=wav2vec.WAV2VEC_IGNORED_KEYS,
    optional=dict.fromkeys(wav2vec.WAV2VEC_OPTIONAL_KEYS, "stands for masked time steps, and only pre-training masks"),
)
"""The recogniser's file in both spellings of weight normalisation."""

OPENAI_WHISPER_TABLE = KeyTable(
    what="OpenAI's Whisper",
    renames=whisper.OPENAI_WHISPER_ENCODER_KEYS,
    unused=whisper.OPENAI_WHISPER_IGNORED_KEYS,
)
"""The ``model_state_dict`` of OpenAI's ``.pt`` files."""

HF_WHISPER_TABLE = KeyTable(
    what="Whisper",
    renames=whisper.HF_WHISPER_ENCODER_KEYS,
    unused=whisper.HF_WHISPER_IGNORED_KEYS,
)
"""The layout of transformers."""


def read_audio_encoder(name: str, folder: Path, component: str) -> Component | None:
    """The audio encoder in a folder, or ``None`` if it holds none.

    Args:
        name: ``wav2vec2-base-960h`` or ``whisper-tiny``.
        folder: where to look.
        component: subfolder that it will be written to.

    Raises:
        CheckpointError: there is one, and it is damaged or of another kind.
    """
    files = WHISPER_FILES if name == "whisper-tiny" else WAV2VEC_FILES
    path = next((folder / file for file in files if (folder / file).is_file()), None)
    if path is None:
        return None
    return _whisper(path, component) if name == "whisper-tiny" else _wav2vec(path, component)


def _wav2vec(path: Path, component: str) -> Component:
    config = _config("wav2vec2", path.with_name(CONFIG_FILE))
    return _component(component, path, wav2vec.Wav2Vec2AudioEncoder, config, WAV2VEC_TABLE, read_checkpoint(path)[0])


def _whisper(path: Path, component: str) -> Component:
    tensors, beside = read_checkpoint(path)
    if "dims" in beside:
        try:
            config = whisper.whisper_config_from_dims(beside["dims"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path} has no usable dimensions ({error}). Download it again.") from None
        table = OPENAI_WHISPER_TABLE
    else:
        config = _config("whisper", path.with_name(CONFIG_FILE))
        table = HF_WHISPER_TABLE
    return _component(component, path, whisper.WhisperAudioEncoder, config, table, tensors)


def _component(
    name: str, path: Path, cls: Callable[[Any], Any], config: Any, table: KeyTable, published: Mapping[str, Tensor]
) -> Component:
    with torch.device("meta"):
        expected = shapes_of(cls(config))
    return Component(
        name=name,
        filename=WEIGHTS_FILE,
        tensors=translate(published, table, expected, path.name),
        # Not save_pretrained: it refuses what older configs say of attention maps, which nobody reads here.
        save_config=lambda folder: config.to_json_file(folder / CONFIG_FILE),
        sources=(path,),
    )


def _config(family: str, path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"There is no {path}, which tells the size of the encoder. Download it as well.")
    try:
        return read_encoder_config(family, path)
    except DamagedWeightsError as error:
        raise CheckpointError(str(error)) from None
    except ConfigError:
        raise CheckpointError(f"{path} is not of a {family} model. Download it again.") from None
