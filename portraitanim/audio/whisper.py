"""Whisper's encoder as EchoMimic uses it: the states of every depth at 50 Hz, for a whole file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from portraitanim.audio.frame_windows import WHISPER_RATE_HZ
from portraitanim.audio.frozen_encoder import FrozenEncoder, layer_outputs
from portraitanim.audio.mel_filters import mel_filters
from portraitanim.audio.waveform import SAMPLE_RATE_HZ, check_waveform
from portraitanim.errors import InputError
from portraitanim.types import AudioFeatures

OPENAI_WHISPER_ENCODER_KEYS: tuple[tuple[str, str], ...] = (
    (r"^(?:encoder\.)?positional_embedding$", "embed_positions.weight"),
    (r"^(?:encoder\.)?(conv[12])\.(weight|bias)$", r"\1.\2"),
    (r"^(?:encoder\.)?blocks\.(\d+)\.attn\.query\.(weight|bias)$", r"layers.\1.self_attn.q_proj.\2"),
    (r"^(?:encoder\.)?blocks\.(\d+)\.attn\.key\.weight$", r"layers.\1.self_attn.k_proj.weight"),
    (r"^(?:encoder\.)?blocks\.(\d+)\.attn\.value\.(weight|bias)$", r"layers.\1.self_attn.v_proj.\2"),
    (r"^(?:encoder\.)?blocks\.(\d+)\.attn\.out\.(weight|bias)$", r"layers.\1.self_attn.out_proj.\2"),
    (r"^(?:encoder\.)?blocks\.(\d+)\.attn_ln\.(weight|bias)$", r"layers.\1.self_attn_layer_norm.\2"),
    (r"^(?:encoder\.)?blocks\.(\d+)\.mlp\.0\.(weight|bias)$", r"layers.\1.fc1.\2"),
    (r"^(?:encoder\.)?blocks\.(\d+)\.mlp\.2\.(weight|bias)$", r"layers.\1.fc2.\2"),
    (r"^(?:encoder\.)?blocks\.(\d+)\.mlp_ln\.(weight|bias)$", r"layers.\1.final_layer_norm.\2"),
    (r"^(?:encoder\.)?ln_post\.(weight|bias)$", r"layer_norm.\1"),
)
"""From the ``model_state_dict`` of OpenAI's ``.pt`` files to `WhisperAudioEncoder`: one rule matches each key."""

OPENAI_WHISPER_IGNORED_KEYS: tuple[tuple[str, str], ...] = (
    (r"^decoder\.", "the decoder writes text, and only the encoder's states are read"),
)
"""Keys of OpenAI's files that the encoder does not need, each with the reason."""

HF_WHISPER_ENCODER_KEYS: tuple[tuple[str, str], ...] = ((r"^(?:model\.)?encoder\.", ""),)
"""The same for files in the layout of transformers, with or without the decoder."""

HF_WHISPER_IGNORED_KEYS: tuple[tuple[str, str], ...] = (
    (r"^(?:model\.)?decoder\.", "the decoder writes text, and only the encoder's states are read"),
    (r"^proj_out\.", "belongs to the decoder"),
)
"""The same for files in the layout of transformers."""

MEL_FRAMES_PER_STATE = 2
_HOP = SAMPLE_RATE_HZ // (MEL_FRAMES_PER_STATE * WHISPER_RATE_HZ)
_FFT = 400


