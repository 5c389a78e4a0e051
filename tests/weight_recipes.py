"""The three recipes that give the random weights of the goldens bit for bit, so that they need not be stored.

Source: the READMEs of the golden folders. Hallo's draws from a seeded generator, key after key; EchoMimic's hashes the
name of each tensor, so that any tensor can be made alone; that of the evaluation networks seeds by the name.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

# Elements hashed at a time: the four bytes of each and the scratch beside it stay in a core's cache.
_CHUNK = 1 << 16


def hallo_recipe(seed: int, keys: Iterable[tuple[str, Sequence[int]]]) -> dict[str, Tensor]:
    """Random weights for keys and shapes in order, from one generator seeded with ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    return {key: _hallo_tensor(key, shape, generator) for key, shape in keys}


def _hallo_tensor(key: str, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    if key.endswith("pos_encoder.pe"):
        return sinusoid(shape)
    draw = torch.randn(tuple(shape), generator=generator)
    if len(shape) >= 2:
        return draw / math.sqrt(math.prod(shape[1:]))
    return 1 + 0.1 * draw if key.endswith("weight") else 0.05 * draw


def hash_recipe(prefix: str, keys: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Hashed weights for keys and shapes, in any order; the hash reads ``prefix + key``."""
    return {key: _hash_tensor(prefix, key, shape) for key, shape in keys.items()}


def _hash_tensor(prefix: str, key: str, shape: Sequence[int]) -> Tensor:
    if key.endswith("pos_encoder.pe"):
        return sinusoid(shape)
    values = _hash_uniform(prefix + key, math.prod(shape))
    if len(shape) >= 2:
        values *= np.float32(math.sqrt(3 / math.prod(shape[1:])))
    else:
        values *= np.float32(0.1)
        if key.endswith("weight") and _belongs_to_norm(key):
            values += np.float32(1)
    return torch.from_numpy(values).reshape(tuple(shape))


def hash_input(name: str, shape: Sequence[int], scale: float = 1.0) -> Tensor:
    """An input that is not stored: hashed uniform values with standard deviation ``scale``."""
    values = _hash_uniform("input:" + name, math.prod(shape)) * np.float32(scale * math.sqrt(3))
    return torch.from_numpy(values).reshape(tuple(shape))


def whisper_recipe(prefix: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Hashed weights of a Whisper encoder, with its own position code (sines, then cosines)."""
    positions, width = shapes["positional_embedding"]
    rates = torch.exp(-math.log(10000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(positions).unsqueeze(1) * rates
    return hash_recipe(prefix, shapes) | {"positional_embedding": torch.cat([angles.sin(), angles.cos()], dim=1)}


def whisper_encoder_shapes(dims: Mapping[str, int]) -> dict[str, list[int]]:
    """Keys and shapes of OpenAI's Whisper encoder of the given dimensions."""
    width, mels = dims["n_audio_state"], dims["n_mels"]
    shapes = {"conv1.weight": [width, mels, 3], "conv2.weight": [width, width, 3], "ln_post.weight": [width]}
    shapes["positional_embedding"] = [dims["n_audio_ctx"], width]
    shapes |= {name: [width] for name in ("conv1.bias", "conv2.bias", "ln_post.bias")}
    for block in (f"blocks.{layer}" for layer in range(dims["n_audio_layer"])):
        linear = {f"attn.{name}": (width, width) for name in ("query", "key", "value", "out")}
        linear |= {"mlp.0": (4 * width, width), "mlp.2": (width, 4 * width)}
        for name, (rows, columns) in linear.items():
            shapes[f"{block}.{name}.weight"] = [rows, columns]
            if name != "attn.key":  # Whisper's key projection has no bias
                shapes[f"{block}.{name}.bias"] = [rows]
        for name in ("attn_ln", "mlp_ln"):
            shapes[f"{block}.{name}.weight"] = shapes[f"{block}.{name}.bias"] = [width]
    return shapes


def sinusoid(shape: Sequence[int]) -> Tensor:
    """Position code ``(1, positions, channels)``: even channels sine, odd channels cosine, base 10,000."""
    _, positions, channels = shape
    rates = torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
    angles = torch.arange(positions).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).unsqueeze(0)


def _belongs_to_norm(key: str) -> bool:
    names = ("norms", "conv_norm_out", "ff_norm", "group_norm", "ln", "ln_post")
    return any(part.startswith("norm") or part in names or part.endswith("_ln") for part in key.split(".")[:-1])


def _hash_uniform(name: str, count: int) -> np.ndarray:
    """Values in [-1, 1), float32, that depend on the name and the index alone."""
    values = np.empty(count, np.float32)
    start = np.uint32(zlib.crc32(name.encode()))
    steps = np.arange(_CHUNK, dtype=np.uint32) * np.uint32(0x9E3779B9)
    for begin in range(0, count, _CHUNK):
        size = min(_CHUNK, count - begin)
        # All in uint32: numpy's arrays wrap around, which is the "mod 2^32" of the recipe.
        h = steps[:size] + np.uint32((begin * 0x9E3779B9 + int(start)) % 2**32)
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
        h >>= np.uint32(8)
        # 24 bits fit float32 exactly, so neither the product nor the subtraction rounds.
        np.multiply(h, np.float32(2**-23), out=values[begin : begin + size], casting="unsafe")
    values -= np.float32(1)
    return values


def metric_recipe(tag: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Weights of an evaluation network: each tensor is seeded by the sha256 of ``tag:key``, in any order."""
    return {key: _metric_tensor(tag, key, tuple(shape)) for key, shape in shapes.items()}


def _metric_tensor(tag: str, key: str, shape: tuple[int, ...]) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1)
    seed = int.from_bytes(hashlib.sha256(f"{tag}:{key}".encode()).digest()[:4], "little")
    draw = np.random.RandomState(seed).standard_normal(math.prod(shape)).reshape(shape)
    if len(shape) >= 2:
        draw *= math.sqrt(2 / math.prod(shape[1:]))
    else:
        draw = 1 + 0.1 * draw if key.endswith(".weight") else 0.05 * draw
    return torch.from_numpy(draw.astype(np.float32))
