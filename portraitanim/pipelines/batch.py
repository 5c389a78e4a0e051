"""Many videos in one run: the weights are loaded once, and one bad row does not stop the others."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from portraitanim.config.animation import AnimationOptions
from portraitanim.config.schema import from_dict, to_dict
from portraitanim.errors import InputError, PortraitAnimError
from portraitanim.media.files import existing_file
from portraitanim.pipelines.animator_parts import OutputOptions
from portraitanim.pipelines.named_files import check_files
from portraitanim.progress import ProgressReporter

if TYPE_CHECKING:
    from portraitanim.pipelines.animator import Animator

logger = logging.getLogger(__name__)

_PATHS = ("portrait", "audio", "driving", "output")
_SHORT = {"size": "size_px", "start": "start_seconds", "duration": "duration_seconds"}
"""Options that the command line calls otherwise than `AnimationOptions`."""


@dataclass(frozen=True, kw_only=True)
class AnimationJob:
    """One video to make; see `Animator.animate`."""

    portrait: Path
    audio: Path | None
    driving: Path | None
    output: Path
    options: AnimationOptions


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """What came of a job.

    Attributes:
        output: the video.
        status: ``done``, ``failed``, or ``skipped`` where the video was there already.
        message: why it failed, or how long the video is.
        result: numbers of a finished video.
    """

    output: Path
    status: Literal["done", "failed", "skipped"]
    message: str
    result: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "output": str(self.output),
            "status": self.status,
            "message": self.message,
            "result": self.result,
        }


def default_output(portrait: Path, driver: Path | None) -> Path:
    """Where a video goes when nobody says: the working folder, named after what it was made of."""
    return Path(f"{portrait.stem}-{driver.stem}.mp4" if driver is not None else f"{portrait.stem}.mp4")


def check_job(job: AnimationJob, files: OutputOptions) -> None:
    """Refuse what can be refused before any weights are loaded; see `check_files`."""
    check_files(job.portrait, job.audio, job.driving, job.output, overwrite=files.overwrite)


def read_jobs(path: Path, defaults: AnimationOptions) -> list[AnimationJob]:
    """Read a batch file.

    Args:
        path: CSV with a header, or JSON lines. Columns are portrait (needed), audio, driving, output, and any option
            by its name on the command line (``lip_weight``, ``size``, …). Empty cells stand for the default. Paths are
            relative to the batch file.
        defaults: options of rows that do not say otherwise.

    Raises:
        InputError: not such a file; row and column are named.
    """
    path = existing_file(path, "batch")
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise InputError(f"A batch file must be .csv or .jsonl, got {path.name}.")
    try:
        rows = list(_csv_rows(path) if suffix == ".csv" else _json_rows(path))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
    except csv.Error as error:
        raise InputError(f"{path} is not a readable CSV file ({error}).") from error
    if not rows:
        raise InputError(f"{path} has no jobs. Add rows with at least a portrait and an audio.")
    jobs = [_job(row, where, path.parent, defaults) for where, row in rows]
    outputs: dict[Path, str] = {}
    for (where, _), job in zip(rows, jobs, strict=True):
        other = outputs.setdefault(job.output.resolve(), where)
        if other != where:
            raise InputError(f"{where} and {other} both write {job.output}. Give each its own output.")
    return jobs


def run_batch(
    animator: Animator, jobs: Sequence[AnimationJob], files: OutputOptions, progress: ProgressReporter
) -> list[JobOutcome]:
    """Make all videos; errors are kept, not raised.

    With ``files.resume``, videos that are there already are skipped. Each job has a debug folder of its own.
    """
    outcomes: list[JobOutcome] = []
    with progress.task("Jobs", len(jobs)) as task:
        for number, job in enumerate(jobs, 1):
            own = files
            if files.debug_folder is not None:
                own = replace(files, debug_folder=files.debug_folder / f"{number:03d}-{job.output.stem}")
            outcomes.append(_run(animator, job, own, progress))
            task.advance()
    return outcomes


def _run(animator: Animator, job: AnimationJob, files: OutputOptions, progress: ProgressReporter) -> JobOutcome:
    from portraitanim.pipelines.clip_folder import work_folder

    try:
        if files.resume and _is_made(job.output):
            return JobOutcome(output=job.output, status="skipped", message="is there already")
        check_job(job, files)
        result = animator.animate(
            job.portrait,
            job.audio,
            output=job.output,
            driving=job.driving,
            options=job.options,
            files=replace(files, resume=files.resume and work_folder(job.output).is_dir()),
            progress=progress,
        )
    except PortraitAnimError as error:
        return JobOutcome(output=job.output, status="failed", message=str(error))
    except Exception as error:  # one bad row must not stop the rest, whatever it is
        logger.exception("An unexpected error in the job for %s.", job.output)
        return JobOutcome(output=job.output, status="failed", message=f"{type(error).__name__}: {error}")
    return JobOutcome(
        output=job.output, status="done", message=f"{result.duration_seconds:.2f} s", result=result.to_dict()
    )


def _is_made(output: Path) -> bool:
    """Whether a video, or a folder of its pictures, is there."""
    return output.is_file() or (output.is_dir() and any(output.iterdir()))


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        for row in reader:
            where = f"{path.name}, line {reader.line_num}"
            if None in row or any(value is None for value in row.values()):
                raise InputError(f"{where}: has {'more' if None in row else 'fewer'} cells than the header.")
            yield where, {key: _cell(key, value) for key, value in row.items() if value.strip()}


def _cell(column: str, text: str) -> Any:
    """A number, a truth value or a text, as YAML reads it; paths and faces are texts even where they look otherwise."""
    if _normal(column) in (*_PATHS, "face", "driving_face"):
        return text.strip()
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text.strip()
    return value if isinstance(value, (bool, int, float)) else text.strip()


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: is not JSON ({error}).") from None
            if not isinstance(row, dict):
                raise InputError(f"{where}: must be a mapping such as {{'portrait': …, 'audio': …}}.")
            yield where, {key: value for key, value in row.items() if value is not None}


def _job(row: dict[str, Any], where: str, folder: Path, defaults: AnimationOptions) -> AnimationJob:
    known = {field.name for field in fields(AnimationOptions)}
    options: dict[str, Any] = {}
    paths: dict[str, Path] = {}
    for key, value in row.items():
        name = _normal(key)
        name = _SHORT.get(name, name)
        if name in _PATHS:
            paths[name] = _path(value, folder, f"{where}: {name}")
            continue
        if name not in known:
            raise InputError(f"{where}: unknown column {key!r}. Known: {', '.join((*_PATHS, *sorted(known)))}.")
        if name == "parts" and isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        options[name] = str(value) if name in ("face", "driving_face") else value
    if "portrait" not in paths:
        raise InputError(f"{where}: has no portrait. Every row needs one.")
    audio, driving = paths.get("audio"), paths.get("driving")
    try:
        chosen: AnimationOptions = from_dict(AnimationOptions, {**to_dict(defaults), **options})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return AnimationJob(
        portrait=paths["portrait"],
        audio=audio,
        driving=driving,
        output=paths.get("output", folder / default_output(paths["portrait"], audio or driving)),
        options=chosen,
    )


def _normal(column: str) -> str:
    return column.strip().lower().replace("-", "_")


def _path(value: Any, folder: Path, where: str) -> Path:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise InputError(f"{where} must be the name of a file, got {value!r}.")
    return folder / value