class WhisperAudioEncoder(FrozenEncoder, WhisperEncoder):
    """Encoder of Whisper (Radford et al., 2022) that gives the states of every depth, after EchoMimic.

    The states are the embedding (convolutions and positions) and the output of each block. The norm behind the last
    block is in the file and is not applied.
    """

    encoder_name: str = "whisper-tiny"

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self._freeze()

    @torch.no_grad()
    def encode(
        self, waveform: torch.Tensor, fps: float | None = None, pad_to_multiple_of: int | None = None
    ) -> AudioFeatures:
        """States of the whole sound at 50 Hz, segment by segment of 30 s (EchoMimic).

        Segments do not overlap; the last one is filled with the value 0 in the normalised log-mel domain, which is
        louder than silence, as published. States of the filling are cut off.

        Args:
            waveform: float32 ``(samples,)`` at 16 kHz, in [-1, 1].
            fps: has no influence; here so that all encoders are called alike. The video rate matters in
                `portraitanim.audio.frame_windows.whisper_windows`, which picks the rows of each frame.
            pad_to_multiple_of: must be ``None``: windows repeat the last state, so there is nothing to fill.

        Returns:
            States ``(steps, 1 + blocks, width)`` at 50 Hz.

        Raises:
            ShapeError: the waveform is not mono float32.
            InputError: it is too short or not finite, or padding was asked for.
        """
        del fps
        if pad_to_multiple_of is not None:
            raise InputError(
                "Whisper states cannot be padded to whole clips: their windows repeat the last state. "
                "Leave pad_to_multiple_of out."
            )
        check_waveform(waveform, min_samples=MEL_FRAMES_PER_STATE * _HOP)
        bands = log_mel_spectrogram(waveform.to(self.device), self.config.num_mel_bins)
        segment_length = self.config.max_source_positions * MEL_FRAMES_PER_STATE
        kept = [
            self.encode_segment(segment)[: num_mel_frames // MEL_FRAMES_PER_STATE]
            for segment, num_mel_frames in filled_segments(bands, segment_length)
        ]
        return AudioFeatures(states=torch.cat(kept), rate_hz=WHISPER_RATE_HZ, encoder=self.encoder_name)

    @torch.no_grad()
    def encode_segment(self, bands: torch.Tensor) -> torch.Tensor:
        """States of every depth for one full segment.

        Args:
            bands: normalised log-mel ``(mels, mel frames)``, for Whisper tiny ``(80, 3000)``.

        Returns:
            ``(mel frames / 2, 1 + blocks, width)``, for Whisper tiny ``(1500, 5, 384)``.
        """
        hidden = F.gelu(self.conv1(bands[None].to(self.dtype)))
        hidden = F.gelu(self.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self.embed_positions.weight
        return torch.stack([hidden[0], *(output[0] for output in layer_outputs(self.layers, hidden))], dim=1)


def log_mel_spectrogram(waveform: torch.Tensor, num_mels: int = 80) -> torch.Tensor:
    """Log-mel bands of a whole file, as Whisper was trained, floored 80 dB below the loudest of all.

    Args:
        waveform: float32 ``(samples,)`` at 16 kHz, more than 200 samples.
        num_mels: number of bands.

    Returns:
        ``(num_mels, samples // 160)`` at 100 Hz, ``(log10 power + 4) / 4``; the range is at most 2 wide.
    """
    taper = torch.hann_window(_FFT, device=waveform.device)
    spectrum = torch.stft(waveform, _FFT, _HOP, window=taper, return_complex=True)[:, :-1]
    power = mel_filters(num_mels, _FFT // 2 + 1, SAMPLE_RATE_HZ).to(waveform.device) @ spectrum.abs().square()
    bands = power.clamp(min=1e-10).log10()
    return (torch.maximum(bands, bands.max() - 8) + 4) / 4


def filled_segments(bands: torch.Tensor, length: int = 3000) -> Iterator[tuple[torch.Tensor, int]]:
    """Cut log-mel bands into segments of equal length without overlap; zeros fill the last one (EchoMimic).

    Args:
        bands: ``(mels, mel frames)``.
        length: mel frames per segment, 30 s at 100 Hz.

    Yields:
        A segment ``(mels, length)``, and how many of its mel frames are sound.
    """
    for start in range(0, bands.shape[1], length):
        segment = bands[:, start : start + length]
        num_mel_frames = segment.shape[1]
        yield F.pad(segment, (0, length - num_mel_frames)), num_mel_frames


def whisper_config_from_dims(dims: Mapping[str, int]) -> WhisperConfig:
    """Configuration of the encoder from the ``dims`` of an OpenAI ``.pt`` file (keys ``n_mels``, ``n_audio_...``)."""
    return WhisperConfig(
        num_mel_bins=dims["n_mels"],
        max_source_positions=dims["n_audio_ctx"],
        d_model=dims["n_audio_state"],
        encoder_attention_heads=dims["n_audio_head"],
        encoder_layers=dims["n_audio_layer"],
        encoder_ffn_dim=4 * dims["n_audio_state"],
        activation_function="gelu",
    )
