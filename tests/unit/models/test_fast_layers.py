"""Layers that are computed in another way than diffusers computes them give the same numbers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from portraitanim.models import token_maps
from portraitanim.models.attention_processors import ReferenceAttentionProcessor, SpatialContext
from portraitanim.models.audio_attention import RegionalAudioAttention, RegionalAudioContext
from portraitanim.models.feed_forward import halve_gate
from portraitanim.models.layer_sizes import LayerSizes
from portraitanim.models.motion_module import MotionModule
from portraitanim.models.spatial_transformer import SpatialTransformer
from portraitanim.models.timed_resnet import TimedResnet

# One operation more or less is rounded: float32 keeps 24 bits.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def random_weights(network: Any) -> Any:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def hear(module: RegionalAudioAttention, maps: Tensor, sound: Tensor, silent: int, masks: Tensor | None) -> Tensor:
    context = RegionalAudioContext(
        tokens=module.project(sound), num_rows_without_audio=silent, masks=masks, weights=(1.0, 0.0, 0.7)
    )
    return module(maps, context)


@pytest.mark.parametrize("bias_outside_masks", [True, False])
@pytest.mark.parametrize("has_masks", [True, False])
@pytest.mark.parametrize("silent", [0, 1, 3])
def test_folded_sound_is_heard_as_in_training(silent: int, has_masks: bool, bias_outside_masks: bool) -> None:
    module = random_weights(RegionalAudioAttention(16, 8, 2, 12, 4, bias_outside_masks=bias_outside_masks))
    maps, sound = torch.randn(3, 16, 4, 5), torch.randn(3 - silent, 6, 12)
    masks = torch.rand(3, 3, 20) if has_masks else None
    plain = hear(module, maps, sound, silent, masks)
    with torch.no_grad():
        folded = hear(module, maps, sound, silent, masks)
    torch.testing.assert_close(folded, plain, **ROUNDING)


def test_many_tokens_are_not_folded() -> None:
    module = RegionalAudioAttention(16, 16, 4, 12, 4)
    with torch.no_grad():
        assert [len(module.project(torch.randn(1, tokens, 12))) for tokens in (16, 17)] == [1, 3]


@pytest.mark.parametrize("rows_of_time", [1, 3])
def test_timed_resnet_is_diffusers(rows_of_time: int) -> None:
    sizes = {"in_channels": 8, "out_channels": 12, "temb_channels": 16, "groups": 4}
    ours, theirs = random_weights(TimedResnet(**sizes)), ResnetBlock2D(**sizes).eval()
    theirs.load_state_dict(ours.state_dict())
    maps, time = torch.randn(3, 8, 6, 6), torch.randn(rows_of_time, 16)
    torch.testing.assert_close(ours(maps, time), theirs(maps, time), **ROUNDING)


def test_halved_gate_is_diffusers() -> None:
    theirs = random_weights(FeedForward(8, activation_fn="geglu"))
    ours = halve_gate(copy.deepcopy(theirs))
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(2, 5, 8)
    expected = theirs(tokens)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), expected, **ROUNDING)
    torch.testing.assert_close(ours(tokens), expected, **ROUNDING)


def test_spatial_transformer_is_diffusers() -> None:
    sizes = LayerSizes(time_channels=8, num_attention_heads=2, cross_attention_dim=None, norm_num_groups=4)
    ours = random_weights(SpatialTransformer.of_sizes(16, sizes))
    maps, context = torch.randn(3, 16, 4, 5), SpatialContext()
    options = {"cross_attention_kwargs": {"context": context}, "return_dict": False}
    expected = super(SpatialTransformer, ours).forward(maps, **options)[0]
    assert isinstance(ours.transformer_blocks[0].attn1.processor, ReferenceAttentionProcessor)
    torch.testing.assert_close(ours(maps, context), expected, **ROUNDING)


@pytest.mark.parametrize("layer", ["resnet", "spatial", "motion"])
def test_layout_of_maps_changes_no_numbers(layer: str) -> None:
    sizes = LayerSizes(time_channels=8, num_attention_heads=2, cross_attention_dim=None, norm_num_groups=4)
    calls = {
        "resnet": (random_weights(TimedResnet(in_channels=16, temb_channels=8, groups=4)), (torch.randn(1, 8),)),
        "spatial": (random_weights(SpatialTransformer.of_sizes(16, sizes)), (SpatialContext(),)),
        "motion": (random_weights(MotionModule(16, 2, 8, 4)), (3,)),
    }
    module, rest = calls[layer]
    maps = torch.randn(3, 16, 4, 6)
    with torch.no_grad():
        expected = module(maps, *rest)
        turned = module(maps.contiguous(memory_format=torch.channels_last), *rest)
    torch.testing.assert_close(turned, expected, **ROUNDING)


@pytest.mark.parametrize(("side", "scale", "is_turned"), [(32, 1, True), (16, 1, False), (16, 2, True)])
def test_large_maps_lie_channels_last(side: int, scale: int, is_turned: bool) -> None:
    maps = torch.randn(2, 3, side, side)
    with torch.no_grad():
        laid = token_maps.lay_suited(maps, scale)
    assert laid.is_contiguous(memory_format=torch.channels_last) is is_turned
    assert torch.equal(laid, maps)
    assert token_maps.lay_suited(maps, scale) is maps, "training keeps plain layout"
