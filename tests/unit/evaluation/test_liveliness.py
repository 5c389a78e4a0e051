"""Blinks, head turns and expressions of made-up faces."""

from __future__ import annotations

import math

import numpy as np
import pytest

from portraitanim.errors import InputError
from portraitanim.evaluation.liveliness import count_blinks, eye_openness, head_motion
from portraitanim.face.landmark_groups import RIGID_POINTS
from tests.unit.evaluation.made_up_faces import EYE_DISTANCE_PX, face, faces, turned


def _lids(length: int, *blinks: tuple[int, int]) -> np.ndarray:
    lids = np.full(length, 0.3)
    for start, frames in blinks:
        lids[start : start + frames] = 0.05
    return lids


def test_openness_is_the_gap_in_eye_widths() -> None:
    assert eye_openness(faces(lids=np.array([0.3, 0.05]))) == pytest.approx([0.3, 0.05], abs=1e-6)


def test_blinks_are_counted_with_rate_and_length() -> None:
    found = count_blinks(_lids(250, (40, 4), (120, 6), (200, 5)), fps=25)
    assert (found.count, found.per_minute, found.seconds) == (3, 18, 10)
    assert found.mean_seconds == pytest.approx(0.2)


def test_shut_eyes_and_cut_off_blinks_are_none() -> None:
    kept_shut = count_blinks(_lids(250, (100, 40)), fps=25)
    cut_off = count_blinks(_lids(250, (0, 4), (246, 4)), fps=25)
    lost = _lids(250, (100, 4))
    lost[104] = np.nan
    assert (kept_shut.count, cut_off.count, count_blinks(lost, fps=25).count) == (0, 0, 0)


def test_narrow_eyes_are_not_shut() -> None:
    assert count_blinks(np.full(100, 0.12), fps=25).count == 0


def test_without_a_face_there_is_no_rate() -> None:
    assert math.isnan(count_blinks(np.full(10, np.nan), fps=25).per_minute)
    with pytest.raises(InputError, match="positive"):
        count_blinks(np.full(10, 0.3), fps=0)


@pytest.mark.parametrize(("axis", "name"), [(0, "pitch"), (1, "yaw"), (2, "roll")])
def test_a_turning_head_has_the_spread_of_its_angle(axis: int, name: str) -> None:
    angles = np.linspace(-20, 20, 41)
    video = np.stack([turned(face(), tuple(np.eye(3)[axis] * angle)) for angle in angles])
    found = head_motion(video)
    assert getattr(found, f"{name}_degrees") == pytest.approx(angles.std(), rel=1e-3)
    assert found.pose_degrees == pytest.approx(angles.std(), rel=1e-3)
    assert found.expression_percent == pytest.approx(0, abs=1e-6)


def test_expression_is_what_the_head_does_not_explain() -> None:
    free = next(point for point in range(468) if point not in RIGID_POINTS)
    video = np.stack([turned(face(), (0, angle, 0)) for angle in (0.0, 0.0, 0.0, 0.0)])
    video[::2, free, 1] += 8
    found = head_motion(video)
    # One point of 468 is four pixels off its mean place in each frame.
    assert found.expression_percent == pytest.approx(100 * 4 / np.sqrt(468) / EYE_DISTANCE_PX, rel=1e-6)
    assert found.pose_degrees == pytest.approx(0, abs=1e-6)


def test_one_frame_has_no_spread() -> None:
    assert math.isnan(head_motion(faces(np.array([0.1]))).pose_degrees)
