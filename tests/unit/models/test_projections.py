"""Self-attentions with one projection compute what those with three do, and are saved as those."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch.utils.flop_counter import FlopCounterMode

from portraitanim.models.attention_processors import attend
from portraitanim.models.motion_module import MotionModule
from portraitanim.models.projections import join_projections
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from tests.small_networks import conditioning, small_pipeline


@pytest.fixture(params=["hallo", "echomimic", "tiny"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


def joined(system: str) -> PortraitAnimationPipeline:
    pipe = small_pipeline(system)
    assert join_projections(pipe.reference_unet, pipe.denoising_unet) > 5
    return pipe


def frames(pipe: PortraitAnimationPipeline, system: str) -> torch.Tensor:
    return pipe(conditioning(system, 6), generator=torch.Generator().manual_seed(0), guidance_scale=1.5).frames


def test_joined_projections_make_the_same_video(system: str) -> None:
    # Sums in another order; their rounding goes through two clips.
    plain = frames(small_pipeline(system), system)
    torch.testing.assert_close(frames(joined(system), system), plain, atol=1e-4, rtol=0)


def test_joined_projections_are_saved_bit_for_bit(system: str, tmp_path: Path) -> None:
    small_pipeline(system).save_pretrained(tmp_path / "apart")
    joined(system).save_pretrained(tmp_path / "joined")
    files = sorted(path.relative_to(tmp_path / "apart") for path in (tmp_path / "apart").rglob("*.safetensors"))
    assert files
    for file in files:
        assert (tmp_path / "joined" / file).read_bytes() == (tmp_path / "apart" / file).read_bytes()


def test_joined_projections_load_weights_that_are_apart(system: str) -> None:
    pipe, other = joined(system), small_pipeline(system, seed=3)
    pipe.denoising_unet.load_state_dict(other.denoising_unet.state_dict())
    state = pipe.denoising_unet.state_dict()
    for name, weight in other.denoising_unet.state_dict().items():
        assert torch.equal(state[name], weight), name


def test_joining_twice_changes_nothing() -> None:
    pipe = joined("tiny")
    assert join_projections(pipe.reference_unet, pipe.denoising_unet) == 0


def test_attention_to_other_tokens_stays_apart() -> None:
    network = joined("hallo").denoising_unet
    cross = [module for module in network.modules() if isinstance(module, Attention) and module.is_cross_attention]
    assert cross
    assert all(hasattr(module, "to_q") and not hasattr(module, "to_qkv") for module in cross)


def test_motion_frames_ask_nothing_of_the_last_attention() -> None:
    module = MotionModule(16, 2, 8, 4)
    maps, motion = torch.rand(3, 16, 2, 2), torch.rand(1, 2, 4, 16)
    counts = []
    for _ in range(2):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(maps, 3, motion)
        counts.append(counter.get_total_flops())
        join_projections(module)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("num_keys", [3, 32, 33])
def test_short_rows_of_scores_sum_to_one(num_keys: int) -> None:
    """In bfloat16 on a CPU attention is two products: few keys take another way through the softmax than many."""
    query, key = torch.rand(5, 4, 8) * 4, torch.rand(5, num_keys, 8) * 4
    value = torch.eye(num_keys)[:, :8].expand(5, -1, -1) if num_keys < 8 else torch.rand(5, num_keys, 8)
    value = torch.nn.functional.pad(value, (0, 8 - value.shape[-1]))
    with torch.no_grad():
        found = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), 2).float()
        expected = attend(query, key, value, 2)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
