"""Run a scenario in this process: warm up, time the repeats, count the arithmetic."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from portraitanim.benchmarking.flops import FlopMeter
from portraitanim.benchmarking.machine import describe_machine, measure_matrix_peak, synchronize
from portraitanim.benchmarking.measures import Measure
from portraitanim.benchmarking.memory import MemoryPeak
from portraitanim.benchmarking.random_weights import stands_in_for_identity
from portraitanim.benchmarking.report import ENCODER_THREAD, STAGES, ScenarioResult, machine_dict
from portraitanim.benchmarking.scenarios import RANDOM_WEIGHTS, Scenario
from portraitanim.benchmarking.stages import StageClock, StageReading, scale_flops
from portraitanim.config.animation import AnimationOptions
from portraitanim.media.audio import load_audio, save_audio
from portraitanim.pipelines.animation_plan import AnimationPlan
from portraitanim.pipelines.animator import Animator
from portraitanim.pipelines.animator_parts import OutputOptions
from portraitanim.pipelines.memory_plan import dtype_name
from portraitanim.progress import ProgressReporter, ProgressTask, SilentProgress
from portraitanim.types import AudioTrack

OpenAnimator = Callable[[Scenario], Animator]
"""Makes the animator of a scenario: this floor does not know where weights are installed."""

_WARM_UP_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One timed run."""

    seconds: float
    cpu_seconds: float
    first_frame_seconds: float
    frame_times: list[float]
    reading: StageReading
    peak: MemoryPeak


@dataclass
class _FrameTimes:
    """A progress reporter that takes down when each frame was made."""

    times: list[float] = field(default_factory=list)

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[ProgressTask]:
        del description, total
        yield self

    def advance(self, amount: float = 1.0) -> None:
        del amount
        self.times.append(time.perf_counter())

    def describe(self, description: str) -> None:
        del description


def run_scenario(
    scenario: Scenario,
    open_animator: OpenAnimator,
    portrait: Path,
    audio: Path,
    *,
    progress: ProgressReporter | None = None,
    peak_side: int | None = None,
) -> ScenarioResult:
    """Measure a scenario.

    The first run is short (one clip, two steps): it warms the device up and counts the operations, and its time is
    not used.

    Args:
        scenario: what to measure.
        open_animator: makes its animator.
        portrait: a picture with a face.
        audio: a sound, which is repeated until it is long enough.
        progress: told the runs.
        peak_side: see `measure_matrix_peak`.

    Raises:
        PortraitAnimError: as `Animator.animate`.
    """
    begun = time.perf_counter()
    animator = open_animator(scenario)
    device = animator.parts.pipeline.device
    synchronize(device)
    load_seconds = time.perf_counter() - begun
    options = scenario.animation_options(animator.plan(audio, None, scenario.animation_options(25.0)).sampling.fps)
    # Random weights show no face: looking for one again and again is not what a real run does.
    options = replace(options, drift_guard=animator.parts.name != RANDOM_WEIGHTS)
    plan = animator.plan(audio, None, options)
    machine = describe_machine(device)
    reporter = progress or SilentProgress()
    with TemporaryDirectory(prefix="portraitanim-bench-") as folder:
        sound = long_sound(audio, scenario.num_frames / plan.sampling.fps, Path(folder))
        with reporter.task(f"Measuring {scenario.label}", scenario.num_repeats + 1) as task:
            counted, since_start = _warm_up(animator, portrait, sound, options, plan, Path(folder))
            task.advance()
            runs = []
            for number in range(scenario.num_repeats):
                runs.append(_timed(animator, portrait, sound, options, Path(folder, f"run-{number}.mp4")))
                task.advance()
    return _result(
        scenario=_resolved(scenario, animator, plan),
        animator=animator,
        plan=plan,
        runs=runs,
        counted=counted,
        machine=machine_dict(machine),
        load_seconds=load_seconds,
        start_to_first_frame_seconds=since_start,
        peak_flops_per_second=measure_matrix_peak(device, animator.parts.pipeline.denoising_unet.dtype, peak_side),
    )


def long_sound(audio: Path, seconds: float, folder: Path) -> Path:
    """The sound itself, or a file in which it is repeated until it lasts so long."""
    track = load_audio(audio)
    if track.duration_seconds >= seconds:
        return audio
    times = math.ceil(seconds / track.duration_seconds)
    path = folder / "sound.wav"
    save_audio(AudioTrack(samples=np.tile(track.samples, (1, times)), sample_rate_hz=track.sample_rate_hz), path)
    return path


