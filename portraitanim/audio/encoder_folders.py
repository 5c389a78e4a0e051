"""Folders of wav2vec 2.0 and Whisper checkpoints: what is in them, and whether a preset's networks can read it.

A folder is what the Hugging Face hub has: ``config.json``, and ``model.safetensors`` or ``pytorch_model.bin``. Nothing
is ever unpickled but tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitanim.audio.frame_windows import ROWS_AFTER, ROWS_BEFORE
from portraitanim.config.audio import AudioConfig, EncoderFamily
from portraitanim.errors import ConfigError, DamagedWeightsError, MissingWeightsError

if TYPE_CHECKING:
    import torch

    from portraitanim.config.schema import NetworkConfig

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_WEIGHTS_FILES = (WEIGHTS_FILE, "pytorch_model.bin")
_KNOWN_PARAMETERS = {"wav2vec2-base-960h": 94_400_000, "whisper-tiny": 8_210_000, "log-mel": 0}
_NUM_WHISPER_ROWS = ROWS_BEFORE + 1 + ROWS_AFTER


def encoder_files(folder: Path, what: str, advice: str) -> tuple[Path, Path]:
    """The config and the weights of a checkpoint, the safetensors where both are there.

    Args:
        folder: where to look.
        what: name of the encoder, for the message.
        advice: what to do, for the message.

    Raises:
        MissingWeightsError: one of them is absent.
    """
    config = folder / CONFIG_FILE
    if not config.is_file():
        raise MissingWeightsError(f"The weights of {what} are not there: there is no {config}. {advice}")
    for name in _WEIGHTS_FILES:
        if (folder / name).is_file():
            return config, folder / name
    names = f"{folder / WEIGHTS_FILE} or {_WEIGHTS_FILES[1]}"
    raise MissingWeightsError(f"The weights of {what} are not there: there is no {names}. {advice}")


def folder_advice(family: str) -> str:
    """What to do where the checkpoint of a family is not complete."""
    return f"Name a folder with a {family} checkpoint as the hub has it: {CONFIG_FILE} and {WEIGHTS_FILE}."


def family_of(folder: Path) -> EncoderFamily:
    """Whether the checkpoint in a folder is wav2vec 2.0 or Whisper.

    Raises:
        MissingWeightsError: the folder has no config.
        DamagedWeightsError: it cannot be read.
        ConfigError: it is of another kind.
    """
    path = _config_path(folder, "wav2vec2 or whisper")
    kind = _read_json(path).get("model_type")
    if kind == "wav2vec2":
        return "wav2vec2"
    if kind == "whisper":
        return "whisper"
    raise ConfigError(f"{path} is of a {kind or 'nameless'} model. Use a checkpoint of wav2vec2 or whisper.")


def read_encoder_config(family: str, path: Path) -> Any:
    """The config of a checkpoint, as transformers has it.

    Raises:
        DamagedWeightsError: the file cannot be read.
        ConfigError: it is of another kind of model.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import Wav2Vec2Config, WhisperConfig

    values = _read_json(path)
    kind = values.get("model_type", family)
    if kind != family:
        raise ConfigError(
            f"{path} is of a {kind} model, and audio.encoder says {family}. Name a folder with a {family} checkpoint"
            + (f", or set audio.encoder to {kind}." if kind in ("wav2vec2", "whisper") else ".")
        )
    try:
        return WhisperConfig(**values) if family == "whisper" else Wav2Vec2Config(**values)
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise DamagedWeightsError(f"{path} is no config of {family} ({reason}). Download it again.") from None


def states_shape(family: str, config: Any) -> tuple[int, int]:
    """Layers and width of an encoder's states: all blocks, and for Whisper the embedding before them as well."""
    if family == "whisper":
        return config.encoder_layers + 1, config.d_model
    return config.num_hidden_layers, config.hidden_size


