"""The audio encoders of the published folders, as folders that `load_audio_encoder` reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from portraitanim.audio import wav2vec, whisper
from portraitanim.checkpoints.component import Component, shapes_of
from portraitanim.checkpoints.key_table import KeyTable, translate
from portraitanim.checkpoints.layouts import WAV2VEC_FILES, WHISPER_FILES
from portraitanim.errors import CheckpointError
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
    from transformers import Wav2Vec2Config

    config = Wav2Vec2Config(**_read_config(path.with_name("config.json")))
    return _component(component, path, wav2vec.Wav2Vec2AudioEncoder, config, WAV2VEC_TABLE, read_checkpoint(path)[0])


def _whisper(path: Path, component: str) -> Component:
    from transformers import WhisperConfig

    tensors, beside = read_checkpoint(path)
    if "dims" in beside:
        try:
            config = whisper.whisper_config_from_dims(beside["dims"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path} has no usable dimensions ({error}). Download it again.") from None
        table = OPENAI_WHISPER_TABLE
    else:
        config = WhisperConfig(**_read_config(path.with_name("config.json")))
        table = HF_WHISPER_TABLE
    return _component(component, path, whisper.WhisperAudioEncoder, config, table, tensors)


def _component(
    name: str, path: Path, cls: Callable[[Any], Any], config: Any, table: KeyTable, published: Mapping[str, Tensor]
) -> Component:
    with torch.device("meta"):
        expected = shapes_of(cls(config))
    return Component(
        name=name,
        filename="model.safetensors",
        tensors=translate(published, table, expected, path.name),
        # Not save_pretrained: it refuses what older configs say of attention maps, which nobody reads here.
        save_config=lambda folder: config.to_json_file(folder / "config.json"),
        sources=(path,),
    )


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"There is no {path}, which tells the size of the encoder. Download it as well.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}). Download it again.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no mapping. Download it again.")
    return values
