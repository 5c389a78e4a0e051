"""Steps that are recorded and replayed read their own inputs. A CUDA graph is played here by calling again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from portraitanim.checkpoints.animators import lay_out
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from portraitanim.pipelines.step_graphs import Replay, StepGraphs
from tests.small_networks import conditioning, small_pipeline


class Recorder:
    """Counts recordings; a replay reads the recorded memory and writes always the same."""

    def __init__(self) -> None:
        self.num_recorded = self.num_replayed = 0

    def __call__(self, call: Callable[[], Tensor]) -> Replay:
        self.num_recorded += 1
        output = call()

        def replay() -> Tensor:
            self.num_replayed += 1
            return output.copy_(call())

        return replay


def frames(pipe: PortraitAnimationPipeline, system: str, **options: object) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return pipe(conditioning(system, 10), generator=generator, guidance_scale=1.5, **options).frames


@pytest.mark.parametrize("system", ["hallo", "echomimic", "tiny"])
def test_replayed_steps_make_the_same_video(system: str) -> None:
    pipe, recorder = small_pipeline(system), Recorder()
    plain = frames(pipe, system)
    pipe.denoising_unet.forward = StepGraphs(pipe.denoising_unet, recorder)
    # Copies of conditions may lie otherwise in memory.
    torch.testing.assert_close(frames(pipe, system), plain, atol=1e-5, rtol=0)
    # All clips or windows are of one size, the last one too.
    assert (recorder.num_recorded, recorder.num_replayed) == (1, 2 * (4 if system == "echomimic" else 3))


def test_steps_without_guidance_are_recorded_for_themselves() -> None:
    pipe, recorder = small_pipeline("tiny"), Recorder()
    plain = frames(pipe, "tiny", guidance_interval=(0.0, 0.5))
    pipe.denoising_unet.forward = StepGraphs(pipe.denoising_unet, recorder)
    torch.testing.assert_close(frames(pipe, "tiny", guidance_interval=(0.0, 0.5)), plain, atol=1e-5, rtol=0)
    assert recorder.num_recorded == 2


def test_steps_that_read_earlier_ones_are_not_recorded() -> None:
    pipe, recorder = small_pipeline("tiny"), Recorder()
    pipe.denoising_unet.forward = StepGraphs(pipe.denoising_unet, recorder)
    frames(pipe, "tiny", deep_every_steps=2)
    assert recorder.num_recorded == 0


def test_step_that_cannot_be_recorded_is_told_and_computed(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(call: Callable[[], Tensor]) -> Replay:
        raise RuntimeError("operation not permitted when stream is capturing")

    pipe = small_pipeline("tiny")
    plain = frames(pipe, "tiny")
    pipe.denoising_unet.forward = StepGraphs(pipe.denoising_unet, refuse)
    assert torch.equal(frames(pipe, "tiny"), plain)
    assert caplog.text.count("cannot be a CUDA graph") == 1


@pytest.mark.parametrize(
    ("device", "offloaded", "expected"), [("cuda", False, True), ("cuda", True, False), ("cpu", False, False)]
)
def test_only_a_gpu_that_holds_the_networks_replays(device: str, offloaded: bool, expected: bool) -> None:
    pipe = small_pipeline("tiny")
    lay_out(pipe, device, compiled=True, offloaded=offloaded)
    assert isinstance(pipe.denoising_unet.forward, StepGraphs) == expected
