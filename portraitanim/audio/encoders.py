"""The audio encoders by name, and how their weights are read from a folder."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from portraitanim.audio.encoder_folders import build_encoder, encoder_files, encoder_fingerprint, folder_advice
from portraitanim.errors import ConfigError, DamagedWeightsError, MissingWeightsError
from portraitanim.tensor_files import read_tensors

if TYPE_CHECKING:
    from portraitanim.config.audio import AudioConfig
    from portraitanim.types import AudioFeatures

logger = logging.getLogger(__name__)

ENCODER_NAMES = ("wav2vec2-base-960h", "whisper-tiny", "log-mel")
"""Encoders that have a name of their own, for `load_audio_encoder` and ``audio.encoder`` of a preset."""

ENCODER_FAMILIES = ("wav2vec2", "whisper")
"""Kinds of encoders of which any checkpoint is read."""

_MAX_NAMED_KEYS = 5


class AudioEncoder(Protocol):
    """Anything that turns sound into states; all encoders of this package are called this way."""

    encoder_name: str

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
        name: one of `ENCODER_NAMES`, or the family of the checkpoint in ``folder``. The ``encoder_name`` of a family's
            encoder ends with the hash of its weights, so that no two have the same.
        folder: holds ``config.json`` and ``model.safetensors`` (or ``pytorch_model.bin``), either as `save_pretrained`
            of our classes writes them or as the Hugging Face hub has them. Not read for ``log-mel``, which has no
            weights.
        device: where to put it.
        dtype: number format of the weights; ``log-mel`` computes in float32 whatever it is.

    Raises:
        ConfigError: the name is unknown, or the folder holds a model of another kind.
        MissingWeightsError: the folder or one of its files is absent.
        DamagedWeightsError: a file cannot be read, or its keys or shapes are not the encoder's.
        CheckpointError: a pickled file is damaged or holds more than tensors.
    """
    if name == "log-mel":
        from portraitanim.audio.log_mel import LogMelAudioEncoder

        return LogMelAudioEncoder(device)
    if name not in (*ENCODER_NAMES, *ENCODER_FAMILIES):
        raise ConfigError(
            f"Unknown audio encoder {name!r}. Use one of {', '.join(ENCODER_NAMES)}, or the folder of a wav2vec2 or "
            "whisper checkpoint."
        )
    advice = folder_advice(name) if name in ENCODER_FAMILIES else f"Run: portraitanim weights pull {name}"
    if folder is None:
        raise MissingWeightsError(f"The audio encoder {name} needs weights, and no folder was given. {advice}")
    _, weights_path = encoder_files(Path(folder), name, advice)
    family = "whisper" if name.startswith("whisper") else "wav2vec2"
    encoder = build_encoder(family, Path(folder))
    if family == "whisper":
        from portraitanim.audio import whisper

        _load_strictly(
            encoder,
            weights_path,
            renames=whisper.HF_WHISPER_ENCODER_KEYS,
            ignored=whisper.HF_WHISPER_IGNORED_KEYS,
        )
    else:
        from portraitanim.audio import wav2vec

        _load_strictly(
            encoder,
            weights_path,
            renames=wav2vec.WAV2VEC_KEYS,
            ignored=wav2vec.WAV2VEC_IGNORED_KEYS,
            optional=wav2vec.WAV2VEC_OPTIONAL_KEYS,
        )
    encoder.encoder_name = f"{name}-{encoder_fingerprint(encoder)}" if name in ENCODER_FAMILIES else name
    return encoder.to(device=device, dtype=dtype)


def load_named_encoder(
    audio: AudioConfig, folder: Path | None, device: torch.device | str = "cpu"
) -> tuple[AudioEncoder, AudioConfig]:
    """The encoder of a preset, and what the preset says with the hash of its weights.

    Args:
        audio: from the preset.
        folder: where the encoder is; ``None`` for ``log-mel``.
        device: where to put it.

    Raises:
        ConfigError: the folder holds another encoder than ``audio.fingerprint`` says; and as `load_audio_encoder`.
    """
    encoder = load_audio_encoder(audio.encoder, folder, device=device)
    if folder is None or audio.family == "log-mel":
        return encoder, audio
    found = encoder.encoder_name.rpartition("-")[2] if audio.is_family else encoder_fingerprint(encoder)
    if audio.fingerprint not in (None, found):
        raise ConfigError(
            f"{folder} holds another audio encoder (hash {found}) than the one that was trained with "
            f"({audio.fingerprint}). Put that one there, or train again."
        )
    return encoder, replace(audio, fingerprint=found)


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
        tensors = load_file(path) if path.suffix == ".safetensors" else read_tensors(path)
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
