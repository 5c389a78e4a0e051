"""The spatial transformer of a layer: diffusers' own, walked over tokens that lie one after another."""

from __future__ import annotations

from typing import Any, cast

from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from portraitanim.models.attention_processors import (
    ReferenceAttentionProcessor,
    SpatialContext,
    TokenAttentionProcessor,
)
from portraitanim.models.feed_forward import halve_gate
from portraitanim.models.layer_sizes import LayerSizes
from portraitanim.models.token_maps import add_tokens, as_tokens, project_tokens


class SpatialTransformer(Transformer2DModel):
    """Diffusers' spatial transformer with our processors; no second attention if ``cross_attention_dim`` is None.

    The layers and their names are diffusers'. Its own ``forward`` keeps the tokens as a turned view of the maps, on
    which a CPU needs several times as long for sums and normalizations.
    """

    @classmethod
    def of_sizes(cls, channels: int, sizes: LayerSizes) -> SpatialTransformer:
        """One for maps of ``channels``."""
        transformer = cls(
            sizes.num_attention_heads,
            channels // sizes.num_attention_heads,
            in_channels=channels,
            num_layers=1,
            cross_attention_dim=sizes.cross_attention_dim,
            norm_num_groups=sizes.norm_num_groups,
        )
        block = transformer.transformer_blocks[0]
        block.attn1.set_processor(ReferenceAttentionProcessor())
        if block.attn2 is not None:
            block.attn2.set_processor(TokenAttentionProcessor(sizes.cross_attention_scale))
        halve_gate(block.ff)
        return transformer

    def forward(self, hidden_states: Tensor, context: SpatialContext) -> Tensor:
        """Let every position see its frame, the reference, and tokens.

        Args:
            hidden_states: ``(rows, channels, height, width)``.
            context: what else it reads.

        Returns:
            As ``hidden_states``.
        """
        layers = cast("Any", self)
        tokens = project_tokens(layers.proj_in, as_tokens(layers.norm(hidden_states)))
        tokens = layers.transformer_blocks[0](tokens, cross_attention_kwargs={"context": context})
        return add_tokens(hidden_states, project_tokens(layers.proj_out, tokens))


class RecordingEnd(nn.Module):
    """The first layers of a spatial transformer, up to the tokens that are recorded."""

    def __init__(self, channels: int, sizes: LayerSizes) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(sizes.norm_num_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([nn.ModuleDict({"norm1": nn.LayerNorm(channels)})])

    def forward(self, hidden_states: Tensor, context: SpatialContext) -> Tensor:
        """Record; ``hidden_states`` ``(rows, channels, height, width)`` stay."""
        tokens = project_tokens(self.proj_in, as_tokens(self.norm(hidden_states)))
        assert context.recorded is not None  # only in the reference network
        context.recorded[context.name] = cast("nn.ModuleDict", self.transformer_blocks[0])["norm1"](tokens)
        return hidden_states
