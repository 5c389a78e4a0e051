"""The two steps that worker processes do: scan a source for candidates, and make a clip of a candidate.

Neither raises for a bad file: what is wrong with it becomes its outcome. A full disk is not the file's fault, and
ends the run.
"""

from __future__ import annotations

import errno
import logging
import shutil
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import soundfile

from portraitanim.audio.separation import VocalSeparator
from portraitanim.config.preparation import PreparationConfig
from portraitanim.data.preparation.clip_analysis import ClipMeasures, measure_clip, sound_of_frames
from portraitanim.data.preparation.clip_crop import stable_crop
from portraitanim.data.preparation.clip_judges import ClipJudges
from portraitanim.data.preparation.clip_sync import sync_confidence
from portraitanim.data.preparation.clip_writing import work_folder, write_clip
from portraitanim.data.preparation.filters import judge
from portraitanim.data.preparation.motion_measures import mouth_openings
from portraitanim.data.preparation.scenes import Candidate, SceneCutter
from portraitanim.data.preparation.source_reading import extract_sound, frames_of, voice_of
from portraitanim.data.preparation.sources import SourceClip
from portraitanim.data.preparation.speech import SAMPLE_RATE_HZ
from portraitanim.data.preparation.state import ClipOutcome, PreparationState, SourceScan
from portraitanim.errors import MediaError, PortraitAnimError
from portraitanim.face.landmarks import FaceMesh
from portraitanim.media.files import sha256_of, system_error, whole_file, write_error

logger = logging.getLogger(__name__)

_THUMB_PX = 128
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, kw_only=True)
class ScanTask:
    """Scan one source."""

    state: PreparationState
    config: PreparationConfig
    source: SourceClip

    def __str__(self) -> str:
        return str(self.source.video)


@dataclass(frozen=True, kw_only=True)
class ClipTask:
    """Measure one candidate, and write it if it is good."""

    state: PreparationState
    config: PreparationConfig
    source: SourceClip
    scan: SourceScan
    candidate: Candidate
    judges: ClipJudges = field(default_factory=ClipJudges)

    @property
    def clip_id(self) -> str:
        """Name of the clip."""
        return f"{self.source.name}-{self.candidate.index:04d}"

    def __str__(self) -> str:
        return f"{self.clip_id} of {self.source.video}"


def scan_source(task: ScanTask) -> SourceScan:
    """Find the candidates of a source, and keep its sound as one file that can be read anywhere at once."""
    blank = blank_scan(task.source)
    try:
        scan = _scanned(task, blank)
    except Exception as error:  # whatever a file can do: it must not end the run
        _raise_if_of_the_disk(error, task.state.root)
        scan = replace(blank, error=_reason(error))
    task.state.save_scan(scan)
    return scan


def make_clip(task: ClipTask) -> ClipOutcome:
    """Measure a candidate, and write its clip when it keeps the limits."""
    try:
        outcome = _made(task)
    except Exception as error:  # as above
        _raise_if_of_the_disk(error, task.state.root)
        outcome = blank_outcome(task, _reason(error))
    shutil.rmtree(work_folder(task.state.folder), ignore_errors=True)
    task.state.save_outcome(outcome)
    return outcome


def blank_scan(source: SourceClip, error: str | None = None) -> SourceScan:
    """The scan of a source in which nothing was looked for yet, or nothing could be found."""
    assert source.video is not None
    try:
        stat = source.video.stat()
    except OSError:  # it is gone, which reading it will say
        return SourceScan(name=source.name, size_bytes=0, error=error)
    return SourceScan(name=source.name, size_bytes=stat.st_size, modified_ns=stat.st_mtime_ns, error=error)


def blank_outcome(task: ClipTask, error: str) -> ClipOutcome:
    """The outcome of a candidate that could not be measured."""
    return ClipOutcome(
        clip_id=task.clip_id,
        source_name=task.source.name,
        dataset=task.source.dataset,
        identity=task.source.identity,
        source=_source_record(task, task.candidate.start_frame, task.candidate.num_frames),
        error=error,
    )


def _scanned(task: ScanTask, blank: SourceScan) -> SourceScan:
    assert task.source.video is not None
    cutter = SceneCutter(task.config.fps, task.config.scenes)
    for image in frames_of(task.source, task.config.fps):
        cutter.add(image)
    return replace(
        blank,
        sha256=sha256_of(task.source.video),
        has_sound=extract_sound(task.source, task.state.sound(task.source.name)),
        candidates=tuple(cutter.candidates()),
    )


def _made(task: ClipTask) -> ClipOutcome:
    config, candidate, source = task.config, task.candidate, task.source
    samples = _sound(task) if task.scan.has_sound else None
    measures = measure_clip(
        frames_of(source, config.fps, candidate.start_frame, candidate.num_frames),
        candidate.num_frames,
        samples if task.judges.separator is None or samples is None else _voice(task, task.judges.separator),
        config.fps,
        _face_mesh(),
        face_share=_face_share(task),
    )
    scores = {**measures.scores, "content_change": round(candidate.content_change, 5)}
    syncnet = task.judges.syncnet
    if syncnet is not None and samples is not None and not judge(scores, config, has_sound=True):
        scores |= _sync_scores(task, syncnet, measures, samples)
    outcome = ClipOutcome(
        clip_id=task.clip_id,
        source_name=source.name,
        dataset=source.dataset,
        identity=source.identity,
        source=_source_record(task, candidate.start_frame, candidate.num_frames),
        has_sound=samples is not None,
        scores=scores,
    )
    _save_thumb(task, measures)
    is_good = measures.track is not None and not judge(scores, config, has_sound=samples is not None)
    return _written(task, measures, samples, outcome) if is_good else outcome


