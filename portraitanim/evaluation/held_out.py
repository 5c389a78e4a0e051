"""The true clips that are animated again: the test split of a prepared dataset, of a published list, or of a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from portraitanim.config.preparation import CropConfig, FilterConfig, PreparationConfig, SplitConfig
from portraitanim.data.preparation.coverage import fingerprint
from portraitanim.data.preparation.identity_split import held_out_identities
from portraitanim.data.preparation.listing import read_rejects
from portraitanim.data.preparation.published import PUBLISHED, find_annotations, listed_clips
from portraitanim.data.preparation.run import prepare
from portraitanim.data.preparation.sources import SourceClip, VideoIndex
from portraitanim.data.records import MANIFEST, SETTINGS, ClipRecord, read_manifest
from portraitanim.errors import InputError
from portraitanim.evaluation.clip_list import ClipList
from portraitanim.progress import ProgressReporter

DATASETS = (*PUBLISHED, "wild")
"""What a folder may hold; ``wild`` is videos without a list."""

CLIP_SIZE_PX = 512
"""Side of clips that are cut here, whatever the weights generate: so that all weights are held against the same."""

MIN_SECONDS = 1.0
"""Shorter stretches with a face are not cut. No other limit holds: published lists are taken as they are."""

_LISTED_AS = {"hdtf": "hdtf/", "celebv": "celebv-", "wild": "folder"}
_MAX_NAMED = 3
_SAME_PEOPLE = "Training and test clips of this dataset show the same person: the numbers tell nothing of others."


@dataclass(frozen=True, kw_only=True)
class HeldOutClip:
    """A true clip.

    Attributes:
        name: unique in its dataset.
        video: the square face crop.
        audio: its sound; ``None`` takes the video's own.
        seconds: how long it is.
    """

    name: str
    video: Path
    audio: Path | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The clips of a run.

    Attributes:
        clips: the true clips.
        clip_list: where they come from.
        notes: a sentence for what is on disk and is not used, and for what the clips cannot tell.
    """

    clips: tuple[HeldOutClip, ...]
    clip_list: ClipList
    notes: tuple[str, ...] = ()


def prepared_clips(root: Path, max_clips: int | None = None, dataset: str | None = None) -> HeldOut:
    """Clips of the test split of a prepared dataset.

    No clip of the training split shows their people, unless the dataset is of one person; then a note says so.

    Args:
        root: a dataset that `prep` wrote.
        max_clips: take the first so many, by name.
        dataset: take those of this list only, see `DATASETS`.

    Raises:
        InputError: no dataset, no test clips in it, or none of this list.
    """
    records = sorted(read_manifest(root), key=lambda record: record.clip_id)
    trained_on = {record.identity for record in records if record.split == "train"}
    if dataset is not None:
        of_list = [r for r in records if str(r.source.get("dataset", "")).startswith(_LISTED_AS[dataset])]
        if not of_list:
            lists = ", ".join(_lists_of(records)) or "nothing"
            raise InputError(
                f"{root} was prepared from {lists}, not from {dataset}. Leave --dataset out, and name the row of the "
                "table with --title."
            )
        records = of_list
    records = [record for record in records if record.split == "test"]
    if not records:
        raise InputError(
            f"{root} has no clips in its test split. Run prep again, with two clips or more and "
            "split.test_share above 0."
        )
    records = records[:max_clips]
    settings = _settings(root)
    split = settings.get("prepared_with", {}).get("split", {})
    wanted = "" if dataset is None else _LISTED_AS[dataset]
    rows = [row for row in settings.get("coverage", []) if row["dataset"].startswith(wanted)]
    num_sources = len({record.source.get("name", record.clip_id) for record in records})
    clip_list = ClipList(
        dataset=dataset or ", ".join(_lists_of(records)),
        test_share=split.get("test_share"),
        split_seed=split.get("seed"),
        num_listed=sum(row["num_listed"] for row in rows) or num_sources,
        num_found=sum(row["num_found"] for row in rows) or num_sources,
        num_used=num_sources,
        num_clips=len(records),
        fingerprint=fingerprint(records),
    )
    notes = (_SAME_PEOPLE,) if any(record.identity in trained_on for record in records) else ()
    return HeldOut(clips=_clips(root, records), clip_list=clip_list, notes=notes)


