"""``portraitanim animate``: a portrait and what drives it become a video."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portraitanim.cli.animation_runs import run_batch_file, run_check, run_one
from portraitanim.errors import InputError

if TYPE_CHECKING:
    from portraitanim.config.animation import AnimationOptions
    from portraitanim.config.execution import ExecutionConfig
    from portraitanim.media.live_sound import LiveSound

_STDIN = Path("-")
_INPUT, _MOTION, _LOOK, _SPEED, _OUTPUT = "Input", "Driving motion", "Strength and sampling", "Machine", "Output"

HELP = """Make a still portrait speak.

Give a sound, a driving video or landmark file (--driving), or both:

  portraitanim animate ref.jpg speech.wav

  portraitanim animate ref.jpg speech.mp3 --lip-weight 1.2 --paste-back

  portraitanim animate ref.jpg --driving me.mp4

  portraitanim animate ref.jpg speech.wav --driving me.mp4 --parts eyes,eyebrows

  arecord -f S16_LE -r 16000 | portraitanim animate ref.jpg - --output talk.mp4

Animate only people who agreed to it, and say that the video is synthetic wherever you show it. Every video carries
marks that say so (--provenance). Do not use it to deceive, to harass, or to put words into the mouths of others."""


def animate(
    portrait: Annotated[Path | None, typer.Argument(help="The picture.", show_default=False)] = None,
    audio: Annotated[
        Path | None,
        typer.Argument(help="Sound: wav, flac, ogg, mp3, m4a, a video's, or - for WAV from stdin.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The video; by default the portrait's name.", rich_help_panel=_OUTPUT),
    ] = None,
    driving: Annotated[
        Path | None,
        typer.Option(help="Driving video, landmark file, or folder of EchoMimic poses.", rich_help_panel=_MOTION),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="auto, audio, landmarks or audio+landmarks.", rich_help_panel=_MOTION)
    ] = "auto",
    parts: Annotated[
        str | None,
        typer.Option(
            help="Parts that move by landmarks: eyes,eyebrows,pupils,nose,mouth,outline.", rich_help_panel=_MOTION
        ),
    ] = None,
    idle_motion: Annotated[
        bool | None,
        typer.Option(help="Blinks, small turns, the mouth, where sound drives alone.", rich_help_panel=_MOTION),
    ] = None,
    motion_sync: Annotated[
        str | None,
        typer.Option(help="paper (to the portrait's proportions), published, or none.", rich_help_panel=_MOTION),
    ] = None,
    smoothing: Annotated[str | None, typer.Option(help="savgol, one-euro or none.", rich_help_panel=_MOTION)] = None,
    on_missing: Annotated[
        str | None,
        typer.Option(help="Driving frames without a face: hold, skip or error.", rich_help_panel=_MOTION),
    ] = None,
    driving_face: Annotated[
        str, typer.Option(help="Which face of the driving video; as --face.", rich_help_panel=_MOTION)
    ] = "largest",
    face: Annotated[
        str, typer.Option(help="largest, left, right, center, a number, or x,y in pixels.", rich_help_panel=_INPUT)
    ] = "largest",
    face_threshold: Annotated[
        float | None, typer.Option(help="Score that a face must reach (0.5).", rich_help_panel=_INPUT)
    ] = None,
    crop: Annotated[
        str, typer.Option(help="face: cut around it; whole: the whole square picture.", rich_help_panel=_INPUT)
    ] = "face",
    start: Annotated[float, typer.Option(help="Where to start, in seconds.", rich_help_panel=_INPUT)] = 0.0,
    duration: Annotated[float | None, typer.Option(help="Length, in seconds.", rich_help_panel=_INPUT)] = None,
    raw_pcm: Annotated[
        int | None,
        typer.Option(metavar="HZ", help="stdin is raw 16-bit mono sound at this rate.", rich_help_panel=_INPUT),
    ] = None,
    look_ahead: Annotated[
        float | None,
        typer.Option(help="Seconds of live sound that wav2vec2 and Whisper wait for.", rich_help_panel=_INPUT),
    ] = None,
    separate_vocals: Annotated[
        bool,
        typer.Option("--separate-vocals", help="Take music and noise out first.", rich_help_panel=_INPUT),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only judge picture and sound; loads no weights.", rich_help_panel=_INPUT)
    ] = False,
    batch: Annotated[
        Path | None,
        typer.Option(help="Many jobs: CSV or JSONL with portrait, audio, driving, output.", rich_help_panel=_INPUT),
    ] = None,
    lip_weight: Annotated[
        float | None, typer.Option(help="Effect of the sound on the lips; 1 as trained.", rich_help_panel=_LOOK)
    ] = None,
    expression_weight: Annotated[
        float | None, typer.Option(help="The same for the rest of the face.", rich_help_panel=_LOOK)
    ] = None,
    pose_weight: Annotated[float | None, typer.Option(help="The same for the head.", rich_help_panel=_LOOK)] = None,
    guidance: Annotated[
        float | None, typer.Option(help="One scale for portrait and sound.", rich_help_panel=_LOOK)
    ] = None,
    audio_guidance: Annotated[
        float | None, typer.Option(help="Scale for the sound alone.", rich_help_panel=_LOOK)
    ] = None,
    image_guidance: Annotated[
        float | None, typer.Option(help="Scale for the portrait alone.", rich_help_panel=_LOOK)
    ] = None,
    speed: Annotated[
        str, typer.Option(help="exact, or nearly the same and faster: balanced, fast.", rich_help_panel=_LOOK)
    ] = "exact",
    steps: Annotated[int | None, typer.Option(help="Denoising steps.", rich_help_panel=_LOOK)] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="ddim, dpm++2m, unipc, euler, lcm or tcd.", rich_help_panel=_LOOK)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise.", rich_help_panel=_LOOK)] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the square that is made, in pixels.", rich_help_panel=_LOOK)
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second.", rich_help_panel=_LOOK)] = None,
    drift_guard: Annotated[
        bool, typer.Option(help="Lead a drifting video back to earlier frames.", rich_help_panel=_LOOK)
    ] = True,
    preset: Annotated[
        str | None, typer.Option(help="Another preset or YAML file for these weights.", rich_help_panel=_LOOK)
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the preset.", rich_help_panel=_LOOK),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="A name from `weights list`, tiny, or a folder.", rich_help_panel=_SPEED)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_SPEED)] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.", rich_help_panel=_SPEED)] = "auto",
    offload: Annotated[
        bool, typer.Option("--offload", help="Less GPU memory, slower.", rich_help_panel=_SPEED)
    ] = False,
    max_vram: Annotated[
        str | None,
        typer.Option(
            metavar="8G",
            help="Memory to keep within: the GPU's, or with --device cpu this process's. Chooses what is left open of "
            "--dtype, --offload and the batches.",
            rich_help_panel=_SPEED,
        ),
    ] = None,
    decode_batch: Annotated[
        int | None, typer.Option(help="Frames decoded at once (CPU 1, GPU 4).", rich_help_panel=_SPEED)
    ] = None,
    window_batch: Annotated[
        int | None, typer.Option(help="Overlapping windows denoised at once (1).", rich_help_panel=_SPEED)
    ] = None,
    work_ahead: Annotated[
        bool | None,
        typer.Option(help="Make the next clip while this one is decoded (GPU yes, CPU no).", rich_help_panel=_SPEED),
    ] = None,
    channels_last: Annotated[
        bool | None,
        typer.Option(help="Layout of convolutions (CPU: of the autoencoder's).", rich_help_panel=_SPEED),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option(help="Keep what is computed of a portrait, for the next video of it.", rich_help_panel=_SPEED),
    ] = True,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Compile first (minutes); for long videos and batches.", rich_help_panel=_SPEED),
    ] = False,
    paste_back: Annotated[
        bool, typer.Option(help="Put the moving face back into the whole picture.", rich_help_panel=_OUTPUT)
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write a contact sheet (PNG) too.", rich_help_panel=_OUTPUT)
    ] = False,
    crf: Annotated[
        int | None, typer.Option(help="Quality of the video file; lower is better.", rich_help_panel=_OUTPUT)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there.", rich_help_panel=_OUTPUT)
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.", rich_help_panel=_OUTPUT)
    ] = False,
    provenance: Annotated[
        str, typer.Option(help="Synthetic-media marks: none, metadata or sidecar.", rich_help_panel=_OUTPUT)
    ] = "sidecar",
    debug_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures of crop, masks, attention.", rich_help_panel=_OUTPUT),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_OUTPUT)] = False,
) -> None:
    """Make a still portrait speak."""
    given = {
        "mode": mode,
        "parts": None if parts is None else [part.strip() for part in parts.split(",") if part.strip()],
        "face": face,
        "driving_face": driving_face,
        "face_threshold": face_threshold,
        "crop": crop,
        "paste_back": paste_back,
        "lip_weight": lip_weight,
        "expression_weight": expression_weight,
        "pose_weight": pose_weight,
        "guidance": guidance,
        "audio_guidance": audio_guidance,
        "image_guidance": image_guidance,
        "speed": speed,
        "steps": steps,
        "scheduler": scheduler,
        "seed": seed,
        "size_px": size,
        "fps": fps,
        "start_seconds": start,
        "duration_seconds": duration,
        "look_ahead_seconds": look_ahead,
        "idle_motion": idle_motion,
        "motion_sync": motion_sync,
        "smoothing": smoothing,
        "on_missing": on_missing,
        "drift_guard": drift_guard,
        "separate_vocals": separate_vocals,
        "provenance": provenance,
    }
    options = _options(given, assignments or [])
    machine = {
        "weights": weights,
        "preset": preset,
        "device": device,
        "dtype": dtype,
        "offload": offload,
        "max_vram": max_vram,
        "channels_last": channels_last,
        "compiled": compiled,
        "cache": cache,
        "execution": _execution(device, decode_batch, window_batch, work_ahead),
    }
    is_live = audio == _STDIN
    if raw_pcm is not None and not is_live:
        raise InputError("--raw-pcm says what stdin holds: give - as AUDIO, or leave it out.")
    if is_live and (check or batch is not None or work_ahead):
        name = "--check" if check else "--batch" if batch is not None else "--work-ahead"
        raise InputError(f"{name} cannot be used with sound from stdin. Leave it out, or give a file as AUDIO.")
    if check:
        run_check(portrait, audio, options, machine, as_json)
        return
    from portraitanim.pipelines.animator_parts import OutputOptions
    from portraitanim.pipelines.batch import AnimationJob, default_output, read_jobs

    files = OutputOptions(overwrite=overwrite, resume=resume, preview=preview, debug_folder=debug_dir, crf=crf)
    if batch is not None:
        if portrait is not None or audio is not None or driving is not None or output is not None:
            raise InputError("--batch takes portraits, sounds and outputs from its file: leave out the others.")
        run_batch_file(read_jobs(batch, options), files, machine, as_json)
        return
    if portrait is None:
        raise InputError("No portrait is given. Usage: portraitanim animate PORTRAIT AUDIO, or see --help.")
    job = AnimationJob(
        portrait=portrait,
        audio=None if is_live else audio,
        driving=driving,
        output=output or default_output(portrait, Path("live") if is_live else audio or driving),
        options=options,
    )
    run_one(job, files, machine, as_json, live=_stdin_sound(raw_pcm) if is_live else None)


def _stdin_sound(raw_pcm_hz: int | None) -> LiveSound:
    from portraitanim.media.live_sound import LiveSound

    if raw_pcm_hz is not None:
        return LiveSound.from_pcm(sys.stdin.buffer, raw_pcm_hz)
    return LiveSound.from_wav(sys.stdin.buffer)


def _execution(
    device: str, decode_batch: int | None, window_batch: int | None, work_ahead: bool | None
) -> ExecutionConfig | None:
    """What was chosen, the rest as suits the device; ``None`` where nothing was."""
    chosen: dict[str, Any] = {}
    if decode_batch is not None:
        chosen["num_frames_per_decode"] = decode_batch
    if window_batch is not None:
        chosen["num_windows_per_call"] = window_batch
    if work_ahead is not None:
        chosen["work_ahead"] = work_ahead
    if not chosen:
        return None
    from dataclasses import replace

    from portraitanim.config.execution import ExecutionConfig
    from portraitanim.runtime import resolve_device

    ExecutionConfig(**chosen)  # a bad number is told before torch is loaded
    return replace(ExecutionConfig.for_device(resolve_device(device).type), **chosen)


def _options(given: dict[str, Any], assignments: list[str]) -> AnimationOptions:
    from portraitanim.config.animation import AnimationOptions
    from portraitanim.config.presets import parse_assignments
    from portraitanim.config.schema import from_dict

    values = {**given, "overrides": parse_assignments(assignments)}
    options: AnimationOptions = from_dict(AnimationOptions, values)
    return options
