"""Multiplications of one full-size denoising call, counted on the meta device: no weights, no time."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from portraitanim.config.presets import load_preset
from portraitanim.models.motion_module import MotionModule
from portraitanim.models.portrait_network import PortraitNetwork
from portraitanim.models.unet_context import UNetContext
from portraitanim.pipelines.build import build_network
from portraitanim.types import BatchLayout, Branch, RegionMasks
from tests.small_networks import conditioning, small_pipeline


@pytest.fixture(scope="module", params=["hallo", "echomimic"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(system: str) -> PortraitNetwork:
    return build_network(load_preset(system), device="meta")


def full_context(network: PortraitNetwork, frames: int, size: int, branches: tuple[Branch, ...]) -> UNetContext:
    """Conditions at full size, without values."""
    latent = size // 8
    sampling_motion = 2 if network.denoising_unet.has_regional_audio else 0
    with torch.device("meta"), torch.no_grad():
        rows = len(branches) if network.quirks.tile_reference_rows else 1
        identity = network.identity_tokens(torch.empty(len(branches), 512))
        portrait = torch.empty(rows, 4, latent, latent)
        features = network.encode_reference(portrait, identity, sampling_motion)
        motion = masks = None
        audio = torch.empty(1, frames, 50, 384)
        if sampling_motion:
            motion = network.encode_motion(torch.empty(len(branches), 2, 4, latent, latent), identity)
            audio = torch.empty(1, frames, 32, 768)
            masks = RegionMasks(levels=tuple(torch.empty(1, 1, 3, (latent >> level) ** 2) for level in range(4)))
        return network.prepare(
            BatchLayout(num_portraits=1, branches=branches),
            reference=network.project_reference(features, identity),
            audio_tokens=audio,
            condition=torch.empty(1, 1, 320, latent, latent),
            motion=motion,
            masks=masks,
        )


def gflops(network: PortraitNetwork, context: UNetContext, items: int, frames: int, size: int) -> float:
    """GFLOP per frame of one denoising call."""
    latent = size // 8
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.denoise(torch.empty(items, frames, 4, latent, latent), torch.zeros(()), context)
    return counter.get_total_flops() / frames / 1e9


@pytest.mark.parametrize("size", [256, 512])
def test_guided_call_stays_below_the_target(system: str, network: PortraitNetwork, size: int) -> None:
    # The published code needs 689 and 3,372 (Hallo), 557 and 2,681 (EchoMimic).
    frames, target = {"hallo": (16, {256: 625, 512: 2950}), "echomimic": (12, {256: 510, 512: 2310})}[system]
    context = full_context(network, frames, size, (Branch.UNCONDITIONAL, Branch.FULL))
    assert gflops(network, context, 2, frames, size) <= target[size]


def test_guidance_costs_less_than_a_second_call(system: str, network: PortraitNetwork) -> None:
    """The unconditional half attends to no reference and no sound."""
    guided = full_context(network, 4, 256, (Branch.UNCONDITIONAL, Branch.FULL))
    single = full_context(network, 4, 256, (Branch.FULL,))
    assert gflops(network, guided, 2, 4, 256) < 1.96 * gflops(network, single, 1, 4, 256)


def test_projections_are_not_part_of_a_step(system: str) -> None:
    """Keys and values of reference, identity and sound are made once per clip; a step must not make them again."""
    pipe = small_pipeline(system, num_inference_steps=3, guidance_scale=2.0)
    projected: dict[str, list[int]] = {}
    for name, module in pipe.denoising_unet.named_modules():
        if name.endswith((".to_k", ".to_v")):
            projected[name] = []
            module.register_forward_hook(lambda module, inputs, output, name=name: projected[name].append(len(output)))
    pipe(conditioning(system, 4), generator=torch.Generator().manual_seed(0))
    for name, rows in projected.items():
        if ".attn2." in name or ".attn_" in name:
            assert len(rows) == 1, f"{name} was projected {len(rows)} times in three steps"
        elif ".attentions." in name:
            # Self-attention: the portrait's own row once, then in each step the frames of both branches and no more.
            assert rows == [1, 8, 8, 8], name


def test_motion_frames_are_dropped_as_soon_as_nobody_reads_them() -> None:
    """The second temporal attention queries with the new frames only, and so does all that follows."""
    module = MotionModule(16, num_attention_heads=2, max_positions=8, norm_num_groups=4)
    lengths: dict[str, int] = {}
    for name in ("attention_blocks.0.to_q", "attention_blocks.1.to_q", "attention_blocks.1.to_k", "ff", "proj_out"):
        module.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: lengths.update({name: output.shape[1]})
        )
    module(torch.randn(3, 16, 4, 4), num_frames=3, motion_tokens=torch.randn(1, 2, 16, 16))
    assert lengths == {
        "attention_blocks.0.to_q": 5,
        "attention_blocks.1.to_q": 3,
        "attention_blocks.1.to_k": 5,
        "ff": 3,
        "proj_out": 3,
    }