def require_fit(audio: AudioConfig, network: NetworkConfig, folder: Path) -> None:
    """Compare the networks with the checkpoint whose states they shall read, by its config alone.

    Raises:
        ConfigError: a width, or the number of layers, differs; the message has the values to set.
        MissingWeightsError: the folder has no config.
        DamagedWeightsError: the config cannot be read.
    """
    config = read_encoder_config(audio.family, _config_path(folder, audio.family))
    layers, width = states_shape(audio.family, config)
    projection, unet = network.audio_projection, network.denoising_unet
    wanted: dict[str, tuple[int | None, int]] = {}
    if projection is not None:
        wanted["audio_projection.feature_dim"] = (projection.feature_dim, width)
        wanted["audio_projection.num_layers"] = (projection.num_layers, layers)
        if audio.window == "whisper":
            wanted["audio_projection.window"] = (projection.window, _NUM_WHISPER_ROWS)
    elif unet.cross_attention_source == "audio":
        wanted["denoising_unet.cross_attention_dim"] = (unet.cross_attention_dim, width)
    else:
        wanted["denoising_unet.audio_attention_dim"] = (unet.audio_attention_dim, width)
    differing = {key: values for key, values in wanted.items() if values[0] != values[1]}
    if differing:
        has = ", ".join(f"{key.split('.')[1]} {got}" for key, (got, _) in differing.items())
        changes = " ".join(f"--set overrides.network.{key}={value}" for key, (_, value) in differing.items())
        raise ConfigError(
            f"The audio encoder in {folder} gives {layers} layers of {width}, and the networks have {has}. "
            f"Train with {changes}."
        )


def num_parameters(audio: AudioConfig) -> int:
    """Parameters of an encoder, counted by its config; its weights are not read.

    Raises:
        ConfigError: ``audio`` names a family and no folder.
        MissingWeightsError: the folder has no config.
        DamagedWeightsError: the config cannot be read.
    """
    known = _KNOWN_PARAMETERS.get(audio.encoder)
    return _counted(audio.family, encoder_folder(audio)) if known is None else known


def encoder_folder(audio: AudioConfig) -> Path:
    """The folder that a preset names.

    Raises:
        ConfigError: it names none.
    """
    if audio.weights is None:
        raise ConfigError(
            f"audio.encoder {audio.encoder} is a family: set audio.weights to the folder of a checkpoint of it."
        )
    return Path(audio.weights).expanduser()


@lru_cache(maxsize=8)
def _counted(family: str, folder: Path) -> int:
    import torch

    with torch.device("meta"):
        encoder = build_encoder(family, folder)
    return sum(parameter.numel() for parameter in encoder.parameters())


def build_encoder(family: str, folder: Path) -> Any:
    """An encoder with random weights, of the sizes of the checkpoint in a folder.

    Raises:
        MissingWeightsError: the folder has no config.
        DamagedWeightsError: the config cannot be read.
        ConfigError: the checkpoint is of another family.
    """
    config = read_encoder_config(family, _config_path(folder, family))
    if family == "whisper":
        from portraitanim.audio.whisper import WhisperAudioEncoder

        return WhisperAudioEncoder(config)
    from portraitanim.audio.wav2vec import Wav2Vec2AudioEncoder

    return Wav2Vec2AudioEncoder(config)


def encoder_fingerprint(encoder: Any) -> str:
    """A short hash of an encoder's weights: equal for equal states, on any device and from any kind of file."""
    digest = hashlib.sha256()
    for name, value in sorted(_tensors(encoder).items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().reshape(-1).contiguous().numpy().data)
    return digest.hexdigest()[:16]


def write_encoder(encoder: Any, folder: Path) -> None:
    """Write config and weights of an encoder into a folder that is there, as `load_audio_encoder` reads them."""
    from safetensors.torch import save_file

    # Not save_pretrained: it refuses what older configs say of attention maps, which nobody reads here.
    encoder.config.to_json_file(folder / CONFIG_FILE)
    tensors = {name: value.detach().cpu().contiguous() for name, value in _tensors(encoder).items()}
    save_file(tensors, folder / WEIGHTS_FILE, {"format": "pt"})


def link_encoder(source: Path, folder: Path) -> None:
    """Put an encoder's files into another folder, as hard links where the disk has them, else as copies."""
    folder.mkdir()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            os.link(source / name, folder / name)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source / name, folder / name)


def _tensors(encoder: Any) -> dict[str, torch.Tensor]:
    """Weights that states depend on: the mask of pre-training is left out, which files may lack."""
    return {name: value for name, value in encoder.state_dict().items() if name != "masked_spec_embed"}


def _config_path(folder: Path, family: str) -> Path:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise MissingWeightsError(f"There is no {path}. {folder_advice(family)}")
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedWeightsError(f"{path} is not readable JSON ({error}). Download it again.") from None
    if not isinstance(values, dict):
        raise DamagedWeightsError(f"{path} holds no mapping. Download it again.")
    return values
