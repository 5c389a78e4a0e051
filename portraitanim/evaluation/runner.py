"""Evaluate many pairs: worker processes, resume after a kill, one bad file never ends it, memory flat."""

from __future__ import annotations

import json
import logging
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from portraitanim.errors import InputError, MissingWeightsError, PortraitAnimError
from portraitanim.evaluation.clip_list import ClipList
from portraitanim.evaluation.clip_measurement import measure_clip
from portraitanim.evaluation.clip_result import (
    CLIPS_FILE,
    FEATURES_FOLDER,
    THUMBNAILS_FOLDER,
    ClipResult,
    features_path,
    read_clip_results,
)
from portraitanim.evaluation.clips import ClipPair, content_hash, hash_of_list
from portraitanim.evaluation.html_report import HTML_FILE, write_html
from portraitanim.evaluation.judges import Judges
from portraitanim.evaluation.protocol import EvaluationProtocol, Fingerprint, library_versions
from portraitanim.evaluation.report import PULL, REPORT_FILE, EvaluationReport, LeftOut, write_report
from portraitanim.evaluation.summary import summarize
from portraitanim.face.identity import DETECTOR_FILE, RECOGNISER_FILE
from portraitanim.media.files import whole_file
from portraitanim.models.evaluators.loading import MODEL_FILE
from portraitanim.progress import ProgressReporter, ProgressTask, SilentProgress
from portraitanim.runtime import num_cores, resolve_device

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
_OURS = (RUN_FILE, CLIPS_FILE, REPORT_FILE, HTML_FILE, FEATURES_FOLDER, THUMBNAILS_FOLDER)


def evaluate(
    pairs: Sequence[ClipPair],
    protocol: EvaluationProtocol,
    output: Path,
    *,
    title: str,
    weights: Mapping[str, Path] | None = None,
    device: str = "auto",
    num_workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    notes: Sequence[str] = (),
    clip_list: ClipList | None = None,
    progress: ProgressReporter | None = None,
) -> EvaluationReport:
    """Measure all pairs and write the report, the values of each clip and an HTML page.

    Args:
        pairs: what to compare.
        protocol: how. Metrics whose weights are not there are left out by name, never replaced.
        output: folder to write; absent or empty, unless one of the next two is set.
        title: what was judged.
        weights: name in the registry → folder of installed weights.
        device: where the networks run; ``auto`` takes a GPU where there is one.
        num_workers: processes; more than one only helps where the networks run on the CPU.
        resume: go on with an earlier run of the same protocol and weights; its clips are kept where their files did
            not change, and failed ones are tried again.
        overwrite: remove an earlier run.
        notes: what holds for the whole run, for the report.
        clip_list: where the clips come from, likewise.
        progress: told each clip.

    Raises:
        InputError: no pairs, two of one name, a folder that holds something else, or another protocol to resume.
        MissingWeightsError: not one metric can be measured.
    """
    if not pairs or num_workers < 1:
        raise InputError(f"Expected at least one pair and one worker, got {len(pairs)} and {num_workers}.")
    names = [pair.name for pair in pairs]
    if len(set(names)) < len(names):
        raise InputError("Two pairs have one name. Rename them, or give a list with a column name.")
    installed = dict(weights or {})
    measured, left_out = _without_missing(protocol, installed)
    needed = {name for metric in measured.metrics for name in measured.weights_of(metric)}
    hashes = {name: _weights_hash(installed[name]) for name in sorted(needed)}
    chosen = resolve_device(device)
    settings = {"protocol": measured.to_dict(), "weights": hashes, "versions": library_versions()}
    _prepare(output, settings, resume=resume, overwrite=overwrite)
    done = _still_valid(pairs, output) if resume else {}
    _write_lines(output, [done[name] for name in names if name in done])
    job = _Job(protocol=measured, weights=installed, device=str(chosen), output=output, num_workers=num_workers)
    todo = [pair for pair in pairs if pair.name not in done]
    with (progress or SilentProgress()).task("Measuring clips", len(pairs)) as task:
        task.advance(len(done))
        for result in _results(job, todo, task):
            done[result.name] = result
    results = [done[name] for name in names]
    _write_lines(output, results)
    with (progress or SilentProgress()).task("Comparing sets"):
        values = summarize(results, measured, output)
    report = EvaluationReport(
        title=title,
        fingerprint=Fingerprint(
            protocol=measured,
            clips=hash_of_list({result.name: result.true_sha256 for result in results}),
            num_clips=len(results),
            num_frames=sum(result.num_frames for result in results),
            weights=hashes,
            versions=settings["versions"],
            clip_list=clip_list,
        ),
        metrics=values,
        left_out=left_out,
        num_failed=sum(not result.is_measured for result in results),
        notes=(*notes, *_shared_notes(results)),
        output=str(output),
    )
    write_report(report, output / REPORT_FILE)
    write_html(report, results, output)
    return report


