"""The audio encoders by name, and how their weights are read from a folder."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from portraitanim.errors import ConfigError, DamagedWeightsError, MissingWeightsError

if TYPE_CHECKING:
    from portraitanim.types import AudioFeatures

logger = logging.getLogger(__name__)

ENCODER_NAMES = ("wav2vec2-base-960h", "whisper-tiny", "log-mel")
"""Names that `load_audio_encoder` and ``audio.encoder`` of a preset know."""

_MAX_NAMED_KEYS = 5


class AudioEncoder(Protocol):
    """Anything that turns sound into states; all three encoders of this package are called this way."""

    encoder_name: ClassVar[str]

    def encode(self, waveform: torch.Tensor, fps: float, pad_to_multiple_of: int | None = None) -> AudioFeatures:
        """Mono float32 ``(samples,)`` at 16 kHz → states ``(steps, layers, width)``."""
        ...


def load_audio_encoder(
    name: str,
    folder: Path | str | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> AudioEncoder:
    """One of the encoders, ready to use.

    Args:
        name: one of `ENCODER_NAMES`.
        folder: holds ``config.json`` and ``model.safetensors``, either as `save_pretrained` of our classes writes
            them or as the Hugging Face hub has them. Not read for ``log-mel``, which has no weights.
        device: where to put it.
        dtype: number format of the weights; ``log-mel`` computes in float32 whatever it is.

    Raises:
        ConfigError: the name is unknown.
        MissingWeightsError: the folder or one of its files is absent.
        DamagedWeightsError: a file cannot be read, or its keys or shapes are not the encoder's.
    """
    if name == "log-mel":
        from portraitanim.audio.log_mel import LogMelAudioEncoder

        return LogMelAudioEncoder(device)
    if name not in ENCODER_NAMES:
        raise ConfigError(f"Unknown audio encoder {name!r}. Use one of {', '.join(ENCODER_NAMES)}.")
    files = _require_files(name, folder)
    encoder = _load_whisper(*files) if name == "whisper-tiny" else _load_wav2vec(*files)
    return encoder.to(device=device, dtype=dtype)


def _load_wav2vec(config_path: Path, weights_path: Path) -> Any:
    from transformers import Wav2Vec2Config

    from portraitanim.audio import wav2vec

    encoder = wav2vec.Wav2Vec2AudioEncoder(Wav2Vec2Config(**_read_json(config_path)))
    _load_strictly(
        encoder,
        weights_path,
        renames=wav2vec.WAV2VEC_KEYS,
        ignored=wav2vec.WAV2VEC_IGNORED_KEYS,
        optional=wav2vec.WAV2VEC_OPTIONAL_KEYS,
    )
    return encoder


def _load_whisper(config_path: Path, weights_path: Path) -> Any:
    from transformers import WhisperConfig

    from portraitanim.audio import whisper

    encoder = whisper.WhisperAudioEncoder(WhisperConfig(**_read_json(config_path)))
    _load_strictly(
        encoder,
        weights_path,
        renames=whisper.HF_WHISPER_ENCODER_KEYS,
        ignored=whisper.HF_WHISPER_IGNORED_KEYS,
    )
    return encoder


def _require_files(name: str, folder: Path | str | None) -> tuple[Path, Path]:
    advice = f"Run: portraitanim weights pull {name}"
    if folder is None:
        raise MissingWeightsError(f"The audio encoder {name} needs weights, and no folder was given. {advice}")
    config_path, weights_path = Path(folder, "config.json"), Path(folder, "model.safetensors")
    for path in (config_path, weights_path):
        if not path.is_file():
            raise MissingWeightsError(f"The weights of {name} are not installed: there is no {path}. {advice}")
    return config_path, weights_path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedWeightsError(f"{path} is not readable JSON ({error}). Install the weights again.") from None
    if not isinstance(values, dict):
        raise DamagedWeightsError(f"{path} holds no mapping. Install the weights again.")
    return values


def _load_strictly(
    encoder: torch.nn.Module,
    path: Path,
    *,
    renames: tuple[tuple[str, str], ...],
    ignored: tuple[tuple[str, str], ...],
    optional: tuple[str, ...] = (),
) -> None:
    """Copy a file's tensors into the encoder; every key is used or is on the list of ignored ones."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DamagedWeightsError(f"{path} cannot be read ({error}). Install the weights again.") from None

    state, expected = {}, encoder.state_dict()
    for key, tensor in tensors.items():
        if not any(re.search(pattern, key) for pattern, _ in ignored):
            state[_renamed(key, renames)] = tensor
    problems = [f"{key} is missing" for key in expected if key not in state and key not in optional]
    problems += [f"{key} is not the encoder's" for key in state if key not in expected]
    problems += [
        f"{key} has shape {tuple(tensor.shape)}, not {tuple(expected[key].shape)}"
        for key, tensor in state.items()
        if key in expected and tensor.shape != expected[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:_MAX_NAMED_KEYS])
        more = f"; and {len(problems) - _MAX_NAMED_KEYS} more" if len(problems) > _MAX_NAMED_KEYS else ""
        raise DamagedWeightsError(f"{path} does not fit the encoder: {shown}{more}. Install the weights again.")
    encoder.load_state_dict({**expected, **state})
    logger.debug("Read %d tensors from %s.", len(state), path)


def _renamed(key: str, renames: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in renames:
        key = re.sub(pattern, replacement, key)
    return key
