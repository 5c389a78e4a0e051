"""Attention along time (AnimateDiff's motion module, arXiv 2307.04725), with motion frames carried over (Hallo)."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from portraitanim.models.attention_processors import attend, start_at_zero
from portraitanim.models.feed_forward import feed_forward
from portraitanim.models.projections import project, project_keys_values, project_query
from portraitanim.models.token_maps import add_tokens, as_tokens


class MotionModule(nn.Module):
    """Two temporal self-attentions and a feed-forward layer per pixel, added to the input.

    Args:
        channels: width of the feature map.
        num_attention_heads: heads of the temporal attention.
        max_positions: longest run of frames, motion frames included.
        norm_num_groups: groups of the normalization, which works on each frame by itself.
    """

    def __init__(self, channels: int, num_attention_heads: int, max_positions: int, norm_num_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_num_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.attention_blocks = nn.ModuleList(
            Attention(channels, heads=num_attention_heads, dim_head=channels // num_attention_heads) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.ff = feed_forward(channels)
        self.ff_norm = nn.LayerNorm(channels)
        self.proj_out = start_at_zero(nn.Linear(channels, channels))
        self.positions: Tensor
        self.register_buffer("positions", sinusoidal_positions(max_positions, channels), persistent=False)

    def forward(self, hidden_states: Tensor, num_frames: int, motion_tokens: Tensor | None = None) -> Tensor:
        """Let every pixel see its own past and future.

        Args:
            hidden_states: ``(batch · frames, channels, height, width)``.
            num_frames: frames per batch item.
            motion_tokens: features of the frames before, ``(batch, motion frames, height · width, channels)``. They
                stand before the frames and are read by them, but come out changed for nobody: what only they need is
                not computed.

        Returns:
            As ``hidden_states``.
        """
        height, width = hidden_states.shape[-2:]
        tokens = _over_time(as_tokens(self.norm(_plain_layout(hidden_states))), num_frames)
        num_motion = 0
        if motion_tokens is not None:
            num_motion = motion_tokens.shape[1]
            maps = motion_tokens.flatten(0, 1).transpose(1, 2).unflatten(2, (height, width))
            # Turned maps lie channels-last, where torch's normalization of small maps is slow.
            before = self.norm(_plain_layout(maps.to(tokens.dtype).contiguous()))
            tokens = torch.cat([_over_time(as_tokens(before), num_motion), tokens], dim=1)
        tokens = self.proj_in(tokens)
        positions = self.positions[:, : tokens.shape[1]].to(tokens.dtype)
        for index, (norm, attention) in enumerate(self._layers()):
            normed = norm(tokens) + positions
            kept = num_motion if index == len(self.norms) - 1 else 0
            if kept:
                parts = (project_query(attention, normed[:, kept:]), *project_keys_values(attention, normed))
            else:
                parts = project(attention, normed)
            seen = attend(*parts, attention.heads)
            tokens = tokens[:, kept:] + attention.to_out[0](seen)
        tokens = self.proj_out(tokens + self.ff(self.ff_norm(tokens)))
        return add_tokens(hidden_states, _over_time(tokens, height * width))

    def _layers(self) -> list[tuple[nn.Module, Any]]:
        return list(zip(self.norms, self.attention_blocks, strict=True))


def sinusoidal_positions(max_positions: int, channels: int) -> Tensor:
    """Position table ``(1, max_positions, channels)``: sine in even, cosine in odd channels (base 10000)."""
    position = torch.arange(max_positions).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
    table = torch.zeros(1, max_positions, channels)
    table[0, :, 0::2] = torch.sin(position * frequency)
    table[0, :, 1::2] = torch.cos(position * frequency)
    return table


def _plain_layout(maps: Tensor) -> Tensor:
    """A copy in plain layout where training needs one.

    Torch's group normalization on a CPU crashes in its backward pass (2.13) where an input that needs no gradient lies
    channels-last, as behind frozen networks; maps of a single pixel may do so by their strides alone.
    """
    if torch.is_grad_enabled() and not maps.requires_grad:
        return maps.clone(memory_format=torch.contiguous_format)
    return maps


def _over_time(tokens: Tensor, num_frames: int) -> Tensor:
    """``(batch · frames, positions, channels)`` → ``(batch · positions, frames, channels)``, and the other way."""
    return tokens.unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(0, 1)
