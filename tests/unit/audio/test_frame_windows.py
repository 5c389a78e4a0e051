"""Windows over encoder states: which rows a frame sees, and how many frames a sound makes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.audio.frame_windows import (
    centred_indices,
    centred_windows,
    frame_windows,
    num_whisper_frames,
    whisper_indices,
    whisper_windows,
)
from portraitanim.errors import InputError, ShapeError
from portraitanim.types import AudioFeatures

counts = st.integers(1, 400)
rates = st.sampled_from([12.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0])


def numbered_states(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32)[:, None, None].expand(count, 3, 2)


@given(count=counts, half=st.integers(0, 6))
def test_centred_window_holds_the_neighbours_and_repeats_the_edge(count: int, half: int) -> None:
    table = centred_indices(count, 2 * half + 1)
    for frame, rows in enumerate(table.tolist()):
        assert rows == [min(max(frame + step, 0), count - 1) for step in range(-half, half + 1)]


@given(count=counts, fps=rates)
def test_whisper_rows_advance_with_the_sound_and_stay_inside_it(count: int, fps: float) -> None:
    table = whisper_indices(count, fps)
    assert table.shape == (num_whisper_frames(count, fps), 10)
    assert table.min() == 0
    assert table.max() <= count - 1
    assert (table.diff(dim=0) >= 0).all()
    assert ((table.diff(dim=1) == 0) | (table.diff(dim=1) == 1)).all()


@given(count=counts, fps=rates)
def test_published_count_of_frames_is_where_the_loop_ends(count: int, fps: float) -> None:
    # The published loop, read literally: advance until the row of the frame is behind the last state, then one more.
    frame = 0
    while not int(frame * (50.0 / fps)) > count:
        frame += 1
    assert num_whisper_frames(count, fps) == frame + 1


def test_demo_clip_makes_243_frames_as_published() -> None:
    assert num_whisper_frames(502, 24) == 243  # 10.04 s


@given(count=counts, data=st.data())
def test_windows_of_some_frames_are_those_of_all_frames(count: int, data: st.DataObject) -> None:
    states = numbered_states(count)
    for windows in (
        centred_windows,
        lambda states, frames=None: whisper_windows(states, 24.0, frames=frames),
    ):
        every = windows(states)
        frames = data.draw(st.lists(st.integers(0, len(every) - 1), max_size=5))
        assert torch.equal(windows(states, frames=frames), every[frames])


def test_a_frame_behind_the_sound_is_refused() -> None:
    with pytest.raises(InputError, match="Frame 8 was asked for, the sound makes frames 0 to 7"):
        centred_windows(numbered_states(8), frames=[0, 8])


def test_kind_of_window_must_fit_the_rate_of_the_states() -> None:
    features = AudioFeatures(states=numbered_states(16), rate_hz=25.0, encoder="log-mel")
    with pytest.raises(InputError, match="'whisper' read states at 50 Hz, got 25 Hz from log-mel"):
        frame_windows(features, "whisper", 25.0)
    with pytest.raises(InputError, match="'centred' read states at 30 Hz, got 25 Hz"):
        frame_windows(features, "centred", 30.0)


def test_frame_windows_gives_what_the_named_kind_gives() -> None:
    states = numbered_states(40)
    whisper = AudioFeatures(states=states, rate_hz=50, encoder="whisper-tiny")
    assert torch.equal(frame_windows(whisper, "whisper", 24.0), whisper_windows(states, 24.0))
    mel = AudioFeatures(states=states, rate_hz=24.0, encoder="log-mel")
    assert torch.equal(frame_windows(mel, "centred", 24.0, window=3), centred_windows(states, 3))


@pytest.mark.parametrize("window", [0, 4, -1])
def test_even_or_empty_window_is_refused(window: int) -> None:
    with pytest.raises(InputError, match="odd number"):
        centred_indices(8, window)


def test_states_without_layers_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(steps, layers, width\)"):
        centred_windows(torch.zeros(8, 4))


def test_no_states_are_refused() -> None:
    with pytest.raises(InputError, match="at least one state"):
        whisper_indices(0, 24)