def _warm_up(
    animator: Animator, portrait: Path, sound: Path, options: AnimationOptions, plan: AnimationPlan, folder: Path
) -> tuple[dict[tuple[str, tuple[int, ...]], int], float]:
    """Run one clip with few steps. Returns the operations of each network call, and the age of the process then."""
    sampling = plan.sampling
    seconds = min(sampling.num_frames_per_clip / sampling.fps, options.duration_seconds or math.inf)
    few = min(sampling.num_inference_steps, _WARM_UP_STEPS)
    short = replace(options, duration_seconds=seconds, steps=few)
    times = _FrameTimes()
    with FlopMeter() as meter:
        clock = StageClock(animator.parts.pipeline.device, meter.read)
        with clock.attached(animator):
            animator.animate(portrait, sound, output=folder / "warm-up.mp4", options=short, progress=times)
    now, created = time.time(), psutil.Process().create_time()
    return clock.take().flops, now - created - (time.perf_counter() - times.times[0])


def _timed(animator: Animator, portrait: Path, sound: Path, options: AnimationOptions, output: Path) -> _Run:
    device = animator.parts.pipeline.device
    clock, times = StageClock(device), _FrameTimes()
    with clock.attached(animator), MemoryPeak(device) as peak:
        synchronize(device)
        begun, cpu_begun = time.perf_counter(), time.process_time()
        files = OutputOptions(overwrite=True)
        animator.animate(portrait, sound, output=output, options=options, files=files, progress=times)
        synchronize(device)
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    return _Run(
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        first_frame_seconds=times.times[0] - begun,
        frame_times=[moment - begun for moment in times.times],
        reading=clock.take(),
        peak=peak,
    )


def _resolved(scenario: Scenario, animator: Animator, plan: AnimationPlan) -> Scenario:
    pipeline = animator.parts.pipeline
    return replace(
        scenario,
        preset=animator.preset.name if scenario.preset is None else scenario.preset,
        size_px=plan.sampling.size_px,
        num_steps=plan.sampling.num_inference_steps,
        dtype=dtype_name(pipeline.denoising_unet.dtype),
        device=str(pipeline.device),
    )


def _result(
    *, animator: Animator, plan: AnimationPlan, runs: list[_Run], counted: dict[Any, int], **facts: Any
) -> ScenarioResult:
    flops, exact = scale_flops(counted, runs[0].reading.calls)
    stages = [stage for stage in STAGES if any(stage in run.reading.seconds for run in runs)]
    steady = [_steady_fps(run.frame_times, plan) for run in runs]
    on_device = [run.peak.device_bytes for run in runs if run.peak.device_bytes is not None]
    reserved = [run.peak.reserved_bytes for run in runs if run.peak.reserved_bytes is not None]
    return ScenarioResult(
        weights=animator.parts.name,
        fps=plan.sampling.fps,
        num_frames=len(runs[0].frame_times),
        total_seconds=Measure.of(run.seconds for run in runs),
        cpu_seconds=Measure.of(run.cpu_seconds for run in runs),
        first_frame_seconds=Measure.of(run.first_frame_seconds for run in runs),
        steady_fps=Measure.of(value for value in steady if value is not None) if None not in steady else None,
        stage_seconds={stage: Measure.of(run.reading.seconds[stage] for run in runs) for stage in stages},
        encoder_thread_seconds=Measure.of(run.reading.seconds[ENCODER_THREAD] for run in runs),
        peak_host_bytes=Measure.of(run.peak.host_bytes for run in runs),
        peak_device_bytes=Measure.of(on_device) if on_device else None,
        peak_reserved_bytes=Measure.of(reserved) if reserved else None,
        stage_flops=flops,
        flops_are_exact=exact,
        notes=(*_notes(animator), *plan.notes),
        **facts,
    )


def _steady_fps(frame_times: list[float], plan: AnimationPlan) -> float | None:
    """Frames per second from the end of the first clip on."""
    length = plan.sampling.num_frames_per_clip
    if plan.sampling.plan == "overlapping" or len(frame_times) < 2 * length:
        return None
    return (len(frame_times) - length) / (frame_times[-1] - frame_times[length - 1])


def _notes(animator: Animator) -> tuple[str, ...]:
    notes = []
    if animator.parts.name == RANDOM_WEIGHTS:
        notes.append("Random weights: the drift guard is off, as they show no face.")
    if stands_in_for_identity(animator):
        notes.append("The identity pack is not installed: a random vector stands in, and reading it takes no time.")
    return tuple(notes)
