"""Tiles take less memory, and what they make is nearly the whole picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from portraitanim.config.animation import AnimationOptions
from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.presets import load_preset
from portraitanim.errors import ConfigError
from portraitanim.pipelines.animation_plan import fit_to_parts, plan_animation
from portraitanim.pipelines.build import build_autoencoder
from portraitanim.pipelines.frame_decoding import decode_frames
from portraitanim.pipelines.memory_model import predict_memory
from portraitanim.pipelines.memory_plan import MemoryPlan
from portraitanim.pipelines.weights_folder import load_pipeline
from tests.examples import PORTRAIT


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(-10 * torch.log10(((one - other) ** 2).mean()))


@pytest.fixture(scope="module")
def bundled() -> tuple[torch.nn.Module, torch.Tensor]:
    """The bundled autoencoder, and latents of a real portrait at 320 pixels."""
    from portraitanim.checkpoints.animators import choose_weights

    vae = load_pipeline(choose_weights("tiny").folder, torch.float32).vae
    picture = Image.open(PORTRAIT).convert("RGB").resize((320, 320))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        return vae, (vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor)[:, None]


@pytest.mark.parametrize(("tile_px", "least_db"), [(256, 44.0), (128, 36.0)])
@torch.no_grad()
def test_real_portrait_in_tiles_is_nearly_that_decoded_whole(
    bundled: tuple[torch.nn.Module, torch.Tensor], tile_px: int, least_db: float
) -> None:
    vae, latents = bundled
    (whole,), (tiled,) = decode_frames(vae, latents), decode_frames(vae, latents, 1, tile_px)
    assert tiled.shape == whole.shape
    assert not torch.equal(tiled, whole)
    assert psnr(tiled, whole) > least_db
    (again,) = decode_frames(vae, latents)
    assert torch.equal(again, whole), "nothing is left on the decoder"


@torch.no_grad()
def test_random_decoder_with_groups_and_attention_is_closer_than_tiles_on_their_own() -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(load_preset("hallo", {"autoencoder": {"block_out_channels": [32, 32, 64, 64]}}))
    calls: list[int] = []
    latents = torch.randn(2, 2, 4, 16, 24) * vae.config.scaling_factor
    (whole,) = decode_frames(vae, latents, 2)
    hook = vae.decoder.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    (tiled,) = decode_frames(vae, latents, 2, 128)
    hook.remove()
    assert calls == [4], "hooks see a tiled call as one"
    vae.enable_tiling()
    vae.tile_sample_min_size, vae.tile_latent_min_size = 128, 16
    (on_their_own,) = decode_frames(vae, latents, 2)
    vae.disable_tiling()
    assert psnr(tiled, whole) > max(25.0, psnr(on_their_own, whole) + 2)
    (one_tile,) = decode_frames(vae, latents, 2, 192)
    assert torch.equal(one_tile, whole), "pictures of one tile stay as they are"


def test_predicted_memory_falls() -> None:
    preset = load_preset("tiny", {"sampling": {"size_px": 512}})
    needs = [
        predict_memory(
            preset, dtype=torch.float32, device_type="cuda", execution=ExecutionConfig(decode_tile_px=tile_px)
        )
        for tile_px in (None, 256, 128)
    ]
    whole, larger, smaller = (need.working_bytes_of["vae"] for need in needs)
    assert smaller <= larger < 0.9 * whole


def test_plan_says_that_the_frames_change() -> None:
    preset = load_preset("tiny")
    execution = ExecutionConfig(decode_tile_px=128)
    need = predict_memory(preset, dtype=torch.float32, device_type="cpu", execution=execution)
    plan = MemoryPlan(dtype=torch.float32, is_offloaded=False, execution=execution, need=need)
    assert "tiles of 128 px, which changes them slightly" in plan.describe()


@pytest.mark.parametrize("tile_px", [0, 96, 130])
def test_tile_that_cannot_be_is_refused(tile_px: int) -> None:
    with pytest.raises(ConfigError, match="--decode-tile must be a multiple of 32"):
        ExecutionConfig(decode_tile_px=tile_px)


def test_tiles_of_the_small_decoder_are_refused() -> None:
    plan = plan_animation(AnimationOptions(), load_preset("hallo"), has_audio=True, has_driving=False)
    small = replace(plan, preset=replace(plan.preset, sampling=replace(plan.sampling, decoder="small")))
    tiles = ExecutionConfig(decode_tile_px=256)
    with pytest.raises(ConfigError, match="--decode-tile has no effect on the small decoder"):
        fit_to_parts(small, AnimationOptions(), execution=tiles, has_small_decoder=True)
