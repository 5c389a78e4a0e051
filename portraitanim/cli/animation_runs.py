"""What ``portraitanim animate`` does once its options are read: one video, a batch, or only a check."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portraitanim.cli.console import console
from portraitanim.errors import InputError

if TYPE_CHECKING:
    from portraitanim.config.animation import AnimationOptions
    from portraitanim.config.schema import Preset
    from portraitanim.findings import Finding
    from portraitanim.media.live_sound import LiveSound
    from portraitanim.pipelines.animator import Animator
    from portraitanim.pipelines.animator_parts import OutputOptions
    from portraitanim.pipelines.batch import AnimationJob
    from portraitanim.pipelines.memory_plan import MemoryPlan


def run_one(
    job: AnimationJob, files: OutputOptions, machine: dict[str, Any], as_json: bool, live: LiveSound | None = None
) -> None:
    from portraitanim.pipelines.batch import check_job
    from portraitanim.pipelines.clip_folder import work_folder

    check_job(job, files)
    with _interruptible(work_folder(job.output)):
        animator = _load([job], machine, is_live=live is not None)
        result = animator.animate(
            job.portrait,
            job.audio if live is None else live,
            output=job.output,
            driving=job.driving,
            options=job.options,
            files=files,
            progress=console.progress(),
        )
    for note in result.notes:
        console.note(note)
    if as_json:
        console.json(result.to_dict())
        return
    console.result(str(result.output))
    device = "" if result.peak_device_bytes is None else f", GPU {result.peak_device_bytes / 1e9:.1f} GB"
    console.note(
        f"{result.duration_seconds:.2f} s, {result.width_px}x{result.height_px} at {result.fps:g} frames per second, "
        f"made in {result.compute_seconds:.1f} s ({result.seconds_per_frame:.3f} s a frame). Peak memory "
        f"{result.peak_host_bytes / 1e9:.1f} GB{device}. Weights {result.weights}, preset {result.preset}, "
        f"seed {result.seed}."
    )


def run_batch_file(jobs: list[AnimationJob], files: OutputOptions, machine: dict[str, Any], as_json: bool) -> None:
    from portraitanim.pipelines.batch import run_batch

    with _interruptible(None):
        outcomes = run_batch(_load(jobs, machine, is_batch=True), jobs, files, console.progress())
    if as_json:
        console.json([outcome.to_dict() for outcome in outcomes])
    else:
        rows = [(str(outcome.output), outcome.status, outcome.message) for outcome in outcomes]
        console.table(("output", "status", ""), rows)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    if failed:
        console.error(f"{failed} of {len(outcomes)} jobs failed. Mend them and run again with --resume.")
        raise typer.Exit(6)


def _load(
    jobs: list[AnimationJob], machine: dict[str, Any], *, is_batch: bool = False, is_live: bool = False
) -> Animator:
    """Find the weights, refuse what they cannot do, and only then load them."""
    from portraitanim.checkpoints.animators import choose_weights, load_animator, weights_preset
    from portraitanim.pipelines.animation_plan import plan_animation

    speeds = {job.options.speed for job in jobs}
    choice = choose_weights(
        machine["weights"],
        has_driving=any(job.driving is not None for job in jobs),
        speed=speeds.pop() if len(speeds) == 1 else "exact",
    )
    if choice.why:
        console.note(choice.why)
    preset = weights_preset(choice.folder, machine["preset"])
    if not is_batch:  # in a batch, a bad row must not stop the others, nor change the exit code
        job = jobs[0]
        plan = plan_animation(
            job.options,
            preset,
            has_audio=job.audio is not None or is_live,
            has_driving=job.driving is not None,
            is_live=is_live,
        )
        _warn(job, plan.sampling.size_px)
    machine, smaller = _within_memory(jobs, machine, preset, is_live)
    with console.progress().task("Loading the weights"):
        animator = load_animator(
            choice,
            preset=machine["preset"],
            device=machine["device"],
            dtype=machine["dtype"],
            offload=machine["offload"],
            execution=machine["execution"],
            channels_last=machine["channels_last"],
            compiled=machine["compiled"],
            cache=machine["cache"],
        )
    animator.parts.smaller_plans = smaller
    return animator


def _within_memory(
    jobs: list[AnimationJob], machine: dict[str, Any], preset: Preset, is_live: bool
) -> tuple[dict[str, Any], list[MemoryPlan]]:
    """Choose how to compute so that ``--max-vram`` is kept, and say what is expected."""
    if machine["max_vram"] is None:
        return machine, []
    from portraitanim.pipelines.animation_plan import plan_animation
    from portraitanim.pipelines.memory_plan import choose_plan, dtype_name
    from portraitanim.pipelines.sound_source import count_frames

    # In a batch, the largest picture decides.
    job = max(jobs, key=lambda one: one.options.size_px or preset.sampling.size_px)
    has_audio, has_driving = job.audio is not None or is_live, job.driving is not None
    plan = plan_animation(job.options, preset, has_audio=has_audio, has_driving=has_driving, is_live=is_live)
    num_frames = None
    if plan.sampling.plan == "overlapping" and job.audio is not None:
        num_frames = count_frames(job.audio, job.options, plan.sampling.fps)
    chosen, smaller = choose_plan(
        plan.preset,
        machine["max_vram"],
        device=machine["device"],
        dtype=machine["dtype"],
        offload=machine["offload"],
        execution=machine["execution"],
        num_frames=num_frames,
    )
    console.note(chosen.describe())
    taken = {"dtype": dtype_name(chosen.dtype), "offload": chosen.is_offloaded, "execution": chosen.execution}
    return {**machine, **taken}, smaller


@contextmanager
def _interruptible(work: Path | None) -> Iterator[None]:
    """Ctrl-C and a polite kill end the run with a word on how to go on."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        kept = work is None or work.is_dir()
        advice = "Run the same command with --resume to go on." if kept else "Nothing was finished yet."
        console.error(f"Interrupted. {advice}")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def run_check(
    portrait: Path | None, audio: Path | None, options: AnimationOptions, machine: dict[str, Any], as_json: bool
) -> None:
    """Judge picture and sound, and end with 0, or with the code of what is unfit."""
    from portraitanim.checkpoints.animators import planned_preset
    from portraitanim.pipelines.input_check import check_inputs

    if portrait is None:
        raise InputError("--check needs a portrait. Usage: portraitanim animate PORTRAIT [AUDIO] --check")
    preset = planned_preset(machine["weights"], machine["preset"])
    check = check_inputs(portrait, audio, options, output_px=preset.sampling.size_px)
    if as_json:
        console.json(check.to_dict())
    else:
        rows = [
            (f"{report.subject}: {finding.name}", _value(finding), finding.verdict, finding.advice)
            for report in check.reports
            for finding in report.findings
        ]
        console.table(("what", "value", "verdict", "advice"), rows)
        console.note(check.face)
        console.result(f"Fit to be animated: {check.overall}.")
    check.raise_if_hopeless()


def _value(finding: Finding) -> str:
    if finding.value is None:
        return ""
    number = f"{finding.value:.0f}" if abs(finding.value) >= 100 else f"{finding.value:.3g}"
    return f"{number} {finding.unit}".strip()


def _warn(job: AnimationJob, output_px: int) -> None:
    """Say before the wait what a look at the inputs shows."""
    from portraitanim.pipelines.input_check import check_inputs

    check = check_inputs(job.portrait, job.audio, job.options, output_px=output_px)
    if not check.face.startswith("Found one"):
        console.note(check.face)
    for concern in check.concerns:
        console.note(f"warning: {concern}")
