"""Attention of the spatial transformers: to the frame itself, to the reference, to identity or audio tokens.

The modules are diffusers' ``Attention``; what differs per call arrives in a `SpatialContext`, so that nothing
is kept on a module between calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from portraitanim.models.projections import KeysValues, project

_MAX_SCORES = 2**22
"""Scores of a row up to which attention by plain products is faster: 8 MB. Torch's kernel keeps none."""

_SCORES_AT_ONCE = 2**20
"""Scores that are there at once: 2 MB stay in the caches of a core, and their memory is not fetched anew each time."""

_SHORT_ROW = 32
"""Keys per query up to which the softmax goes along the first axis: temporal attention, audio tokens."""

_Layer = TypeVar("_Layer", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class SpatialContext:
    """What one spatial transformer reads beside its input.

    Rows are the leading axis of what the transformer gets: batch-major, then frames.

    Attributes:
        num_frames: frames per batch item.
        reference: projected keys and values of the reference tokens, ``(rows, tokens, channels)`` with one row
            per batch item that attends to it (or as many as ``reference_rows`` refers to).
        reference_rows: for each row that attends to the reference, which reference row it reads; ``None``: its
            own batch item's.
        num_rows_without_reference: so many leading rows attend to themselves alone.
        cross: keys and values of the second attention, ``(batch, tokens, channels)`` for tokens that hold for
            all frames, ``(batch, frames, tokens, channels)`` for tokens per frame.
        num_rows_without_cross: so many leading rows have null tokens (zeros), which ``cross`` leaves out.
        recorded: where the first attention leaves its input, under ``name``; ``None``: nowhere.
        name: name of the layer.
    """

    num_frames: int = 1
    reference: KeysValues | None = None
    reference_rows: Tensor | None = None
    num_rows_without_reference: int = 0
    cross: KeysValues | None = None
    num_rows_without_cross: int = 0
    recorded: dict[str, Tensor] | None = None
    name: str = ""


def attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Multi-head scaled dot-product attention.

    Args:
        query: ``(rows, queries, channels)``.
        key: ``(rows, keys, channels)``.
        value: as ``key``.
        num_heads: channels are split into so many heads.

    Returns:
        ``(rows, queries, channels)``.
    """
    query, key, value = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    if has_few_scores(query, key) and _multiplies_faster(query):
        return attend_by_products(query, key, value).transpose(1, 2).flatten(2)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _multiplies_faster(query: Tensor) -> bool:
    """Whether plain products beat torch's attention kernel.

    Its CPU kernel multiplies bfloat16 no faster than float32; the products have instructions of their own. Measured on
    the sizes of the bundled network: 1.2 to 1.9 times as fast. In training the scores would have to be kept.
    """
    return query.device.type == "cpu" and query.dtype is torch.bfloat16 and not torch.is_grad_enabled()


def has_few_scores(query: Tensor, key: Tensor) -> bool:
    """Whether the scores of one row, ``(rows, heads, tokens, channels)``, are few enough for plain products."""
    return query.shape[1] * query.shape[2] * key.shape[2] <= _MAX_SCORES


def attend_by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of ``(rows, heads, tokens, channels)`` by plain products, as many rows at once as suit the caches."""
    rows = max(_SCORES_AT_ONCE // (query.shape[1] * query.shape[2] * key.shape[2]), 1)
    if len(query) <= rows:
        return _attend_rows(query, key, value)
    attended = [
        _attend_rows(*piece) for piece in zip(query.split(rows), key.split(rows), value.split(rows), strict=True)
    ]
    return torch.cat(attended)


def _attend_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    # Heads join the rows before keys are turned: the product takes turned keys, and turning them is a slower copy.
    shape = query.shape[:2]
    query, key, value = ((query * query.shape[-1] ** -0.5).flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
    scores = torch.bmm(query, key.transpose(1, 2))
    return torch.bmm(_softmax(scores), value).unflatten(0, shape)


def _softmax(scores: Tensor) -> Tensor:
    """Softmax over the last axis. Torch's kernel takes one row at a time, and for short rows most of its time is lost.

    Measured in bfloat16 on rows of 8 to 10: 3 to 5 times as fast along the first axis, where rows lie side by side.
    """
    if scores.shape[-1] > _SHORT_ROW:
        return scores.softmax(dim=-1)
    return scores.movedim(-1, 0).contiguous().softmax(dim=0).movedim(0, -1)


def start_at_zero(layer: _Layer) -> _Layer:
    """Zero the layer's parameters: what it adds to the network starts as nothing and is learned."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ReferenceAttentionProcessor:
    """Self-attention whose conditional rows also see the reference tokens (Hallo and EchoMimic, section 3).

    The unconditional rows never do, so their attention to the reference is not computed at all.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        context: SpatialContext | None = None,
    ) -> Tensor:
        """See `diffusers.models.attention_processor.Attention.forward`; ``context`` comes with every call."""
        context = context or SpatialContext()
        if context.recorded is not None:
            context.recorded[context.name] = hidden_states
        query, key, value = project(attn, hidden_states)
        alone = len(query) if context.reference is None else context.num_rows_without_reference
        parts = []
        if alone:
            parts.append(attend(query[:alone], key[:alone], value[:alone], attn.heads))
        if context.reference is not None and alone < len(query):
            reference_key, reference_value = (_rows_of(x, context) for x in context.reference)
            key = torch.cat([key[alone:], reference_key], dim=1)
            value = torch.cat([value[alone:], reference_value], dim=1)
            parts.append(attend(query[alone:], key, value, attn.heads))
        return attn.to_out[0](parts[0] if len(parts) == 1 else torch.cat(parts))


class TokenAttentionProcessor:
    """Cross-attention to identity or audio tokens that were projected before.

    Null tokens are zeros, and keys and values have no bias: their attention is the output bias whatever the query
    says. It is written down, not computed.

    Args:
        scale: factor on the output (EchoMimic's published code has 3).
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        context: SpatialContext | None = None,
    ) -> Tensor:
        """See `diffusers.models.attention_processor.Attention.forward`; ``context`` comes with every call."""
        context = context or SpatialContext()
        silent = len(hidden_states) if context.cross is None else context.num_rows_without_cross
        parts = []
        if silent:
            parts.append(attn.to_out[0].bias.expand(silent, *hidden_states.shape[1:]))
        if context.cross is not None and silent < len(hidden_states):
            query = attn.to_q(hidden_states[silent:])
            parts.append(attn.to_out[0](_attend_tokens(query, context.cross, context.num_frames, attn.heads)))
        output = parts[0] if len(parts) == 1 else torch.cat(parts)
        return output if self.scale == 1.0 else output * self.scale


def _rows_of(tensor: Tensor, context: SpatialContext) -> Tensor:
    """Reference keys or values, one row for each row that attends to the reference."""
    if context.reference_rows is not None:
        return tensor[context.reference_rows]
    return tensor[:, None].expand(-1, context.num_frames, -1, -1).flatten(0, 1)


def _attend_tokens(query: Tensor, tokens: KeysValues, num_frames: int, num_heads: int) -> Tensor:
    key, value = tokens
    if key.ndim == 4:
        return attend(query, key.flatten(0, 1), value.flatten(0, 1), num_heads)
    # Tokens that hold for all frames: the frames join the queries, so that nothing is repeated.
    joined = query.unflatten(0, (-1, num_frames)).flatten(1, 2)
    return attend(joined, key, value, num_heads).unflatten(1, (num_frames, -1)).flatten(0, 1)
