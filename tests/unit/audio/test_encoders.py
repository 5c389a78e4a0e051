"""Encoders by name, and strict reading of their weights from real folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, WhisperConfig, WhisperForConditionalGeneration

from portraitanim.audio.encoders import ENCODER_NAMES, load_audio_encoder
from portraitanim.audio.wav2vec import Wav2Vec2AudioEncoder
from portraitanim.audio.whisper import WhisperAudioEncoder
from portraitanim.errors import ConfigError, DamagedWeightsError, MissingWeightsError


@pytest.fixture
def wav2vec_folder(tmp_path: Path) -> Path:
    """A speech recogniser as the hub has it, tiny."""
    config = Wav2Vec2Config(
        hidden_size=16,
        conv_dim=[8] * 7,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def whisper_folder(tmp_path: Path) -> Path:
    """A transcriber as the hub has it, tiny: segments of one second."""
    config = WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        max_source_positions=50,
        vocab_size=40,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperForConditionalGeneration(config).save_pretrained(tmp_path)
    return tmp_path


SOUND = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))


def rewrite(folder: Path, change: object) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def test_log_mel_needs_no_folder() -> None:
    encoder = load_audio_encoder("log-mel")
    assert encoder.encode(SOUND, 25.0).states.shape == (25, 4, 80)


@pytest.mark.parametrize("name", [name for name in ENCODER_NAMES if name != "log-mel"])
def test_missing_weights_say_how_to_get_them(name: str, tmp_path: Path) -> None:
    for folder in (None, tmp_path, tmp_path / "absent"):
        with pytest.raises(MissingWeightsError, match=f"portraitanim weights pull {name}"):
            load_audio_encoder(name, folder)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'hubert'.*whisper-tiny"):
        load_audio_encoder("hubert")


def test_recogniser_folder_of_the_hub_is_read(wav2vec_folder: Path) -> None:
    encoder = load_audio_encoder("wav2vec2-base-960h", wav2vec_folder)
    assert encoder.encode(SOUND, 25.0).states.shape == (25, 2, 16)
    stored = load_file(wav2vec_folder / "model.safetensors")
    assert torch.equal(
        encoder.state_dict()["encoder.layers.1.attention.k_proj.weight"],
        stored["wav2vec2.encoder.layers.1.attention.k_proj.weight"],
    )


def test_old_names_of_weight_normalisation_are_read(wav2vec_folder: Path) -> None:
    before = load_audio_encoder("wav2vec2-base-960h", wav2vec_folder).encode(SOUND, 25.0)

    def with_old_names(tensors: dict) -> dict:
        old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        for new_name, old_name in old.items():
            tensors = {key.replace(new_name, old_name): tensor for key, tensor in tensors.items()}
        return {key: tensor for key, tensor in tensors.items() if "masked_spec_embed" not in key}

    rewrite(wav2vec_folder, with_old_names)
    after = load_audio_encoder("wav2vec2-base-960h", wav2vec_folder).encode(SOUND, 25.0)
    assert torch.equal(before.states, after.states)


def test_transcriber_folder_of_the_hub_is_read(whisper_folder: Path) -> None:
    encoder = load_audio_encoder("whisper-tiny", whisper_folder)
    reference = WhisperForConditionalGeneration.from_pretrained(whisper_folder).eval().model.encoder
    bands = torch.rand(80, 100)
    with torch.no_grad():
        expected = reference(bands[None]).last_hidden_state[0]
    ours = encoder.layer_norm(encoder.encode_segment(bands)[:, -1])
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("name", ["wav2vec2-base-960h", "whisper-tiny"])
def test_saved_encoder_loads_to_the_same_bits(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue("whisper_folder" if name == "whisper-tiny" else "wav2vec_folder")
    encoder = load_audio_encoder(name, folder)
    encoder.save_pretrained(tmp_path / "saved")
    again = load_audio_encoder(name, tmp_path / "saved")
    assert torch.equal(encoder.encode(SOUND, 25.0).states, again.encode(SOUND, 25.0).states)
    kind = WhisperAudioEncoder if name == "whisper-tiny" else Wav2Vec2AudioEncoder
    from_pretrained = kind.from_pretrained(tmp_path / "saved")
    assert torch.equal(encoder.encode(SOUND, 25.0).states, from_pretrained.encode(SOUND, 25.0).states)


def test_encoder_takes_the_number_format_asked_for(whisper_folder: Path) -> None:
    encoder = load_audio_encoder("whisper-tiny", whisper_folder, dtype=torch.bfloat16)
    assert encoder.encode(SOUND, 24.0).states.dtype == torch.bfloat16


def test_file_that_lacks_a_tensor_is_refused(wav2vec_folder: Path) -> None:
    key = "encoder.layers.1.layer_norm.bias"
    rewrite(wav2vec_folder, lambda tensors: {k: v for k, v in tensors.items() if not k.endswith(key)})
    with pytest.raises(DamagedWeightsError, match=f"{key} is missing"):
        load_audio_encoder("wav2vec2-base-960h", wav2vec_folder)


def test_file_with_a_foreign_tensor_is_refused(whisper_folder: Path) -> None:
    rewrite(whisper_folder, lambda tensors: tensors | {"conv_in.weight": torch.zeros(2)})
    with pytest.raises(DamagedWeightsError, match=r"conv_in.weight is not the encoder's"):
        load_audio_encoder("whisper-tiny", whisper_folder)


def test_file_with_a_wrong_shape_is_refused(whisper_folder: Path) -> None:
    key = "model.encoder.conv1.weight"
    rewrite(whisper_folder, lambda tensors: tensors | {key: torch.zeros(16, 80, 5)})
    with pytest.raises(DamagedWeightsError, match=r"conv1.weight has shape \(16, 80, 5\), not \(16, 80, 3\)"):
        load_audio_encoder("whisper-tiny", whisper_folder)


@pytest.mark.parametrize("filename", ["config.json", "model.safetensors"])
def test_cut_off_file_is_refused_by_name(whisper_folder: Path, filename: str) -> None:
    path = whisper_folder / filename
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DamagedWeightsError, match=filename):
        load_audio_encoder("whisper-tiny", whisper_folder)