def listed_test_clips(
    root: Path,
    dataset: str,
    output: Path,
    *,
    annotations: Path | None = None,
    test_share: float | None = None,
    split_seed: int = 0,
    max_clips: int | None = None,
    num_workers: int = 0,
    progress: ProgressReporter | None = None,
) -> HeldOut:
    """Cut the test clips of a list from the videos on disk, as `prep` cuts, with its limits off.

    Who is held out is chosen among all that are listed, so it does not depend on which videos are there.

    Args:
        root: folder with the videos, and with the annotations if those are not named.
        dataset: see `DATASETS`.
        output: folder for the clips, a prepared dataset; a run that broke off goes on there.
        annotations: HDTF's folder, or CelebV's JSON file; ``None`` looks for them in ``root``.
        test_share: share of identities that is held out; ``None`` takes a tenth of a published list, and all of a
            folder, which has no list that a training could share.
        split_seed: which identities.
        max_clips: take so many videos of the test split at most, and one clip of each before a second of any.
        num_workers: processes that cut; 0 works in this one.
        progress: told the videos and clips.

    Raises:
        InputError: no such folder, no annotations, no video of the test split on disk, or not one with a face and
            sound.
    """
    if dataset not in DATASETS:
        raise InputError(f"Unknown --dataset {dataset!r}. Use {', '.join(DATASETS)}.")
    if dataset == "wild" and annotations is not None:
        raise InputError("A folder of videos has no annotations. Leave --annotations out, or say hdtf or celebv.")
    index = VideoIndex.of([root], exclude=output)
    is_published = dataset in PUBLISHED
    if is_published and annotations is None:
        annotations = find_annotations(dataset, root)
    listed = listed_clips(dataset if is_published else None, index, annotations)
    share = (0.1 if is_published else 1.0) if test_share is None else test_share
    if not 0 < share <= 1:
        raise InputError(f"--test-share must lie above 0 and at most at 1, got {share:g}.")
    held_out = held_out_identities((clip.identity for clip in listed), share, split_seed)
    test = [clip for clip in listed if clip.identity in held_out]
    found = sorted((clip for clip in test if clip.video is not None), key=lambda clip: clip.name)
    if not found:
        raise InputError(
            f"None of the {len(test)} test clips of {dataset} (of {len(listed)} listed, split seed {split_seed}) is "
            f"below {root}. Videos are found by their published names or YouTube ids."
        )
    prepare(found[:max_clips], output, _cutting(), num_workers=num_workers, progress=progress)
    records = sorted(read_manifest(output), key=lambda record: (record.clip_id[-4:], record.clip_id))[:max_clips]
    notes = _left_over(found[:max_clips], records, output)
    if not records:
        raise InputError(f"Not one clip of {dataset} can be used: {' '.join(notes)}")
    clip_list = ClipList(
        dataset=dataset,
        test_share=share,
        split_seed=split_seed,
        num_listed=len(test),
        num_found=len(found),
        num_used=len({record.source["name"] for record in records}),
        num_clips=len(records),
        fingerprint=fingerprint(records),
    )
    return HeldOut(clips=_clips(output, records), clip_list=clip_list, notes=tuple(notes))


def is_prepared(root: Path) -> bool:
    """Whether a folder is a dataset that `prep` wrote."""
    return (root / MANIFEST).is_file()


def _cutting() -> PreparationConfig:
    """All that is cut is held out; nothing is dropped for what it shows."""
    off: dict[str, Any] = {field.name: None for field in fields(FilterConfig)}
    return PreparationConfig(
        crop=CropConfig(size_px=CLIP_SIZE_PX),
        filters=FilterConfig(**{**off, "min_seconds": MIN_SECONDS}),
        split=SplitConfig(test_share=1.0),
    )


def _clips(root: Path, records: Sequence[ClipRecord]) -> tuple[HeldOutClip, ...]:
    return tuple(
        HeldOutClip(
            name=record.clip_id,
            video=root / record.video,
            audio=None if record.audio is None else root / record.audio,
            seconds=record.duration_seconds,
        )
        for record in records
    )


def _left_over(sources: Sequence[SourceClip], records: Sequence[ClipRecord], output: Path) -> list[str]:
    """Why videos that are on disk give no clip."""
    used = {record.source["name"] for record in records}
    reasons = {reject.source.get("name", reject.clip_id): reject.message for reject in read_rejects(output)}
    idle = [source.name for source in sources if source.name not in used]
    notes = [f"{name} gives no clip: {reasons.get(name, 'no scene is long enough')}." for name in idle[:_MAX_NAMED]]
    if len(idle) > _MAX_NAMED:
        notes.append(f"{len(idle) - _MAX_NAMED} more give none; {output}/rejected.jsonl says why.")
    return notes


def _lists_of(records: Sequence[ClipRecord]) -> list[str]:
    return sorted({str(record.source.get("dataset", "a prepared dataset")) for record in records})


def _settings(root: Path) -> dict[str, Any]:
    try:
        values = json.loads((root / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # clips that were synthesized have none
        return {}
    return values if isinstance(values, dict) else {}
