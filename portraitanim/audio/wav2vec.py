"""wav2vec 2.0 as Hallo uses it: all hidden states, resampled to the video rate before the transformer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from transformers import Wav2Vec2Config, Wav2Vec2Model

from portraitanim.audio.frozen_encoder import FrozenEncoder, layer_outputs
from portraitanim.audio.wav2vec_passes import convolve_in_pieces, plan_passes, receptive_field
from portraitanim.audio.waveform import SAMPLE_RATE_HZ, check_fps, check_waveform, padded_count
from portraitanim.errors import CheckpointError
from portraitanim.types import AudioFeatures

WAV2VEC_KEYS: tuple[tuple[str, str], ...] = (
    # The published files hold a speech recogniser, whose encoder has a prefix.
    (r"^wav2vec2\.", ""),
    # Weight normalisation stored the two factors under these names before torch 2.0.
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
)
"""How keys of published files become keys of `Wav2Vec2AudioEncoder`: every rule is applied, in order."""

WAV2VEC_IGNORED_KEYS: tuple[tuple[str, str], ...] = (
    (r"^lm_head\.", "the letters of the recogniser are not read"),
    (r"^(quantizer|project_hid|project_q)\.", "belongs to the task of pre-training"),
    (r"^(wav2vec2\.)?masked_spec_embed$", "stands for masked time steps, and only pre-training masks"),
)
"""Keys of published files that the encoder does not need, each with the reason."""

WAV2VEC_OPTIONAL_KEYS: tuple[str, ...] = ("masked_spec_embed",)
"""Parameters that a file may lack, since no result depends on them."""

_VARIANCE_FLOOR = 1e-7


class Wav2Vec2AudioEncoder(FrozenEncoder, Wav2Vec2Model):
    """wav2vec 2.0 (Baevski et al., 2020) that answers at the video rate, after Hallo.

    The convolutional features (about 50 Hz) are interpolated to one per video frame before the transformer, so that
    attention runs at the video rate. Both layouts are read: norms behind each block (wav2vec2-base) and before it
    (``do_stable_layer_norm``: the large models, XLSR); the latter has one more norm, and the last states go through it.
    """

    encoder_name: str = "wav2vec2-base-960h"

    def __init__(self, config: Wav2Vec2Config) -> None:
        if config.add_adapter:
            raise CheckpointError(
                "This wav2vec2 has an adapter behind its blocks, which makes another rate of its states and is not "
                "read. Use a checkpoint without (add_adapter: false)."
            )
        super().__init__(config)
        self._freeze()

    @torch.no_grad()
    def encode(
        self,
        waveform: torch.Tensor,
        fps: float,
        pad_to_multiple_of: int | None = None,
        *,
        max_seconds_per_pass: float | None = None,
        overlap_seconds: float = 2.0,
    ) -> AudioFeatures:
        """Hidden states of all layers, one step per video frame (Hallo).

        The sound is brought to zero mean and unit variance over the whole utterance. Silence that fills the last
        clip is appended after that. All frames attend to all others, as published: the work of that grows with the
        square of the length, and the convolutions hold about 16 MB per second of sound (full size, float32).

        Args:
            waveform: float32 ``(samples,)`` at 16 kHz, in [-1, 1].
            fps: video frames per second.
            pad_to_multiple_of: frames of a clip; zeros are appended until the number of frames is a multiple.
            max_seconds_per_pass: above this length, work in pieces of at most so many seconds, with bounded memory
                and work that grows with the length. The transformer of each piece sees nothing beyond it, so the
                states are not those of one pass. ``None`` works in one pass, whatever the length.
            overlap_seconds: sound on either side of a piece that is seen and whose states are discarded. Part of
                ``max_seconds_per_pass``.

        Returns:
            States ``(frames, layers, width)`` at ``fps``; the embedding before the first layer is left out.
            ``num_valid_steps`` is the number of frames before padding.

        Raises:
            ShapeError: the waveform is not mono float32.
            InputError: it is too short or not finite, or a number is out of range.
        """
        check_waveform(waveform)
        check_fps(fps)
        # Rounding of this order of operations is part of the published behaviour: 7 whole frames give 8.
        num_valid = math.ceil(len(waveform) / SAMPLE_RATE_HZ * fps)
        num_frames = padded_count(num_valid, pad_to_multiple_of)
        num_silent_samples = (num_frames - num_valid) * int(SAMPLE_RATE_HZ // fps)
        padded = F.pad(normalise_loudness(waveform), (0, num_silent_samples))
        field, _ = receptive_field(self.config.conv_kernel, self.config.conv_stride)
        check_waveform(padded, min_samples=field)

        passes = plan_passes(num_frames, fps, max_seconds_per_pass, overlap_seconds)
        embeddings = self._embed(padded.to(self.device, self.dtype), num_frames, max_seconds_per_pass, len(passes))
        kept = []
        for piece in passes:
            states = self._transform(embeddings[:, piece.seen_start : piece.seen_stop])
            kept.append(states[piece.kept_start - piece.seen_start : piece.kept_stop - piece.seen_start])
        return AudioFeatures(
            states=torch.cat(kept),
            rate_hz=fps,
            encoder=self.encoder_name,
            num_padding_steps=num_frames - num_valid,
        )

    def _embed(
        self, waveform: torch.Tensor, num_frames: int, max_seconds: float | None, num_passes: int
    ) -> torch.Tensor:
        """Input of the first transformer layer, ``(1, frames, width)``."""
        if num_passes == 1 or max_seconds is None:
            features = self.feature_extractor(waveform[None])
        else:
            features = convolve_in_pieces(
                self.feature_extractor.conv_layers, waveform, int(max_seconds * SAMPLE_RATE_HZ)
            )
        features = F.interpolate(features, size=num_frames, mode="linear", align_corners=True)
        hidden, _ = self.feature_projection(features.transpose(1, 2))
        hidden = hidden + self.encoder.pos_conv_embed(hidden)
        return hidden if self.config.do_stable_layer_norm else self.encoder.layer_norm(hidden)

    def _transform(self, hidden: torch.Tensor) -> torch.Tensor:
        """Outputs of all layers, ``(frames, layers, width)``."""
        outputs = layer_outputs(self.encoder.layers, hidden)
        if self.config.do_stable_layer_norm:
            outputs[-1] = self.encoder.layer_norm(outputs[-1])
        return torch.stack([states[0] for states in outputs], dim=1)


def normalise_loudness(waveform: torch.Tensor) -> torch.Tensor:
    """The sound with zero mean and unit variance over its whole length, as wav2vec 2.0 was trained.

    Args:
        waveform: ``(samples,)``.

    Returns:
        ``(samples,)``; silence stays silence.
    """
    # float64: the mean of a long file would lose digits in float32. On the CPU: not every GPU has float64.
    samples = waveform.cpu().double()
    normalised = (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + _VARIANCE_FLOOR)
    return normalised.to(waveform)