def _written(task: ClipTask, measures: ClipMeasures, samples: np.ndarray | None, outcome: ClipOutcome) -> ClipOutcome:
    track, config = measures.track, task.config
    assert track is not None
    first, length = task.candidate.start_frame + track.start_frame, len(track)
    crop = stable_crop(track.points, config.crop.size_px, measures.image_size, _face_share(task))
    folder = task.state.root / "clips" / task.clip_id
    picture_hash = write_clip(
        folder,
        work_folder(task.state.folder),
        frames_of(task.source, config.fps, first, length),
        track.points,
        None if samples is None else sound_of_frames(samples, track.start_frame, length, config.fps),
        crop=crop,
        fps=config.fps,
        crf=config.crop.crf,
    )
    return replace(
        outcome,
        source={
            **_source_record(task, first, length),
            "crop": [round(float(value), 4) + 0.0 for value in crop.transform.ravel()],
        },
        is_written=True,
        num_frames=length,
        sha256={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
        picture_hash=picture_hash,
        mouth=tuple(round(float(value), 4) for value in mouth_openings(track.points)),
    )


def _sync_scores(task: ClipTask, syncnet: Path, measures: ClipMeasures, samples: np.ndarray) -> dict[str, float]:
    """SyncNet's confidence, for clips that keep the other limits: it takes as long as all else together."""
    track, fps = measures.track, task.config.fps
    assert track is not None
    sound = sound_of_frames(samples, track.start_frame, len(track), fps)
    found = sync_confidence(syncnet, task.source, task.candidate.start_frame + track.start_frame, track, sound, fps)
    return {} if found is None else {"sync_confidence": round(found, 5)}


def _sound(task: ClipTask) -> np.ndarray:
    """Sound of a candidate, float32, exactly as long as its frames."""
    fps, candidate = task.config.fps, task.candidate
    start, end = (
        round(frame * SAMPLE_RATE_HZ / fps)
        for frame in (candidate.start_frame, candidate.start_frame + candidate.num_frames)
    )
    with soundfile.SoundFile(task.state.sound(task.source.name)) as file:
        file.seek(min(start, file.frames))
        samples = file.read(end - start, dtype="float32")
    return np.pad(samples, (0, end - start - len(samples)))


def _voice(task: ClipTask, separator: Path) -> np.ndarray:
    """The voice in a candidate's sound, as long as `_sound`."""
    fps, candidate = task.config.fps, task.candidate
    return voice_of(
        task.source,
        candidate.start_frame / fps,
        round(candidate.num_frames * SAMPLE_RATE_HZ / fps),
        _separator(separator),
    )


def _source_record(task: ClipTask, start_frame: int, num_frames: int) -> dict[str, object]:
    begin = task.source.start_seconds
    return {
        "dataset": task.source.dataset,
        "name": task.source.name,
        "path": task.source.path,
        "start_seconds": round(begin + start_frame / task.config.fps, 4),
        "end_seconds": round(begin + (start_frame + num_frames) / task.config.fps, 4),
        "sha256": task.scan.sha256,
    }


def _face_share(task: ClipTask) -> float:
    """Wanted side of the face in sides of the crop; HDTF's zoom takes the place of a crop that is not listed."""
    zoom = task.source.face_zoom
    return 1.0 / zoom if zoom is not None and zoom > 1 else task.config.crop.face_share


def _save_thumb(task: ClipTask, measures: ClipMeasures) -> None:
    image = measures.middle_frame.transpose(1, 2, 0)
    scale = _THUMB_PX / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(np.ascontiguousarray(image[..., ::-1]), size, interpolation=cv2.INTER_AREA)
    encoded, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if encoded:
        with whole_file(task.state.thumb(task.clip_id)) as partial:
            partial.write_bytes(data.tobytes())


@lru_cache(maxsize=1)
def _face_mesh() -> FaceMesh:
    """The models of this process; they remember nothing from picture to picture."""
    return FaceMesh(thorough=False)


@lru_cache(maxsize=1)
def _separator(folder: Path) -> VocalSeparator:
    """Likewise."""
    return VocalSeparator.load(folder)


def _raise_if_of_the_disk(error: BaseException, root: Path) -> None:
    """Raise an error again that came of writing, not of the file that was read: it must not become its outcome."""
    if isinstance(error, MediaError) and str(error).startswith("Cannot write "):
        raise error
    cause: BaseException | None = error
    while cause is not None:
        of_system = system_error(cause)
        if of_system is not None and of_system.errno in _DISK_ERRORS:
            raise write_error(root, of_system) from error
        cause = cause.__cause__


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, PortraitAnimError) else f"{type(error).__name__}: {error}"
