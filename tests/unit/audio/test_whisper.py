"""Whisper's encoder: all depths without the last norm, segments, and the key table of OpenAI's files."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import WhisperConfig

from portraitanim.audio.whisper import (
    OPENAI_WHISPER_ENCODER_KEYS,
    OPENAI_WHISPER_IGNORED_KEYS,
    WhisperAudioEncoder,
    filled_segments,
    log_mel_spectrogram,
    whisper_config_from_dims,
)
from portraitanim.errors import InputError

DIMS = {"n_mels": 80, "n_audio_ctx": 50, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 3}


@pytest.fixture(scope="module")
def encoder() -> WhisperAudioEncoder:
    """Segments of one second, so that tests are quick."""
    torch.manual_seed(0)
    return WhisperAudioEncoder(whisper_config_from_dims(DIMS))


def noise(num_samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(1))


def test_states_of_every_depth_at_50_hz(encoder: WhisperAudioEncoder) -> None:
    features = encoder.encode(noise(int(2.5 * 16000)))
    assert features.states.shape == (125, 4, 16)
    assert features.rate_hz == 50
    assert features.encoder == "whisper-tiny"


def test_last_depth_is_not_normed(encoder: WhisperAudioEncoder) -> None:
    bands = torch.zeros(80, 100)
    normed = encoder(bands[None]).last_hidden_state[0]
    last = encoder.encode_segment(bands)[:, -1]
    torch.testing.assert_close(encoder.layer_norm(last), normed)
    assert not torch.allclose(last, normed, atol=0.1)


def test_a_segment_sees_nothing_of_another(encoder: WhisperAudioEncoder) -> None:
    first, second = torch.rand(80, 100), torch.rand(80, 60)
    segments = list(filled_segments(torch.cat([first, second], dim=1), 100))
    assert [num_mel_frames for _, num_mel_frames in segments] == [100, 60]
    assert torch.equal(segments[0][0], first)
    assert torch.equal(segments[1][0][:, :60], second)
    assert not segments[1][0][:, 60:].any()


def test_a_last_segment_of_one_mel_frame_gives_no_state(encoder: WhisperAudioEncoder) -> None:
    assert len(encoder.encode(noise(101 * 160)).states) == 50


@given(num_samples=st.integers(320, 40000))
def test_one_mel_frame_per_full_hop(num_samples: int) -> None:
    bands = log_mel_spectrogram(noise(num_samples))
    assert bands.shape == (80, num_samples // 160)
    assert bands.max() - bands.min() <= 2 + 1e-6  # the floor, 8 powers of ten / 4; rounding


def test_too_short_a_sound_is_refused(encoder: WhisperAudioEncoder) -> None:
    with pytest.raises(InputError, match="at least 320"):
        encoder.encode(noise(319))
    assert len(encoder.encode(noise(320)).states) == 1


def test_padding_to_clips_is_refused(encoder: WhisperAudioEncoder) -> None:
    with pytest.raises(InputError, match="Leave pad_to_multiple_of out"):
        encoder.encode(noise(16000), 24.0, pad_to_multiple_of=12)


def openai_keys(num_layers: int) -> list[str]:
    keys = ["positional_embedding", "conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"]
    keys += ["ln_post.weight", "ln_post.bias"]
    parts = ["attn.query", "attn.value", "attn.out", "attn_ln", "mlp.0", "mlp.2", "mlp_ln"]
    for layer in range(num_layers):
        keys += [f"blocks.{layer}.{part}.{kind}" for part in parts for kind in ("weight", "bias")]
        keys.append(f"blocks.{layer}.attn.key.weight")
    return keys


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_key_table_names_each_tensor_of_the_encoder_once(encoder: WhisperAudioEncoder, prefix: str) -> None:
    found = []
    for key in openai_keys(DIMS["n_audio_layer"]):
        new = [
            re.sub(rule, to, prefix + key) for rule, to in OPENAI_WHISPER_ENCODER_KEYS if re.search(rule, prefix + key)
        ]
        assert len(new) == 1, key
        found += new
    assert sorted(found) == sorted(encoder.state_dict())


def test_key_table_leaves_the_decoder_to_the_ignored_keys() -> None:
    for key in ("decoder.blocks.0.attn.query.weight", "decoder.token_embedding.weight", "decoder.ln.bias"):
        assert not any(re.search(rule, key) for rule, _ in OPENAI_WHISPER_ENCODER_KEYS)
        assert any(re.search(rule, key) and reason for rule, reason in OPENAI_WHISPER_IGNORED_KEYS)


def test_encoder_is_frozen(encoder: WhisperAudioEncoder) -> None:
    assert not encoder.train().training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_configuration_of_whisper_tiny_is_the_published_one() -> None:
    dims = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 384, "n_audio_head": 6, "n_audio_layer": 4}
    config: WhisperConfig = whisper_config_from_dims(dims)
    assert (config.d_model, config.encoder_ffn_dim, config.encoder_layers) == (384, 1536, 4)
