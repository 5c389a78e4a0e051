"""Decode a picture in overlapping tiles: the memory of one tile, and a picture that differs slightly.

What ties a picture together in the decoder is kept: attention runs on the whole picture, which is small where it does,
and the normalizations of all tiles use the same statistics, those of the picture shrunk to the size of a tile. Tiles
with statistics of their own, as diffusers decodes them, differ in brightness and colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_Statistics = dict[nn.GroupNorm, tuple[Tensor, Tensor]]

_OVERLAP = 8
"""Latent pixels that neighbouring tiles share. Of what lies further away, little reaches a pixel."""


@contextmanager
def decoding_in_tiles(vae: Any, tile_px: int) -> Iterator[None]:
    """Let diffusers' `AutoencoderKL` decode in tiles, while the block runs. Pictures of one tile stay as they are.

    Args:
        vae: the autoencoder; its hooks see one call of the decoder for each call of ``decode``.
        tile_px: side of a tile in pixels of the picture.
    """
    decoder = vae.decoder
    tile = tile_px // 2 ** (len(vae.config.block_out_channels) - 1)
    decoder.forward = partial(_forward, decoder, tile)
    try:
        yield
    finally:
        del decoder.forward  # that of the class comes back


def _forward(decoder: Any, tile: int, latents: Tensor) -> Tensor:
    if max(latents.shape[-2:]) <= tile:
        return type(decoder).forward(decoder, latents)
    hidden = decoder.mid_block(decoder.conv_in(latents))
    return torch.cat([_decode_tiles(decoder, tile, picture) for picture in hidden.split(1)])


def _decode_tiles(decoder: Any, tile: int, hidden: Tensor) -> Tensor:
    """One picture, from what the decoder's middle makes of it."""
    height, width = hidden.shape[-2:]
    norms = [module for part in (decoder.up_blocks, decoder.conv_norm_out) for module in _group_norms(part)]
    statistics: _Statistics = {}
    with _normalizing(norms, lambda norm: partial(_normalize_and_record, norm, statistics)):
        shrunk = tile / max(height, width)
        size = (max(round(height * shrunk), 1), max(round(width * shrunk), 1))
        _upper_half(decoder, F.interpolate(hidden, size, mode="nearest-exact"))
    picture = weights = hidden.new_zeros(())
    with _normalizing(norms, lambda norm: partial(_normalize_as, norm, *statistics[norm])):
        for top in _starts(height, tile):
            for left in _starts(width, tile):
                piece = _upper_half(decoder, hidden[..., top : top + tile, left : left + tile])
                factor = piece.shape[-1] // min(tile, width)
                if not picture.ndim:
                    picture = piece.new_zeros((1, piece.shape[1], height * factor, width * factor), dtype=torch.float32)
                    weights = picture.new_zeros((height * factor, width * factor))
                y, x, (tall, wide) = top * factor, left * factor, piece.shape[-2:]
                place = (..., slice(y, y + tall), slice(x, x + wide))
                weight = _fading(piece.shape[-2:], _OVERLAP * factor, picture)
                picture[place] += piece * weight
                weights[place] += weight
    return (picture / weights).to(hidden.dtype)


def _upper_half(decoder: Any, hidden: Tensor) -> Tensor:
    for block in decoder.up_blocks:
        hidden = block(hidden)
    made: Tensor = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(hidden)))
    return made


def _group_norms(module: nn.Module) -> list[nn.GroupNorm]:
    return [part for part in module.modules() if isinstance(part, nn.GroupNorm)]


@contextmanager
def _normalizing(
    norms: list[nn.GroupNorm], how: Callable[[nn.GroupNorm], Callable[[Tensor], Tensor]]
) -> Iterator[None]:
    for norm in norms:
        norm.forward = how(norm)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalize_and_record(norm: nn.GroupNorm, statistics: _Statistics, hidden: Tensor) -> Tensor:
    """As `GroupNorm` does, for one picture; mean and variance of each channel's group are taken down."""
    channels, pixels = hidden.shape[1], hidden.shape[-2] * hidden.shape[-1]
    made, mean, reciprocal = torch.native_group_norm(
        hidden, norm.weight, norm.bias, 1, channels, pixels, norm.num_groups, norm.eps
    )
    variance = reciprocal.float() ** -2 - norm.eps
    each = channels // norm.num_groups
    statistics[norm] = (mean.float()[0].repeat_interleave(each), variance[0].repeat_interleave(each))
    return made


def _normalize_as(norm: nn.GroupNorm, mean: Tensor, variance: Tensor, hidden: Tensor) -> Tensor:
    return F.batch_norm(hidden, mean, variance, norm.weight.float(), norm.bias.float(), eps=norm.eps)


def _starts(length: int, tile: int) -> list[int]:
    """First pixels of the tiles along a side, evenly placed."""
    if length <= tile:
        return [0]
    steps = math.ceil((length - tile) / (tile - _OVERLAP))
    return [round(number * (length - tile) / steps) for number in range(steps + 1)]


def _fading(size: Any, overlap: int, like: Tensor) -> Tensor:
    """Weights ``(height, width)``: nearly nothing in the outer quarter of an overlap, whose neighbours are missing."""
    sides = []
    for length in size:
        inside = torch.arange(length, device=like.device, dtype=like.dtype) + 0.5
        inside = torch.minimum(inside, length - inside) / overlap
        sides.append(((inside - 0.25) * 2).clamp(1e-3, 1.0))
    return sides[0][:, None] * sides[1]
