"""Raw videos → a dataset of clips: scan, measure and write in worker processes, then judge, split and list.

Every step keeps its result on disk before the next begins (`portraitanim.data.preparation.state`), so a run that was
killed goes on where it stopped, and its manifest is the one that an unbroken run writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from portraitanim.config.preparation import PreparationConfig
from portraitanim.config.schema import from_dict, to_dict
from portraitanim.data.preparation.clip_features import FeatureNetworks, add_features, forget_features
from portraitanim.data.preparation.clip_judges import ClipJudges
from portraitanim.data.preparation.coverage import ListedSource
from portraitanim.data.preparation.filters import judge
from portraitanim.data.preparation.listing import DatasetSummary, list_dataset
from portraitanim.data.preparation.shard import Shard
from portraitanim.data.preparation.sources import SourceClip
from portraitanim.data.preparation.state import (
    SETTINGS_FILE,
    ClipOutcome,
    PreparationState,
    SourceScan,
    only_run,
    read_json,
    write_json,
)
from portraitanim.data.preparation.steps import ClipTask, ScanTask, blank_outcome, blank_scan, make_clip, scan_source
from portraitanim.data.preparation.worker_pool import Done, run_tasks
from portraitanim.errors import InputError
from portraitanim.progress import ProgressReporter, SilentProgress

logger = logging.getLogger(__name__)

CLIP_TIMEOUT_SECONDS = 1800.0
SCAN_TIMEOUT_SECONDS = 6 * 3600.0


def prepare(
    sources: Sequence[SourceClip],
    output: Path,
    config: PreparationConfig,
    *,
    num_workers: int = 0,
    shard: Shard | None = None,
    networks: FeatureNetworks | None = None,
    judges: ClipJudges | None = None,
    progress: ProgressReporter | None = None,
) -> DatasetSummary | None:
    """Prepare a dataset, or go on with one.

    Limits may differ from those of an earlier run: its scores are judged anew, and only clips that pass now and did
    not then are made. Other settings may not.

    Args:
        sources: all of them, on every machine.
        output: the dataset's folder.
        config: sizes and limits.
        num_workers: processes; 0 works in this one.
        shard: do this share only, and list nothing: `merge_shards` does, when all are done.
        networks: what to store with the clips besides landmarks and masks.
        judges: what judges the clips besides the models that the package has; the same in every run.
        progress: told the sources and clips.

    Returns:
        What was listed; ``None`` for a shard.

    Raises:
        InputError: no source is on disk, other settings or judges than before, or another run is at work here.
        MediaError: the disk is full.
    """
    if not any(source.video for source in sources):
        raise InputError(
            f"None of the {len(sources)} listed clips is on disk. Name the folder with the videos: they are found by "
            "the names that the dataset's authors gave them, or by their YouTube ids."
        )
    state, shard, progress = PreparationState(output), shard or Shard(), progress or SilentProgress()
    name = f"{shard.index}-of-{shard.count}"
    with only_run(state.folder / f"run-{name}.lock"):
        judges = judges or ClipJudges()
        judges.require_same(state)
        _check_settings(state, config)
        if shard.count == 1:
            state.clear_work()
        share = [source for source in sources if source.video is not None and shard.has(source.name)]
        scans = _scan_all(state, config, share, num_workers, progress)
        outcomes = _make_all(state, config, share, scans, judges, num_workers, progress)
        _add_all_features(state, config, outcomes, networks or FeatureNetworks(), progress)
        listing = [ListedSource.of(source) for source in sources]
        if shard.count > 1:
            write_json(_marker(state, shard), {"listing": [asdict(line) for line in listing]})
            return None
        return list_dataset(state, config, listing)


def merge_shards(output: Path) -> DatasetSummary:
    """List the dataset whose shards were prepared one by one, with the config that they were prepared with.

    Args:
        output: the dataset's folder.

    Raises:
        InputError: there are no shards, some are not finished, or they are of different lists.
    """
    state = PreparationState(output)
    markers = sorted((state.folder / "shards").glob("*-of-*.json"))
    if not markers:
        raise InputError(f"{output} has no finished shards. Run prep with --shard 1/N to N/N first.")
    counts = {int(path.stem.split("-of-")[1]) for path in markers}
    done = {int(path.stem.split("-of-")[0]) for path in markers}
    missing = sorted(set(range(1, max(counts) + 1)) - done)
    if len(counts) > 1 or missing:
        lacks = f"shards {', '.join(map(str, missing))} are not finished" if missing else "they differ in number"
        raise InputError(f"The shards in {output} cannot be merged: {lacks}. Finish them with --shard.")
    listings = [read_json(path) for path in markers]
    if any(listing != listings[0] or listing is None for listing in listings):
        raise InputError(f"The shards in {output} were made from different lists of videos. Prepare them again.")
    with only_run(state.folder / "run-1-of-1.lock"):
        return list_dataset(state, stored_config(output), [ListedSource(**line) for line in listings[0]["listing"]])


def stored_config(output: Path) -> PreparationConfig:
    """The config that a dataset was last prepared with.

    Raises:
        InputError: nothing was prepared there.
    """
    values = read_json(PreparationState(output).folder / SETTINGS_FILE)
    if not isinstance(values, dict):
        raise InputError(f"{output} was not made by prep: it has no prep/{SETTINGS_FILE}.")
    config: PreparationConfig = from_dict(PreparationConfig, values)
    return config


def _check_settings(state: PreparationState, config: PreparationConfig) -> None:
    """Refuse to mix clips of different settings; limits and the split are judged anew each time."""
    path = state.folder / SETTINGS_FILE
    before, now = read_json(path), to_dict(config)
    if isinstance(before, dict):
        for key in ("fps", "crop", "scenes"):
            if before.get(key) != now[key]:
                raise InputError(
                    f"{state.root} was begun with other settings ({key}: {before.get(key)}, now {now[key]}). "
                    "Use the same ones, or another --output."
                )
    write_json(path, now)


def _scan_all(
    state: PreparationState,
    config: PreparationConfig,
    sources: Sequence[SourceClip],
    num_workers: int,
    progress: ProgressReporter,
) -> dict[str, SourceScan]:
    scans: dict[str, SourceScan] = {}
    tasks = []
    for source in sources:
        scan = state.scan(source.name)
        if scan is not None and _is_outdated(scan, source):
            _forget_clips(state, scan)
            scan = None
        if scan is None or (scan.has_sound and not state.sound(scan.name).is_file()):
            tasks.append(ScanTask(state=state, config=config, source=source))
        else:
            scans[source.name] = scan

    def crashed(task: ScanTask, reason: str) -> SourceScan:
        scan = blank_scan(task.source, reason)
        state.save_scan(scan)
        return scan

    for done in _run("Scanning videos", scan_source, tasks, num_workers, SCAN_TIMEOUT_SECONDS, progress):
        scans[done.task.source.name] = crashed(done.task, done.crash) if done.crash else done.value
    return scans


def _make_all(
    state: PreparationState,
    config: PreparationConfig,
    sources: Sequence[SourceClip],
    scans: dict[str, SourceScan],
    judges: ClipJudges,
    num_workers: int,
    progress: ProgressReporter,
) -> list[ClipOutcome]:
    outcomes, tasks = [], []
    for source in sources:
        for candidate in scans[source.name].candidates:
            scan = scans[source.name]
            task = ClipTask(state=state, config=config, source=source, scan=scan, candidate=candidate, judges=judges)
            outcome = state.outcome(task.clip_id)
            if outcome is None or _passes_now(outcome, config):
                forget_features(state, task.clip_id)
                tasks.append(task)
            else:
                outcomes.append(outcome)

    def crashed(task: ClipTask, reason: str) -> ClipOutcome:
        outcome = blank_outcome(task, reason)
        state.save_outcome(outcome)
        return outcome

    for done in _run("Measuring clips", make_clip, tasks, num_workers, CLIP_TIMEOUT_SECONDS, progress):
        outcomes.append(crashed(done.task, done.crash) if done.crash else done.value)
    return outcomes


def _run(
    description: str,
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    num_workers: int,
    timeout_seconds: float,
    progress: ProgressReporter,
) -> list[Done[Any]]:
    """Run tasks; those that end their process get a second chance, alone: memory may have been short."""
    finished: list[Done[Any]] = []
    with progress.task(description, float(len(tasks))) as shown:
        for done in run_tasks(function, tasks, num_workers, timeout_seconds=timeout_seconds):
            finished.append(done)
            shown.advance()
    again = [done.task for done in finished if done.crash]
    if not again:
        return finished
    second = list(run_tasks(function, again, 1, timeout_seconds=timeout_seconds))
    return [done for done in finished if not done.crash] + second


def _add_all_features(
    state: PreparationState,
    config: PreparationConfig,
    outcomes: Sequence[ClipOutcome],
    networks: FeatureNetworks,
    progress: ProgressReporter,
) -> None:
    kept = [
        outcome
        for outcome in sorted(outcomes, key=lambda outcome: outcome.clip_id)
        if outcome.is_written and not judge(outcome.scores, config, has_sound=outcome.has_sound)
    ]
    if networks.are_none or not kept:
        return
    with progress.task("Encoding clips", float(len(kept))) as shown:
        for outcome in kept:
            add_features(state, outcome, networks, config.fps)
            shown.advance()


def _passes_now(outcome: ClipOutcome, config: PreparationConfig) -> bool:
    """Whether a clip that was dropped keeps the limits of today."""
    if outcome.is_written or outcome.error:
        return False
    return not judge(outcome.scores, config, has_sound=outcome.has_sound)


def _is_outdated(scan: SourceScan, source: SourceClip) -> bool:
    """Whether the video is another file than the one that was scanned, or was written anew since it was unreadable.

    The time of a file that was read does not count: copies of a dataset's videos would cost all that was measured.
    """
    now = blank_scan(source)
    return now.size_bytes != scan.size_bytes or (scan.error is not None and now.modified_ns != scan.modified_ns)


def _forget_clips(state: PreparationState, scan: SourceScan) -> None:
    for candidate in scan.candidates:
        state.forget(f"{scan.name}-{candidate.index:04d}")


def _marker(state: PreparationState, shard: Shard) -> Path:
    return state.folder / "shards" / f"{shard.index}-of-{shard.count}.json"
