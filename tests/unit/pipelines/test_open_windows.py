"""The open plan of overlapping windows: the same frames however they are asked for, and no wait for the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from portraitanim.config.schema import SchedulerConfig
from portraitanim.diffusion.schedule import make_scheduler
from portraitanim.errors import InputError
from portraitanim.types import PortraitConditioning
from tests.small_networks import conditioning, small_pipeline

OPEN: dict[str, Any] = {"plan": "open", "num_frames_per_clip": 8, "num_overlap_frames": 2}


class Arriving:
    """Conditions of which nobody knows the end, and which take down how far they were asked for."""

    def __init__(self, given: PortraitConditioning) -> None:
        self._given = given
        self.asked = self.released = 0
        self.longest = 0

    def __getattr__(self, name: str) -> Any:
        assert name != "num_frames", "the end of the sound must not be asked for"
        return getattr(self._given, name)

    def frames_until(self, stop: int) -> int:
        self.asked = max(self.asked, min(stop, self._given.num_frames))
        self.longest = max(self.longest, self.asked - self.released)
        return self._given.frames_until(stop)

    def window(self, frames: Any) -> PortraitConditioning:
        assert min(frames) >= self.released, "released frames must not be asked for"
        assert max(frames) < max(self.asked, 1), "only frames that were waited for are there"
        return self._given.window(frames)

    def release(self, first_frame: int) -> None:
        self.released = max(self.released, first_frame)

    def to(self, device: Any = None, dtype: Any = None) -> Arriving:
        del device, dtype
        return self


def video(given: Any, num_steps: int = 3, **options: Any) -> torch.Tensor:
    pipe = small_pipeline("echomimic", num_inference_steps=num_steps)
    generator = torch.Generator().manual_seed(0)
    return torch.cat(list(pipe.stream(given, generator=generator, **{**OPEN, **options})), dim=1)


@pytest.mark.parametrize("num_frames", [1, 5, 8, 9, 14, 31])
def test_all_frames_are_made(num_frames: int) -> None:
    made = video(conditioning("echomimic", num_frames))
    assert made.shape[1] == num_frames
    assert made.isfinite().all()


def test_short_video_is_one_window_as_in_the_closed_loop() -> None:
    given = conditioning("echomimic", 6)
    noise = torch.randn(1, 6, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    closed = video(given, num_steps=1, latents=noise, plan="overlapping")
    torch.testing.assert_close(video(given, num_steps=1, latents=noise), closed, atol=1e-5, rtol=0)


def test_first_step_is_the_mean_of_the_windows() -> None:
    """One step, windows 0 to 7 and 6 to 13: the closed loop has the same two, and a third around the end, up to 5."""
    given = conditioning("echomimic", 14)
    noise = torch.randn(1, 14, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    closed = video(given, num_steps=1, latents=noise, plan="overlapping", decode=False)
    made = video(given, num_steps=1, latents=noise, decode=False)
    torch.testing.assert_close(made[:, 6:12], closed[:, 6:12], atol=1e-5, rtol=0)


def test_frames_do_not_wait_for_the_end_and_little_is_kept() -> None:
    given = Arriving(conditioning("echomimic", 80))
    pipe = small_pipeline("echomimic", num_inference_steps=4)
    num_done = 0
    for piece in pipe.stream(given, generator=torch.Generator().manual_seed(0), **OPEN):
        num_done += piece.shape[1]
        assert given.asked - num_done <= 8 + 4 * 2 + 6, "window, drift over the steps, and a stride"
    assert num_done == 80
    assert given.longest <= 8 + 4 * 2 + 2 * 6


def test_beginning_does_not_depend_on_the_length() -> None:
    given = conditioning("echomimic", 60)
    long, short = video(given), video(given.window(range(40)))
    assert torch.equal(long[:, :20], short[:, :20])


def test_seams_wander_so_that_neighbours_know_of_each_other() -> None:
    """What changes in one frame's sound reaches frames of other windows."""
    given = conditioning("echomimic", 30)
    sound = given.audio_windows.clone()
    sound[:, 17] += 3.0
    changed = (video(given) - video(replace(given, audio_windows=sound))).abs().amax(dim=(0, 2, 3, 4))
    assert (changed[12:20] > 1e-6).all()


def test_guidance_works() -> None:
    made = video(conditioning("echomimic", 20), guidance_scale=2.0, audio_guidance_scale=3.0)
    assert made.isfinite().all()


def test_scheduler_that_remembers_steps_is_refused() -> None:
    pipe = small_pipeline("echomimic")
    pipe.scheduler = make_scheduler(SchedulerConfig(name="dpm++2m"))
    with pytest.raises(InputError, match="ddim"):
        list(pipe.stream(conditioning("echomimic", 9), **OPEN))
