"""Which clips are held out where persons cannot be: never parts of one video on both sides where there are several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.config.preparation import SplitConfig
from portraitanim.data.preparation.clip_split import hold_out
from portraitanim.data.records import ClipRecord

TENTH = SplitConfig()


def clip(video: str, start: float, end: float | None = None, identity: str = "anna") -> ClipRecord:
    return ClipRecord(
        clip_id=f"{video}-{start:g}",
        identity=identity,
        split="train",
        video="video.mp4",
        face="face.safetensors",
        num_frames=50,
        fps=25.0,
        size_px=64,
        source={
            "name": video,
            "path": f"{video}.mp4",
            "start_seconds": start,
            "end_seconds": start + 2 if end is None else end,
            "sha256": video,
        },
    )


def clips(**counts: int) -> list[ClipRecord]:
    """Clips of two seconds, one behind the other, so many of each video."""
    return [clip(video, 2.0 * number) for video, count in counts.items() for number in range(count)]


def videos_of(clip_ids: Iterable[str]) -> set[str]:
    return {clip_id.partition("-")[0] for clip_id in clip_ids}


@pytest.mark.parametrize(("count", "expected"), [(2, 1), (9, 1), (30, 3), (100, 10)])
def test_last_tenth_of_the_only_video_is_held_out_whatever_the_seed(count: int, expected: int) -> None:
    records = clips(video=count)
    for seed in range(3):
        found = hold_out(records[::-1], replace(TENTH, seed=seed))
        assert found.clip_ids == {record.clip_id for record in records[-expected:]}
    assert found.are == "the last clips in time, since all are of one video"


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_held_out_of_one_clip_and_it_says_so(count: int) -> None:
    found = hold_out(clips(video=count), TENTH)
    assert (found.clip_ids, found.are) == (set(), "nothing, since fewer than two clips were kept. Prepare more video")


def test_share_of_nothing_and_of_everything_is_kept_to() -> None:
    records = clips(video=5)
    assert hold_out(records, SplitConfig(test_share=0)).clip_ids == set()
    assert len(hold_out(records, SplitConfig(test_share=1)).clip_ids) == 5
    assert len(hold_out(records, SplitConfig(test_share=0.99)).clip_ids) == 4


def test_several_persons_are_held_out_whole() -> None:
    records = [clip(name, start, identity=name) for name in "abcdefghij" for start in (0.0, 2.0)]
    found = hold_out(records, TENTH)
    assert (len(found.clip_ids), len(videos_of(found.clip_ids)), found.are) == (2, 1, "whole identities")


@given(st.lists(st.integers(1, 12), min_size=2, max_size=12), st.integers(0, 5))
def test_one_persons_videos_are_held_out_whole(counts: list[int], seed: int) -> None:
    records = clips(**{f"v{number}": count for number, count in enumerate(counts)})
    config = SplitConfig(seed=seed)
    found = hold_out(records, config).clip_ids
    others = {record.clip_id for record in records} - found
    assert found
    assert others
    assert not videos_of(found) & videos_of(others)
    # At most the share, or the shortest video where none is so short.
    assert len(found) <= max(round(0.1 * len(records)), min(counts))
    assert found == hold_out(records[::-1], config).clip_ids


def test_seed_chooses_other_videos() -> None:
    records = clips(**{f"v{number}": 1 for number in range(20)})
    assert len({hold_out(records, SplitConfig(seed=seed)).clip_ids for seed in range(5)}) > 1


def test_stretches_of_one_video_are_one_video_however_they_are_named() -> None:
    records = [clip("video", 0.0), replace(clip("video", 30.0), clip_id="other-0000")]
    assert hold_out(records, TENTH).are == "the last clips in time, since all are of one video"


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        # The last two overlap: they are held out together.
        ([(0, 4), (4, 8), (8, 12), (10, 14)], {"v-8", "v-10"}),
        # A long stretch reaches to the end: the cut falls before it.
        ([(0, 4), (4, 20), (8, 12), (12, 16)], {"v-4", "v-8", "v-12"}),
    ],
)
def test_clips_that_overlap_in_time_stay_on_one_side(times: list[tuple[float, float]], expected: set[str]) -> None:
    assert hold_out([clip("v", *pair) for pair in times], TENTH).clip_ids == expected


def test_one_video_whose_clips_all_overlap_cannot_be_cut() -> None:
    found = hold_out([clip("v", 0, 10), clip("v", 2, 8), clip("v", 4, 9)], TENTH)
    assert not found.clip_ids
    assert "overlap in time" in found.are
