"""What a preset says about the audio encoder. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from portraitanim.errors import ConfigError

AUDIO_ENCODER_FOLDER = "audio_encoder"
"""Subfolder of trained or converted weights that holds the audio encoder that they were trained with."""

EncoderFamily = Literal["wav2vec2", "whisper", "log-mel"]
WindowKind = Literal["centred", "whisper"]


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """How sound becomes features: which encoder, and which states one video frame sees.

    ``encoder`` is one that this package installs by name, or a family: ``wav2vec2`` or ``whisper``. Of a family,
    ``weights`` names the folder of any checkpoint, as the Hugging Face hub has it. In a folder of trained weights it is
    ``None``: the encoder lies beside them. ``fingerprint`` is the hash of its weights; ``train`` writes it, and other
    weights are refused where it is given.
    """

    encoder: Literal["wav2vec2-base-960h", "whisper-tiny", "log-mel", "wav2vec2", "whisper"] = "wav2vec2-base-960h"
    weights: str | None = None
    fingerprint: str | None = None
    sample_rate_hz: int = 16000
    window: WindowKind = "centred"

    def __post_init__(self) -> None:
        if self.weights is not None and not self.is_family:
            raise ConfigError(
                f"audio.weights is {self.weights}, and audio.encoder {self.encoder} is one certain checkpoint. Set "
                "audio.encoder to the family of those weights, wav2vec2 or whisper, or leave audio.weights out."
            )
        window = "whisper" if self.family == "whisper" else "centred"
        if self.window != window:
            raise ConfigError(f"audio.window must be {window} with audio.encoder {self.encoder}, got {self.window}.")

    @property
    def is_family(self) -> bool:
        """Whether any checkpoint of a family may be the encoder."""
        return self.encoder in ("wav2vec2", "whisper")

    @property
    def family(self) -> EncoderFamily:
        """What kind of encoder it is."""
        if self.encoder == "log-mel":
            return "log-mel"
        return "whisper" if self.encoder.startswith("whisper") else "wav2vec2"

    @property
    def states_name(self) -> str:
        """What its states are stored under: no two encoders share it."""
        return f"{self.encoder}-{self.fingerprint}" if self.is_family else self.encoder
