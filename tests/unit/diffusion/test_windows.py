from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.diffusion.windows import overlapping_windows, sequential_clip, window_weights
from portraitanim.errors import InputError

lengths = st.integers(1, 200)


@given(num_frames=lengths, length=st.integers(1, 32))
def test_clips_make_every_frame_once_and_in_order(num_frames: int, length: int) -> None:
    clips = [sequential_clip(number, num_frames, length) for number in range(-(-num_frames // length))]
    made = [frame for clip in clips for frame in clip.frames[: clip.num_new]]
    assert made == list(range(num_frames))
    assert all(len(clip.frames) == length for clip in clips)


@given(num_frames=lengths, length=st.integers(1, 32), overlap=st.integers(0, 31), shift=st.integers(0, 500))
def test_weights_of_each_frame_sum_to_one(num_frames: int, length: int, overlap: int, shift: int) -> None:
    overlap %= length
    windows = overlapping_windows(num_frames, length, overlap, shift)
    weights = window_weights(windows, num_frames)
    totals = [0.0] * num_frames
    for window in windows:
        assert len(set(window)) == len(window) == min(length, num_frames)
        for frame in window:
            totals[frame] += weights[frame]
    assert totals == pytest.approx([1.0] * num_frames)


@given(num_frames=lengths, shift=st.integers(0, 500))
def test_video_that_fits_is_one_window(num_frames: int, shift: int) -> None:
    (window,) = overlapping_windows(num_frames, num_frames + 3, 2, shift)
    assert sorted(window) == list(range(num_frames))


def test_published_windows_of_a_demo_clip() -> None:
    assert len(overlapping_windows(240, 12, 3)) == 27
    assert len(overlapping_windows(1200, 12, 3)) == 134


@pytest.mark.parametrize("overlap", [-1, 12, 13])
def test_overlap_as_long_as_the_window_is_refused(overlap: int) -> None:
    with pytest.raises(InputError, match="overlap"):
        overlapping_windows(30, 12, overlap)


def test_nothing_to_make_is_refused() -> None:
    with pytest.raises(InputError):
        sequential_clip(0, 0, 16)
