"""Overlapping windows on a line without end: frames are finished one after another, in constant memory.

The published plan lays windows around the closed circle of all frames, so the first frame reads the last. Here windows
lie on a line. In every step they lie ``overlap`` frames further back than in the last, modulo their stride: seams
do not stay in one place, and a window of one step reads only frames that the windows up to its own number have finished
in the step before. So each step runs a little behind the one before it, all of them wander along the video together,
and a frame waits for about ``length + steps · overlap`` frames of sound, not for all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from diffusers import DDIMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from portraitanim.errors import InputError
from portraitanim.pipelines.sampling_run import SamplingRun


def open_latents(run: SamplingRun, scheduler: SchedulerMixin) -> Iterator[Tensor]:
    """Finished latents ``(portraits, frames, channels, height, width)``, some frames at a time.

    Args:
        run: the video.
        scheduler: DDIM, whose steps depend on nothing but the latents: frames of different steps take turns.

    Raises:
        InputError: an option that this plan cannot follow.
    """
    if not isinstance(scheduler, DDIMScheduler):
        raise InputError(
            f"sampling.plan=open works with the scheduler ddim, got {type(scheduler).__name__}: others remember "
            "earlier steps of all frames at once. Use --scheduler ddim, or another plan."
        )
    if run.sampling.deep_every_steps > 1:
        raise InputError("sampling.deep_every_steps has no effect with sampling.plan=open: its windows never stay.")
    if run.execution.num_windows_per_call > 1:
        raise InputError("--window-batch has no effect with sampling.plan=open: its windows are read one by one.")
    scheduler.set_timesteps(run.sampling.num_inference_steps, device="cpu")
    frames: _Frames = _Noise(run)
    for step in range(run.sampling.num_inference_steps):
        frames = _Step(run, scheduler, step, frames)
    num_done = 0
    while (done := frames.take(num_done + 1)).shape[1]:
        num_done += done.shape[1]
        yield done


class _Frames(Protocol):
    """Latents of frames that come one after another."""

    def take(self, stop: int) -> Tensor:
        """The frames that were not taken before, at least until ``stop`` if the video has so many."""
        ...


class _Noise:
    """The frames before the first step. Noise is drawn for as many at once, however much is known of the sound."""

    def __init__(self, run: SamplingRun) -> None:
        self._run = run
        self._stride = run.sampling.num_frames_per_clip - run.sampling.num_overlap_frames
        self._drawn = run.portrait_latents.new_zeros(len(run.portrait_latents), 0, *run.portrait_latents.shape[1:])
        self._num_drawn = 0

    def take(self, stop: int) -> Tensor:
        """See `_Frames`."""
        known = self._run.conditioning.frames_until(stop)
        while self._num_drawn < known:
            given = self._run.latents
            count = self._stride if given is None else min(self._stride, given.shape[1] - self._num_drawn)
            noise = self._run.initial_latents(self._num_drawn, max(count, 1))
            self._drawn = torch.cat([self._drawn, noise], dim=1)
            self._num_drawn += noise.shape[1]
        num_left = self._num_drawn - known
        taken, self._drawn = self._drawn.split([self._drawn.shape[1] - num_left, num_left], dim=1)
        return taken


class _Step:
    """The frames after one step: takes those before it as its windows need them."""

    def __init__(self, run: SamplingRun, scheduler: DDIMScheduler, step: int, before: _Frames) -> None:
        self._run, self._scheduler, self._number, self._before = run, scheduler, step, before
        sampling = run.sampling
        self._length, self._stride = sampling.num_frames_per_clip, sampling.num_frames_per_clip
        self._stride -= sampling.num_overlap_frames
        self._timestep = scheduler.timesteps[step]
        self._on_device = self._timestep.to(run.portrait_latents.device)
        self._next_start = -((sampling.num_overlap_frames * step) % self._stride)
        self._is_last = step + 1 == sampling.num_inference_steps
        # Frames that were read and are not finished, with the sum and number of their windows' velocities.
        self._first = self._num_read = self._num_seen = 0
        self._latents: Tensor | None = None
        self._total: Tensor | None = None
        self._counts: list[int] = []
        self._has_ended = False

    def take(self, stop: int) -> Tensor:
        """See `_Frames`."""
        done = []
        while self._first < stop and not self._has_ended:
            done.append(self._window())
        return torch.cat(done, dim=1) if done else self._run.portrait_latents[:, None][:, :0]

    def _window(self) -> Tensor:
        """Run the next window; returns the frames that no later one holds."""
        start, stop = max(0, self._next_start), self._next_start + self._length
        self._next_start += self._stride
        self._read(stop)
        self._has_ended = self._num_read < stop
        stop = min(stop, self._num_read)
        if stop > self._num_seen:
            assert self._latents is not None
            assert self._total is not None
            sample = self._latents[:, start - self._first : stop - self._first]
            context = self._run.clip_context(range(start, stop))
            velocity = self._run.clip_velocity(sample, self._on_device, self._number, context)
            self._total[:, start - self._first : stop - self._first] += velocity
            for frame in range(start, stop):
                self._counts[frame - self._first] += 1
            self._num_seen = stop
        return self._finish(self._num_read if self._has_ended else self._next_start)

    def _read(self, stop: int) -> None:
        if stop <= self._num_read:
            return
        new = self._before.take(stop)
        zeros = torch.zeros_like(new)
        self._latents = new if self._latents is None else torch.cat([self._latents, new], dim=1)
        self._total = zeros if self._total is None else torch.cat([self._total, zeros], dim=1)
        self._counts += [0] * new.shape[1]
        self._num_read += new.shape[1]

    def _finish(self, stop: int) -> Tensor:
        """Take the step for the frames before ``stop``, with the mean of their windows."""
        count = stop - self._first
        assert self._latents is not None
        assert self._total is not None
        latents, self._latents = self._latents[:, :count], self._latents[:, count:].clone()
        total, self._total = self._total[:, :count], self._total[:, count:].clone()
        counts, self._counts = self._counts[:count], self._counts[count:]
        self._first = stop
        if not count:
            return latents
        weights = total.new_tensor([1.0 / number for number in counts])[:, None, None, None]
        if self._is_last:
            self._run.conditioning.release(stop)
        step = self._scheduler.step(total * weights, self._timestep, latents, return_dict=False)
        result: Tensor = step[0]
        return result
