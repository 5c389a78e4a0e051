"""Tiny wav2vec 2.0 and Whisper checkpoints with random weights, as the Hugging Face hub has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, WhisperConfig, WhisperForConditionalGeneration

TINY_WAV2VEC: dict[str, Any] = {
    "hidden_size": 16,
    "conv_dim": [8] * 7,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def xlsr(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A speech recogniser of another language in the layout of the large models, tiny: 3 layers of 16."""
    torch.manual_seed(seed)
    sizes = {
        **TINY_WAV2VEC,
        "do_stable_layer_norm": True,
        "feat_extract_norm": "layer",
        "conv_bias": True,
    }
    Wav2Vec2ForCTC(Wav2Vec2Config(**{**sizes, **changes})).save_pretrained(folder)
    return folder


def whisper(folder: Path) -> Path:
    """A transcriber of another size than Whisper tiny: 4 states of 16."""
    torch.manual_seed(0)
    tokens = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    sizes = {"d_model": 16, "encoder_layers": 3, "decoder_layers": 1, "encoder_ffn_dim": 32, "max_source_positions": 50}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    WhisperForConditionalGeneration(WhisperConfig(**sizes, **heads, **tokens)).save_pretrained(folder)
    return folder


def pickled(folder: Path) -> Path:
    """The same checkpoint in the older kind of file."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder
