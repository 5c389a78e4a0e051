"""Landmark metrics on faces whose openings and shifts are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.errors import InputError, ShapeError
from portraitanim.evaluation.talking import (
    MOUTH_20,
    has_face,
    landmark_distance,
    mouth_opening,
    opening_agreement,
)
from tests.unit.evaluation.made_up_faces import EYE_DISTANCE_PX, face, faces, turned

_SPEECH = np.abs(np.random.default_rng(3).normal(0.1, 0.05, 200))


def test_mouth_opening_is_the_gap_in_eye_distances() -> None:
    assert mouth_opening(faces(np.array([0.0, 0.1, 0.25]))) == pytest.approx([0, 0.1, 0.25], abs=1e-6)


def test_mouth_opening_does_not_see_size_or_turn_of_the_head() -> None:
    changed = np.stack([turned(face(0.2), (10, 40, 5)) * 3.0])
    assert mouth_opening(changed) == pytest.approx([0.2], abs=1e-6)


def test_a_video_against_itself_has_no_landmark_distance() -> None:
    video = faces(_SPEECH[:10])
    assert landmark_distance(video, video).pixels == 0


def test_a_shifted_head_costs_nothing_and_a_wider_mouth_its_width() -> None:
    true = faces(np.full(4, 0.1))
    assert landmark_distance(true + np.float32([30, -12, 5]), true).pixels == pytest.approx(0, abs=1e-4)
    # Half of the lips' points, the lower ones, are two pixels lower: both halves are one pixel off the mean.
    moved = true.copy()
    moved[:, list(MOUTH_20[:10]), 1] += 2
    found = landmark_distance(moved, true, MOUTH_20)
    assert found.pixels == pytest.approx(1, abs=1e-4)
    assert found.percent == pytest.approx(100 / EYE_DISTANCE_PX, abs=1e-3)


def test_frames_without_a_face_are_left_out_and_counted() -> None:
    true, generated = faces(_SPEECH[:6]), faces(_SPEECH[:6])
    generated[2] = np.nan
    assert has_face(generated).tolist() == [True, True, False, True, True, True]
    assert landmark_distance(generated, true).num_frames == 5
    assert opening_agreement(mouth_opening(generated), mouth_opening(true), 25).num_frames == 5


def test_no_face_at_all_gives_no_number() -> None:
    nothing = np.full((5, 478, 3), np.nan, np.float32)
    assert math.isnan(landmark_distance(nothing, nothing).pixels)
    assert math.isnan(opening_agreement(mouth_opening(nothing), mouth_opening(nothing), 25).correlation)


@given(st.integers(-12, 12))
def test_lag_is_that_by_which_the_generated_mouth_is_late(shift: int) -> None:
    generated, true = _SPEECH[20 - shift : 180 - shift], _SPEECH[20:180]
    found = opening_agreement(generated, true, fps=25)
    assert found.lag_frames == shift
    assert found.lag_seconds == pytest.approx(shift / 25)
    assert found.best_correlation == pytest.approx(1)


def test_lag_is_searched_within_the_limit_only() -> None:
    found = opening_agreement(_SPEECH[10:150], _SPEECH[20:160], fps=25, max_lag_seconds=0.2)
    assert abs(found.lag_frames) <= 5
    assert found.best_correlation < 0.9


def test_a_frozen_mouth_agrees_with_nothing() -> None:
    jitter = np.random.default_rng(0).normal(0.1, 0.001, 100)  # of the mesh, in a frozen picture
    found = opening_agreement(jitter, _SPEECH[:100], fps=25)
    assert (found.correlation, found.best_correlation, found.lag_frames) == (0, 0, 0)
    assert math.isnan(opening_agreement(_SPEECH[:100], np.full(100, 0.1), fps=25).correlation)


def test_videos_of_other_lengths_are_refused() -> None:
    with pytest.raises(ShapeError, match="4 and 3"):
        landmark_distance(faces(_SPEECH[:4]), faces(_SPEECH[:3]))
    with pytest.raises(ShapeError, match="one length"):
        opening_agreement(_SPEECH[:4], _SPEECH[:5], 25)
    with pytest.raises(InputError, match="positive rate"):
        opening_agreement(_SPEECH[:4], _SPEECH[:4], 0)
