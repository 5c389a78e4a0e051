"""Which clips are held out for tests: whole identities, or some clips of the only one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from portraitanim.config.preparation import SplitConfig
from portraitanim.data.preparation.identity_split import held_out_identities
from portraitanim.data.records import ClipRecord


@dataclass(frozen=True, kw_only=True)
class HeldOutClips:
    """The clips of the test split.

    Attributes:
        clip_ids: their names.
        are: what they are, or why there are none, to go on after "held out for tests: ".
    """

    clip_ids: frozenset[str]
    are: str


def hold_out(records: Sequence[ClipRecord], config: SplitConfig) -> HeldOutClips:
    """Choose the clips that are held out.

    Whole identities where there are several. One person's clips are held out by whole videos, as many as fit into the
    share of the clips, in an order that the seed chooses, and where none fits, the one with the fewest clips. Of a
    single video, the last clips in time are taken, cut where no clip before overlaps one behind.

    Args:
        records: all clips that are kept; which split they name does not matter.
        config: the share, of identities or else of clips, and the seed.
    """
    if config.test_share == 0:
        return _held_out([], "nothing, since split.test_share is 0")
    identities = {record.identity for record in records}
    if config.test_share == 1 or len(identities) > 1:
        chosen = held_out_identities(identities, config.test_share, config.seed)
        return _held_out([record for record in records if record.identity in chosen], "whole identities")
    if len(records) < 2:
        return _held_out([], "nothing, since fewer than two clips were kept. Prepare more video")
    count = max(1, min(round(config.test_share * len(records)), len(records) - 1))
    videos = _by_video(records)
    if len(videos) > 1:
        return _held_out(_whole_videos(videos, count, config.seed), "whole videos, since all show one identity")
    last = _last_clips(records, count)
    if not last:
        return _held_out([], "nothing, since all clips are of one video and overlap in time. Prepare more video")
    return _held_out(last, "the last clips in time, since all are of one video")


def _held_out(records: Sequence[ClipRecord], are: str) -> HeldOutClips:
    return HeldOutClips(clip_ids=frozenset(record.clip_id for record in records), are=are)


def _by_video(records: Sequence[ClipRecord]) -> dict[str, list[ClipRecord]]:
    """Clips by the file that they were cut from: a published list may name many stretches of one."""
    videos: dict[str, list[ClipRecord]] = {}
    for record in records:
        # Below two folders, two files may have one path.
        videos.setdefault(f"{record.source['path']} {record.source['sha256']}", []).append(record)
    return videos


def _whole_videos(videos: dict[str, list[ClipRecord]], count: int, seed: int) -> list[ClipRecord]:
    order = sorted(videos, key=lambda video: hashlib.sha256(f"{seed}:{video}".encode()).digest())
    chosen: list[ClipRecord] = []
    for video in order:
        if len(chosen) + len(videos[video]) <= count:
            chosen += videos[video]
    return chosen or videos[min(order, key=lambda video: len(videos[video]))]


def _last_clips(records: Sequence[ClipRecord], count: int) -> list[ClipRecord]:
    """About ``count`` clips from the end of a video, none of which begins before all the others have ended."""
    ordered = sorted(records, key=lambda record: (record.source["start_seconds"], record.source["end_seconds"]))
    ended, cuts = 0.0, []
    for place, record in enumerate(ordered):
        if place and record.source["start_seconds"] >= ended:
            cuts.append(place)
        ended = max(ended, record.source["end_seconds"])
    if not cuts:
        return []
    return ordered[min(cuts, key=lambda place: abs(len(ordered) - place - count)) :]
