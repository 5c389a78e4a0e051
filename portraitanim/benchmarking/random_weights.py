"""An animator with random weights: as fast as a trained one, and good for nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderTiny

from portraitanim.benchmarking.scenarios import RANDOM_WEIGHTS
from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.schema import Preset
from portraitanim.config.speeds import fits_small_decoder
from portraitanim.pipelines.animator import Animator
from portraitanim.pipelines.animator_parts import AnimatorParts
from portraitanim.pipelines.build import build_pipeline

if TYPE_CHECKING:
    from portraitanim.audio.encoders import AudioEncoder
    from portraitanim.config.audio import AudioConfig

_WHISPER_TINY = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}


def random_animator(
    preset: Preset,
    device: torch.device,
    dtype: torch.dtype,
    *,
    landmarker: Path | None = None,
    identity_encoder: Any | None = None,
    execution: ExecutionConfig | None = None,
) -> Animator:
    """Networks of a preset at full size, made where and as they will run.

    Args:
        preset: the system.
        device: where.
        dtype: number format.
        landmarker: MediaPipe's face landmarker, where it is installed.
        identity_encoder: as in `AnimatorParts`; without one, a random vector stands in for the identity, at no cost.
        execution: as in `AnimatorParts`.
    """
    torch.manual_seed(0)
    pipeline = build_pipeline(preset, device, dtype)
    small_decoder = AutoencoderTiny().to(device, dtype).eval() if fits_small_decoder(preset.autoencoder) else None
    if preset.network.identity_projection is not None and identity_encoder is None:
        identity_encoder = _RandomIdentity(preset.network.identity_projection.embedding_dim)
    parts = AnimatorParts(
        pipeline=pipeline.to(device),
        preset=preset,
        audio_encoder=_audio_encoder(preset.audio, device),
        identity_encoder=identity_encoder,
        landmarker=landmarker,
        small_decoder=small_decoder,
        execution=execution,
        name=RANDOM_WEIGHTS,
        fingerprint=RANDOM_WEIGHTS,
    )
    return Animator(parts)


def stands_in_for_identity(animator: Animator) -> bool:
    """Whether the identity is a random vector and costs nothing."""
    return isinstance(animator.parts.identity_encoder, _RandomIdentity)


class _RandomIdentity:
    def __init__(self, width: int) -> None:
        self._vector = np.random.default_rng(0).standard_normal(width).astype(np.float32)

    def encode(self, image: np.ndarray, landmarks_or_box: np.ndarray | None = None) -> np.ndarray:
        del image, landmarks_or_box
        return self._vector


def _audio_encoder(audio: AudioConfig, device: torch.device) -> AudioEncoder:
    if audio.family == "log-mel":
        from portraitanim.audio.log_mel import LogMelAudioEncoder

        return LogMelAudioEncoder(device)
    encoder: Any
    if audio.is_family:
        from portraitanim.audio.encoder_folders import build_encoder, encoder_folder

        encoder = build_encoder(audio.family, encoder_folder(audio))
    elif audio.family == "whisper":
        from transformers import WhisperConfig

        from portraitanim.audio.whisper import WhisperAudioEncoder

        encoder = WhisperAudioEncoder(WhisperConfig(**_WHISPER_TINY))
    else:
        from transformers import Wav2Vec2Config

        from portraitanim.audio.wav2vec import Wav2Vec2AudioEncoder

        encoder = Wav2Vec2AudioEncoder(Wav2Vec2Config())  # its defaults are wav2vec2-base's
    return encoder.to(device)
