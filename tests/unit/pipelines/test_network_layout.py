"""Channels-last and compiled networks compute what the plain ones do."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderTiny

from portraitanim.errors import InputError
from portraitanim.pipelines.network_layout import compile_regions, lay_channels_last
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from tests.small_networks import IMAGE_SIZE, conditioning, small_pipeline


def frames(pipe: PortraitAnimationPipeline, system: str) -> torch.Tensor:
    return pipe(conditioning(system, 6), generator=torch.Generator().manual_seed(0), guidance_scale=1.5).frames


@pytest.fixture(params=["hallo", "echomimic", "tiny"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


def test_channels_last_makes_the_same_video(system: str) -> None:
    pipe = small_pipeline(system)
    plain = frames(pipe, system)
    lay_channels_last(pipe.vae, pipe.reference_unet, pipe.denoising_unet, pipe.condition_encoder)
    assert pipe.denoising_unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    # Other kernels; their rounding goes through two clips.
    torch.testing.assert_close(frames(pipe, system), plain, atol=1e-3, rtol=0)


def test_blocks_can_be_traced_whole(system: str) -> None:
    """By the tracer alone: what it cannot follow would be left out of every compilation, in silence."""
    pipe = small_pipeline(system)
    plain, keys = frames(pipe, system), list(pipe.denoising_unet.state_dict())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert compile_regions(pipe.denoising_unet, pipe.vae.decoder, backend="eager") > 10
    torch.testing.assert_close(frames(pipe, system), plain, atol=1e-4, rtol=0)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]
    assert list(pipe.denoising_unet.state_dict()) == keys


def test_longer_videos_have_no_other_sizes(system: str) -> None:
    """Ten frames are two clips of four and one of two, or windows in a ring: all are computed at full length."""
    pipe = small_pipeline(system)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compile_regions(pipe.denoising_unet, pipe.vae.decoder, backend="eager")
    graphs = []
    for num_frames in (8, 10):
        pipe(conditioning(system, num_frames), generator=torch.Generator().manual_seed(0), guidance_scale=1.5)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] > 0


@pytest.mark.slow
def test_compiled_network_makes_the_same_video() -> None:
    pipe = small_pipeline("tiny")
    plain = frames(pipe, "tiny")
    compile_regions(pipe.denoising_unet, pipe.vae.decoder)
    # Fused kernels round otherwise.
    torch.testing.assert_close(frames(pipe, "tiny"), plain, atol=1e-3, rtol=0)


def test_small_decoder_makes_the_pictures() -> None:
    torch.manual_seed(0)
    pipe, given = small_pipeline("hallo"), conditioning("hallo", 6)
    small = AutoencoderTiny(decoder_block_out_channels=(8, 8, 8, 8), encoder_block_out_channels=(8, 8, 8, 8)).eval()
    decoded: list[int] = []
    small.decoder.register_forward_hook(lambda module, inputs, output: decoded.append(len(output)))
    pipe.vae.decoder.register_forward_hook(lambda module, inputs, output: pytest.fail("the full decoder was asked"))
    video = torch.cat(list(pipe.stream(given, decoder="small", small_decoder=small)), dim=1)
    assert video.shape == (1, 6, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert 0 <= video.min() < video.max() <= 1
    assert len(decoded) == 8


def test_small_decoder_that_is_not_given_is_an_error() -> None:
    with pytest.raises(InputError, match="give small_decoder"):
        next(small_pipeline("hallo").stream(conditioning("hallo", 4), decoder="small"))
