"""Regional audio attention: sound moves pose, expression and lips by three cross-attentions (Hallo, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from portraitanim.models.attention_processors import attend, start_at_zero
from portraitanim.models.feed_forward import feed_forward
from portraitanim.models.projections import KeysValues, project, project_keys_values
from portraitanim.models.token_maps import add_tokens, as_tokens, project_tokens
from portraitanim.types import REGION_NAMES

_MAX_FOLDED_TOKENS = 64
"""Heads times audio tokens up to which a clip's projections are folded: 32 in the bundled network. Folded keys are as
wide as the frames' tokens, once per head: Hallo's 256 would take more memory than they save work."""


@dataclass(frozen=True, kw_only=True)
class RegionalAudioContext:
    """What one audio module reads beside its input.

    Attributes:
        tokens: what `RegionalAudioAttention.project` made for these rows.
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
        # Off while somebody listens to what the regions add one by one (`debug_views.recorded_region_maps`).
        self.may_fold = True
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
        self.ff = feed_forward(inner_channels)
        self.proj_out = nn.Conv2d(inner_channels, channels, 1)

    def project(self, audio_tokens: Tensor) -> list[KeysValues]:
        """What the regions hear of ``(rows, tokens, audio_dim)``, to be computed once per clip.

        Returns:
            Keys and values ``(rows, tokens, channels)`` of each region, in the order of `REGION_NAMES`. Or a single
            pair of all regions, ``(rows, tokens · regions · heads, inner_channels)``, whose keys hold the projection
            of the queries and whose values what comes behind the attention: the same sums in another order, a sixth of
            the arithmetic of each step. In training never, where every weight needs its gradient.
        """
        pairs = [project_keys_values(self._attention(region), audio_tokens) for region in REGION_NAMES]
        few = self.attn1.heads * audio_tokens.shape[1] <= _MAX_FOLDED_TOKENS
        if torch.is_grad_enabled() or not (self.may_fold and few):
            return pairs
        key, value = (torch.stack(parts, dim=2).float() for parts in zip(*pairs, strict=True))
        key, value = self._fold(*(x.unflatten(-1, (self.attn1.heads, -1)) for x in (key, value)))
        return [(key.flatten(1, 3).to(audio_tokens.dtype), value.flatten(1, 3).to(audio_tokens.dtype))]

    def _fold(self, key: Tensor, value: Tensor) -> KeysValues:
        """Keys and values ``(rows, tokens, regions, heads, head width)`` with the products around them.

        Returns:
            ``(rows, tokens, regions, heads, inner_channels)`` each, in float32.
        """
        heads = key.shape[3]
        asking = torch.stack([self._attention(region).to_q.weight for region in REGION_NAMES])
        answering = torch.stack([self._attention(region).to_out[0].weight for region in REGION_NAMES])
        convs = torch.stack([self._zero_conv(region).weight.flatten(1) for region in REGION_NAMES])
        asking = asking.float().unflatten(1, (heads, -1))
        telling = (convs.float() @ answering.float()).unflatten(2, (heads, -1))
        key = torch.einsum("rtgha,ghac->rtghc", key, asking) * key.shape[-1] ** -0.5
        value = torch.einsum("rtgha,gcha->rtghc", value, telling)
        # The weights of a head sum to one, so that its share of the bias can be part of every value.
        return key, value + self._biases()[:, None] / heads

    def _biases(self) -> Tensor:
        """What each region says to every query ``(regions, inner_channels)``: all that is heard without sound."""
        return torch.stack([self._bias(region) for region in REGION_NAMES])

    def _bias(self, region: str) -> Tensor:
        """The part of one region, in float32."""
        conv = self._zero_conv(region)
        bias = conv.weight.float().flatten(1) @ self._attention(region).to_out[0].bias.float()
        return bias if self.bias_outside_masks or conv.bias is None else bias + conv.bias.float()

    def forward(self, hidden_states: Tensor, context: RegionalAudioContext) -> Tensor:
        """Add what the sound says to each region.

        Args:
            hidden_states: ``(rows, channels, height, width)``, rows batch-major, then frames.
            context: tokens, masks and weights of this call.

        Returns:
            As ``hidden_states``.
        """
        tokens = project_tokens(self.proj_in, as_tokens(self.norm(hidden_states)))
        seen = attend(*project(self.attn1, self.norm1(tokens)), self.attn1.heads)
        tokens = tokens + self.attn1.to_out[0](seen)
        tokens = tokens + self._hear(self.norm2(tokens), context)
        tokens = tokens + self.ff(self.norm3(tokens))
        return add_tokens(hidden_states, project_tokens(self.proj_out, tokens))

    def _hear(self, normed: Tensor, context: RegionalAudioContext) -> Tensor:
        if len(context.tokens) < len(REGION_NAMES):
            return self._hear_folded(normed, context)
        heard = torch.zeros_like(normed)
        for index, region in enumerate(REGION_NAMES):
            weight = context.weights[index]
            if weight == 0.0:
                continue
            mask = None if context.masks is None else context.masks[:, index, :, None].to(normed.dtype)
            answer = self._answer(region, normed, context.tokens[index], context.num_rows_without_audio)
            heard = heard + weight * self._through_zero_conv(region, answer, mask)
        return heard

    def _hear_folded(self, normed: Tensor, context: RegionalAudioContext) -> Tensor:
        (key, value), silent = context.tokens[0], context.num_rows_without_audio
        # Filled on the device: numbers copied there would be waited for, and no CUDA graph records such a copy.
        strength = torch.stack([normed.new_full((), weight) for weight in context.weights])[None, :, None]
        if context.masks is not None:
            strength = context.masks.to(normed.dtype) * strength
        strength = strength.expand(len(normed), -1, normed.shape[1])
        parts = []
        if silent:
            parts.append(torch.matmul(strength[:silent].transpose(1, 2), self._biases().to(normed.dtype)))
        if silent < len(normed):
            # Keys come first: softmax along an axis of few tokens is fast where positions lie side by side.
            shape = (-1, len(REGION_NAMES), self.attn1.heads)
            seen = torch.bmm(key, normed[silent:].transpose(1, 2)).unflatten(1, shape).softmax(dim=1)
            seen = (seen * strength[silent:, None, :, None]).flatten(1, 3)
            parts.append(torch.bmm(seen.transpose(1, 2), value))
        heard = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self.bias_outside_masks:
            for weight, region in zip(context.weights, REGION_NAMES, strict=True):
                heard = heard + weight * cast("Tensor", self._zero_conv(region).bias)
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
        conv = self._zero_conv(region)
        weight, bias = conv.weight.flatten(1), conv.bias
        if mask is None:
            return nn.functional.linear(answer, weight, bias)
        if self.bias_outside_masks:
            return nn.functional.linear(answer * mask, weight, bias)
        return nn.functional.linear(answer, weight, bias) * mask

    def _zero_conv(self, region: str) -> nn.Conv2d:
        return cast("nn.Conv2d", self.get_submodule(f"zero_conv_{region}"))

    def _attention(self, region: str) -> Attention:
        return self.get_submodule(f"attn_{region}")
