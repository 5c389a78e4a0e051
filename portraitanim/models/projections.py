"""Queries, keys and values of attention: as three matrix products, or as one where all read the same tokens."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]

_APART = ("to_q", "to_k", "to_v")
_JOINED = "to_qkv"


def project(attention: Attention, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of ``(..., tokens, channels)`` that attend to themselves."""
    if hasattr(attention, _JOINED):
        query, key, value = getattr(attention, _JOINED)(tokens).chunk(3, dim=-1)
        return query, key, value
    return attention.to_q(tokens), attention.to_k(tokens), attention.to_v(tokens)


def project_query(attention: Attention, tokens: Tensor) -> Tensor:
    """Queries alone, where fewer tokens ask than are read."""
    if hasattr(attention, _JOINED):
        return F.linear(tokens, _joined_weight(attention)[: attention.inner_dim])
    return attention.to_q(tokens)


def project_keys_values(attention: Attention, tokens: Tensor) -> KeysValues:
    """Keys and values of ``(..., tokens, channels)``: computed once, read in every denoising step."""
    if hasattr(attention, _JOINED):
        key, value = F.linear(tokens, _joined_weight(attention)[attention.inner_dim :]).chunk(2, dim=-1)
        return key, value
    return attention.to_k(tokens), attention.to_v(tokens)


def join_projections(*networks: nn.Module) -> int:
    """Make one matrix product of the three projections of each self-attention.

    The same numbers within rounding; the state dict keeps its keys, read and written. For networks whose attentions
    run in this package: the processors of diffusers do not know it. Not for training that has started: its optimizer
    would hold parameters that are no longer used.

    Returns:
        How many attentions were joined.
    """
    count = 0
    for network in networks:
        for module in network.modules():
            if isinstance(module, Attention) and not module.is_cross_attention and not hasattr(module, _JOINED):
                _join(module)
                count += 1
    return count


def _join(attention: Attention) -> None:
    parts = [getattr(attention, name) for name in _APART]
    weight = torch.cat([part.weight.detach() for part in parts])
    joined = nn.Linear(weight.shape[1], len(weight), bias=False, device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=parts[0].weight.requires_grad)
    for name in _APART:
        delattr(attention, name)
    attention.add_module(_JOINED, joined)
    attention.register_state_dict_post_hook(_write_apart)
    attention.register_load_state_dict_pre_hook(_read_apart)


def _write_apart(module: nn.Module, state: MutableMapping[str, Tensor], prefix: str, metadata: Any) -> None:
    weight = state.pop(f"{prefix}{_JOINED}.weight")
    for name, part in zip(_APART, weight.chunk(len(_APART)), strict=True):
        state[f"{prefix}{name}.weight"] = part


def _read_apart(module: nn.Module, state: MutableMapping[str, Tensor], prefix: str, *rest: Any) -> None:
    names = [f"{prefix}{name}.weight" for name in _APART]
    if all(name in state for name in names):
        state[f"{prefix}{_JOINED}.weight"] = torch.cat([state.pop(name) for name in names])


def _joined_weight(attention: Attention) -> Tensor:
    return getattr(attention, _JOINED).weight
