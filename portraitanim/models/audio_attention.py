"""Regional audio attention: sound moves pose, expression and lips by three cross-attentions (Hallo, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from portraitanim.models.attention_processors import attend, start_at_zero
from portraitanim.models.projections import KeysValues, project, project_keys_values
from portraitanim.types import REGION_NAMES


@dataclass(frozen=True, kw_only=True)
class RegionalAudioContext:
    """What one audio module reads beside its input.

    Attributes:
        tokens: keys and values of each region's attention, in the order of `REGION_NAMES`, each
            ``(rows with audio, tokens, channels)``.
        num_rows_without_audio: so many leading rows hear nothing (zero tokens).
        masks: ``(rows, 3, positions)`` in [0, 1], or ``None`` for everywhere.
        weights: strength of each region.
    """

    tokens: Sequence[KeysValues]
    num_rows_without_audio: int
    masks: Tensor | None
    weights: Sequence[float]


class RegionalAudioAttention(nn.Module):
    """Spatial self-attention, three masked cross-attentions to the audio tokens of the frame, feed-forward.

    Args:
        channels: width of the feature map.
        inner_channels: width inside.
        num_attention_heads: heads of all attentions.
        audio_dim: width of the audio tokens.
        norm_num_groups: groups of the first normalization.
        bias_outside_masks: the convolution's bias after each region is added everywhere (published Hallo weights),
            not only inside the region's mask.
    """

    def __init__(
        self,
        channels: int,
        inner_channels: int,
        num_attention_heads: int,
        audio_dim: int,
        norm_num_groups: int,
        bias_outside_masks: bool = False,
    ) -> None:
        super().__init__()
        self.bias_outside_masks = bias_outside_masks
        head_dim = inner_channels // num_attention_heads
        self.norm = nn.GroupNorm(norm_num_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, inner_channels, 1)
        self.norm1 = nn.LayerNorm(inner_channels)
        self.attn1 = Attention(inner_channels, heads=num_attention_heads, dim_head=head_dim)
        self.norm2 = nn.LayerNorm(inner_channels)
        for region in REGION_NAMES:
            attention = Attention(inner_channels, audio_dim, heads=num_attention_heads, dim_head=head_dim)
            self.add_module(f"attn_{region}", attention)
            self.add_module(f"zero_conv_{region}", start_at_zero(nn.Conv2d(inner_channels, inner_channels, 1)))
        self.norm3 = nn.LayerNorm(inner_channels)
        self.ff = FeedForward(inner_channels, activation_fn="geglu")
        self.proj_out = nn.Conv2d(inner_channels, channels, 1)

    def project(self, audio_tokens: Tensor) -> list[KeysValues]:
        """Keys and values of ``(rows, tokens, audio_dim)`` for each region, to be computed once per clip."""
        return [project_keys_values(self._attention(region), audio_tokens) for region in REGION_NAMES]

    def forward(self, hidden_states: Tensor, context: RegionalAudioContext) -> Tensor:
        """Add what the sound says to each region.

        Args:
            hidden_states: ``(rows, channels, height, width)``, rows batch-major, then frames.
            context: tokens, masks and weights of this call.

        Returns:
            As ``hidden_states``.
        """
        size = hidden_states.shape[-2:]
        tokens = self.proj_in(self.norm(hidden_states)).flatten(2).transpose(1, 2)
        seen = attend(*project(self.attn1, self.norm1(tokens)), self.attn1.heads)
        tokens = tokens + self.attn1.to_out[0](seen)
        tokens = tokens + self._hear(self.norm2(tokens), context)
        tokens = tokens + self.ff(self.norm3(tokens))
        return hidden_states + self.proj_out(tokens.transpose(1, 2).unflatten(2, size))

    def _hear(self, normed: Tensor, context: RegionalAudioContext) -> Tensor:
        heard = torch.zeros_like(normed)
        for index, region in enumerate(REGION_NAMES):
            weight = context.weights[index]
            if weight == 0.0:
                continue
            mask = None if context.masks is None else context.masks[:, index, :, None].to(normed.dtype)
            answer = self._answer(region, normed, context.tokens[index], context.num_rows_without_audio)
            heard = heard + weight * self._through_zero_conv(region, answer, mask)
        return heard

    def _answer(self, region: str, normed: Tensor, tokens: KeysValues, silent: int) -> Tensor:
        """Output of one region's attention; for rows without sound it is the output bias, for any query."""
        attention = self._attention(region)
        answer = attention.to_out[0].bias.expand(silent, *normed.shape[1:])
        if silent == len(normed):
            return answer
        query = attention.to_q(normed[silent:])
        heard = attention.to_out[0](attend(query, *tokens, attention.heads))
        return heard if silent == 0 else torch.cat([answer, heard])

    def _through_zero_conv(self, region: str, answer: Tensor, mask: Tensor | None) -> Tensor:
        conv = cast("nn.Conv2d", self.get_submodule(f"zero_conv_{region}"))
        weight, bias = conv.weight.flatten(1), conv.bias
        if mask is None:
            return nn.functional.linear(answer, weight, bias)
        if self.bias_outside_masks:
            return nn.functional.linear(answer * mask, weight, bias)
        return nn.functional.linear(answer, weight, bias) * mask

    def _attention(self, region: str) -> Attention:
        return self.get_submodule(f"attn_{region}")
