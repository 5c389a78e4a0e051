"""Behaviour of the networks that holds for every system, on small random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from portraitanim.errors import ShapeError
from portraitanim.models.denoising_unet import DenoisingUNet
from portraitanim.models.portrait_network import PortraitNetwork
from portraitanim.types import BatchLayout, Branch, PortraitConditioning, RegionMasks, RegionWeights
from tests.small_networks import conditioning, small_pipeline

SYSTEMS = ["hallo", "echomimic", "tiny"]
GUIDED = (Branch.UNCONDITIONAL, Branch.FULL)
LATENT = (4, 4, 4)
# Different batch sizes take other matrix kernels: float32 rounding over some thirty layers.
ROUNDING = 2e-5


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return request.param


def network_of(system: str) -> PortraitNetwork:
    return small_pipeline(system).network


@torch.no_grad()
def velocity(
    network: PortraitNetwork,
    given: PortraitConditioning,
    reference_latents: Tensor,
    sample: Tensor,
    branches: tuple[Branch, ...] = (Branch.FULL,),
    timestep: Tensor | float = 500,
    motion_latents: Tensor | None = None,
) -> Tensor:
    """One call, as the pipeline makes it; motion frames, by default the portrait, where the system has them."""
    identity = network.identity_tokens(given.identity_embedding)
    null = network.null_identity_tokens(given.identity_embedding)
    every = identity
    if identity is not None and null is not None:
        every = torch.cat([null if branch is Branch.UNCONDITIONAL else identity for branch in branches])
    motion = None
    if network.denoising_unet.has_regional_audio:
        before = reference_latents if motion_latents is None else motion_latents
        before = before[:, None].expand(-1, 2, -1, -1, -1)
        repeats = 1 if every is None else len(branches)
        motion = network.encode_motion(before.repeat(repeats, 1, 1, 1, 1), every)
    condition = given.condition_map
    features = network.encode_reference(reference_latents, identity, 2)
    context = network.prepare(
        BatchLayout(num_portraits=given.batch_size, branches=branches),
        reference=network.project_reference(features, every, reference_latents),
        audio_tokens=network.audio_tokens(given.audio_windows),
        condition=None if condition is None else network.condition_encoder(condition),
        motion=motion,
        masks=given.region_masks,
        weights=given.region_weights,
    )
    return network.denoise(sample.repeat(len(branches), 1, 1, 1, 1), timestep, context)


def inputs(system: str, batch: int = 1, frames: int = 4) -> tuple[PortraitConditioning, Tensor, Tensor]:
    torch.manual_seed(3)
    given = conditioning(system, frames, batch)
    return given, torch.randn(batch, *LATENT), torch.randn(batch, frames, *LATENT)


def test_batch_of_two_equals_two_batches_of_one(system: str) -> None:
    network = network_of(system)
    given, reference, sample = inputs(system, batch=2)
    together = velocity(network, given, reference, sample, GUIDED).unflatten(0, (2, 2))
    for item in range(2):
        one = replace(
            given,
            reference_image=given.reference_image[item : item + 1],
            audio_windows=given.audio_windows[item : item + 1],
            condition_map=given.condition_map[item : item + 1],
            identity_embedding=None if given.identity_embedding is None else given.identity_embedding[item : item + 1],
            region_masks=given.region_masks
            and RegionMasks(levels=tuple(level[item : item + 1] for level in given.region_masks.levels)),
        )
        alone = velocity(network, one, reference[item : item + 1], sample[item : item + 1], GUIDED)
        torch.testing.assert_close(together[:, item], alone, atol=ROUNDING, rtol=0)


def test_unconditional_half_does_not_depend_on_the_reference(system: str) -> None:
    network = network_of(system)
    given, reference, sample = inputs(system)
    before = torch.randn(reference.shape)
    first = velocity(network, given, reference, sample, GUIDED, motion_latents=before)
    second = velocity(network, given, -2 * reference, sample, GUIDED, motion_latents=before)
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1], atol=1e-3)


def test_unconditional_half_depends_on_neither_sound_nor_condition_map(system: str) -> None:
    network = network_of(system)
    given, reference, sample = inputs(system)
    changed = replace(given, audio_windows=-given.audio_windows, condition_map=1 - given.condition_map)
    first = velocity(network, given, reference, sample, GUIDED)
    second = velocity(network, changed, reference, sample, GUIDED)
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1], atol=1e-3)


def test_branches_of_a_batch_equal_each_branch_alone(system: str) -> None:
    network = network_of(system)
    given, reference, sample = inputs(system)
    together = velocity(network, given, reference, sample, tuple(Branch))
    for index, branch in enumerate(Branch):
        alone = velocity(network, given, reference, sample, (branch,))
        torch.testing.assert_close(together[index : index + 1], alone, atol=ROUNDING, rtol=0)


def test_branch_without_audio_hears_zero_tokens(system: str) -> None:
    """What is written down for null audio equals what the attention computes from zero tokens."""
    network = network_of(system)
    given, reference, sample = inputs(system)
    silent = velocity(network, given, reference, sample, (Branch.WITHOUT_AUDIO,))
    if network.audio_projection is not None:
        torch.nn.init.zeros_(network.audio_projection.norm.weight)
        torch.nn.init.zeros_(network.audio_projection.norm.bias)
    zeros = replace(given, audio_windows=torch.zeros_like(given.audio_windows))
    torch.testing.assert_close(silent, velocity(network, zeros, reference, sample), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("region", [0, 1, 2])
def test_region_weight_zero_equals_that_mask_at_zero(region: int) -> None:
    network = network_of("hallo")
    given, reference, sample = inputs("hallo")
    names = ("pose", "expression", "lip")
    muted = replace(given, region_weights=RegionWeights(**{names[region]: 0.0}))
    assert given.region_masks is not None
    levels = [level.clone() for level in given.region_masks.levels]
    for level in levels:
        level[:, :, region] = 0.0
    masked = replace(given, region_masks=RegionMasks(levels=tuple(levels)))
    first = velocity(network, muted, reference, sample)
    torch.testing.assert_close(first, velocity(network, masked, reference, sample), atol=ROUNDING, rtol=0)
    assert not torch.allclose(first, velocity(network, given, reference, sample), atol=1e-4)


def test_frames_of_a_video_context_equal_the_frames_alone(system: str) -> None:
    """A window cut out of the whole video's conditions is what the window's own conditions would be."""
    network = network_of(system)
    given, reference, sample = inputs(system, frames=6)
    frames = [4, 5, 0]
    identity = network.identity_tokens(given.identity_embedding)
    projected = network.project_reference(network.encode_reference(reference, identity), identity, reference)

    def context(part: PortraitConditioning):
        return network.prepare(
            BatchLayout(num_portraits=1),
            reference=projected,
            audio_tokens=network.audio_tokens(part.audio_windows),
            condition=network.condition_encoder(part.condition_map),
            masks=part.region_masks,
        )

    with torch.no_grad():
        whole = network.denoise(sample[:, frames], 10, context(given).windows([frames]))
        alone = network.denoise(sample[:, frames], 10, context(given.window(frames)))
    torch.testing.assert_close(whole, alone, atol=ROUNDING, rtol=0)


def training_step(network: PortraitNetwork, system: str) -> tuple[Tensor, dict[str, Tensor]]:
    given, reference, sample = inputs(system, batch=2)
    network.train()
    network.zero_grad()
    out = network(
        sample,
        torch.tensor([20, 700]),
        audio_windows=given.audio_windows,
        reference_latents=reference,
        motion_latents=None if system == "echomimic" else reference[:, None].expand(-1, 2, -1, -1, -1),
        condition_map=given.condition_map,
        identity_embedding=given.identity_embedding,
        masks=given.region_masks,
    )
    out.square().mean().backward()
    return out.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_gradient_checkpointing_changes_nothing_but_memory(system: str) -> None:
    network = network_of(system)
    plain, plain_gradients = training_step(network, system)
    network.reference_unet.enable_gradient_checkpointing()
    network.denoising_unet.enable_gradient_checkpointing()
    checkpointed, gradients = training_step(network, system)
    assert torch.equal(plain, checkpointed)
    assert gradients.keys() == plain_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain_gradients[name], atol=1e-6, rtol=1e-4)


def test_every_parameter_learns(system: str) -> None:
    network = network_of(system)
    _, gradients = training_step(network, system)
    silent = {name for name, _ in network.named_parameters() if name not in gradients or not gradients[name].any()}
    # Keys of attention have no gradient where there is one key only; here every layer has more.
    assert silent == set()


def test_training_forward_equals_a_pipeline_call(system: str) -> None:
    network = network_of(system)
    given, reference, sample = inputs(system)
    with torch.no_grad():
        trained = network(
            sample,
            torch.tensor([500]),
            audio_windows=given.audio_windows,
            reference_latents=reference,
            motion_latents=None if system == "echomimic" else reference[:, None].expand(-1, 2, -1, -1, -1),
            condition_map=given.condition_map,
            identity_embedding=given.identity_embedding,
            masks=given.region_masks,
        )
    torch.testing.assert_close(trained, velocity(network, given, reference, sample), atol=ROUNDING, rtol=0)


def test_saved_and_loaded_network_computes_the_same(tmp_path: Path) -> None:
    network = network_of("hallo")
    given, reference, sample = inputs("hallo")
    network.denoising_unet.save_pretrained(tmp_path)
    loaded = DenoisingUNet.from_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    before = velocity(network, given, reference, sample)
    saved = network.denoising_unet.state_dict()
    assert all(torch.equal(saved[name], value) for name, value in loaded.state_dict().items())
    network.denoising_unet = loaded
    # Loaded weights lie at other addresses, and some CPUs round otherwise where these are not aligned.
    torch.testing.assert_close(before, velocity(network, given, reference, sample), atol=ROUNDING, rtol=0)


def test_too_many_frames_for_the_motion_modules_are_refused() -> None:
    network = network_of("echomimic")
    given, reference, sample = inputs("echomimic", frames=17)
    with pytest.raises(ShapeError, match="16 positions"):
        velocity(network, given, reference, sample)


def test_audio_of_another_encoder_is_refused() -> None:
    network = network_of("hallo")
    with pytest.raises(ShapeError, match="audio encoder"):
        network.audio_tokens(torch.zeros(1, 4, 5, 12, 768))


def test_condition_map_with_other_channels_is_refused() -> None:
    with pytest.raises(ShapeError, match="channels"):
        network_of("echomimic").condition_encoder(torch.zeros(1, 1, 3, 32, 32))


def test_missing_identity_is_refused() -> None:
    with pytest.raises(ShapeError, match="identity"):
        network_of("hallo").identity_tokens(None)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 4)])
def test_any_latent_size_works(system: str, size: tuple[int, int]) -> None:
    network = network_of(system)
    given, _, _ = inputs(system)
    height, width = size
    levels = [(-(-height // 2**level), -(-width // 2**level)) for level in range(3)]
    masks = given.region_masks and RegionMasks(levels=tuple(torch.rand(1, 1, 3, h * w) for h, w in levels))
    given = replace(
        given, condition_map=torch.rand(1, 4, given.condition_map.shape[2], 8 * height, 8 * width), region_masks=masks
    )
    out = velocity(network, given, torch.randn(1, 4, *size), torch.randn(1, 4, 4, *size), GUIDED)
    assert out.shape == (2, 4, 4, *size)
    assert out.isfinite().all()