def _shared_notes(results: Sequence[ClipResult]) -> list[str]:
    """What was noted for at least half of the clips: the report itself says it, once."""
    counts = Counter(note for result in results for note in dict.fromkeys(result.notes))
    return [f"{count} of {len(results)} clips: {note}" for note, count in counts.items() if 2 * count >= len(results)]


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a worker needs."""

    protocol: EvaluationProtocol
    weights: Mapping[str, Path]
    device: str
    output: Path
    num_workers: int

    def judges(self) -> Judges:
        return Judges(self.protocol, self.weights, torch.device(self.device))


def _without_missing(
    protocol: EvaluationProtocol, installed: Mapping[str, Path]
) -> tuple[EvaluationProtocol, tuple[LeftOut, ...]]:
    """The protocol with the metrics that can be measured, and the others with the command that helps."""
    left_out = []
    for metric in protocol.metrics:
        missing = [name for name in protocol.weights_of(metric) if name not in installed]
        if missing:
            left_out.append(
                LeftOut(
                    metric=metric,
                    reason=f"the weights {' and '.join(missing)} are not installed",
                    command=f"{PULL} {' '.join(missing)}",
                )
            )
    names = {metric.metric for metric in left_out}
    measurable = tuple(metric for metric in protocol.metrics if metric not in names)
    if not measurable:
        missing = sorted({name for metric in names for name in protocol.weights_of(metric) if name not in installed})
        raise MissingWeightsError(
            f"None of {', '.join(protocol.metrics)} can be measured: the weights {', '.join(missing)} are not "
            f"installed. Run: {PULL} {' '.join(missing)}"
        )
    return replace(protocol, metrics=measurable), tuple(left_out)


def _weights_hash(folder: Path) -> str:
    """sha256 of the file of a network; of a pack, of the two files that are read, joined."""
    if (folder / MODEL_FILE).is_file():
        return content_hash(folder / MODEL_FILE)
    return "+".join(content_hash(folder / name) for name in (DETECTOR_FILE, RECOGNISER_FILE))


def _prepare(output: Path, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file. Name a folder.")
    there = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    strangers = [name for name in there if name not in _OURS]
    if strangers:
        raise InputError(f"{output} holds other things, such as {strangers[0]}. Name another folder.")
    if there and resume:
        _require_same(output / RUN_FILE, settings)
    elif there and overwrite:
        shutil.rmtree(output)
    elif there:
        raise InputError(f"{output} holds an earlier run. Use --resume to go on with it, or --overwrite to remove it.")
    with whole_file(output / RUN_FILE) as partial:
        partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _require_same(path: Path, settings: Mapping[str, Any]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path.parent} holds no run to go on with: {path.name} is missing or damaged.") from None
    for part in settings:
        if before.get(part) != settings[part]:
            changed = sorted(
                name
                for name in {**before.get(part, {}), **settings[part]}
                if before.get(part, {}).get(name) != settings[part].get(name)
            )
            raise InputError(
                f"The run in {path.parent} cannot go on: its {part} differ in {', '.join(changed)}. "
                "Use --overwrite, or another --output."
            )


def _still_valid(pairs: Sequence[ClipPair], output: Path) -> dict[str, ClipResult]:
    """Earlier results whose videos and features are still the same."""
    before = {result.name: result for result in read_clip_results(output)}
    valid = {}
    for pair in pairs:
        result = before.get(pair.name)
        if (
            result is not None
            and result.is_measured
            and (not result.num_features or features_path(output, pair.name).is_file())
            and content_hash(pair.generated) == result.generated_sha256
            and content_hash(pair.true) == result.true_sha256
        ):
            valid[pair.name] = result
    return valid


def _results(job: _Job, pairs: Sequence[ClipPair], task: ProgressTask) -> Iterator[ClipResult]:
    """Measure, and write each line as soon as it exists."""
    source = _in_this_process(job, pairs) if job.num_workers == 1 else _in_workers(job, pairs)
    with (job.output / CLIPS_FILE).open("a", encoding="utf-8") as lines:
        for result in source:
            lines.write(result.to_json() + "\n")
            lines.flush()
            if result.error:
                logger.warning("%s is left out: %s", result.name, result.error)
            task.advance()
            yield result


def _in_this_process(job: _Job, pairs: Sequence[ClipPair]) -> Iterator[ClipResult]:
    judges = job.judges()
    try:
        for pair in pairs:
            yield measure_clip(pair, job.protocol, judges, job.output)
    finally:
        judges.close()


def _in_workers(job: _Job, pairs: Sequence[ClipPair]) -> Iterator[ClipResult]:
    pool = ProcessPoolExecutor(
        min(job.num_workers, max(1, len(pairs))),
        mp_context=multiprocessing.get_context("spawn"),  # a fork would inherit torch's and mediapipe's threads
        initializer=_start_worker,
        initargs=(job,),
    )
    futures: list[Future[ClipResult]] = []
    try:
        futures += [pool.submit(_measure_in_worker, pair) for pair in pairs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise PortraitAnimError(
            "A worker process died, perhaps for want of memory. Use fewer --workers; --resume keeps what is done."
        ) from None
    finally:
        for future in futures:
            future.cancel()
        pool.shutdown(wait=True, cancel_futures=True)


_worker_job: _Job | None = None
_worker_judges: Judges | None = None


def _start_worker(job: _Job) -> None:
    global _worker_job, _worker_judges
    torch.set_num_threads(max(1, num_cores() // job.num_workers))
    _worker_job, _worker_judges = job, job.judges()


def _measure_in_worker(pair: ClipPair) -> ClipResult:
    assert _worker_job is not None
    assert _worker_judges is not None
    return measure_clip(pair, _worker_job.protocol, _worker_judges, _worker_job.output)


def _write_lines(output: Path, results: Sequence[ClipResult]) -> None:
    with whole_file(output / CLIPS_FILE) as partial:
        partial.write_text("".join(result.to_json() + "\n" for result in results), encoding="utf-8")
