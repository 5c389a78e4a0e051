from __future__ import annotations

import numpy as np
import pytest

from portraitanim.errors import ShapeError
from portraitanim.face.idle_motion import blinks, idle_landmarks
from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, LIP_PAIRS, RIGHT_EYELID_PAIRS
from portraitanim.face.landmarks import FaceMesh
from portraitanim.media.image import load_image
from tests.examples import PORTRAIT

FPS = 25.0


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    with FaceMesh() as mesh:
        return mesh.search(load_image(PORTRAIT)).faces[0].points


def gaps(points: np.ndarray, pairs: tuple) -> np.ndarray:
    upper, lower = np.array(pairs).T
    return np.linalg.norm(points[:, upper] - points[:, lower], axis=-1).mean(-1)


def test_video_starts_as_the_picture_is(portrait: np.ndarray) -> None:
    moved = idle_landmarks(portrait, 100, FPS, seed=1)
    np.testing.assert_allclose(moved[0], portrait[:, :2], atol=1e-3)


def test_same_seed_same_motion(portrait: np.ndarray) -> None:
    first = idle_landmarks(portrait, 60, FPS, seed=1)
    assert np.array_equal(first, idle_landmarks(portrait, 60, FPS, seed=1))
    assert not np.array_equal(first, idle_landmarks(portrait, 60, FPS, seed=2))


def test_eyes_blink_shut_and_the_mouth_keeps_its_shape(portrait: np.ndarray) -> None:
    moved = idle_landmarks(portrait, 500, FPS, seed=3)
    lids = gaps(moved, (*LEFT_EYELID_PAIRS, *RIGHT_EYELID_PAIRS))
    assert lids.min() < 0.15 * lids[0]
    assert np.median(lids) == pytest.approx(lids[0], rel=0.1)
    lips = gaps(moved, LIP_PAIRS)
    assert lips.max() == pytest.approx(lips[0], rel=0.15, abs=0.5)


def test_head_moves_a_little_and_smoothly(portrait: np.ndarray) -> None:
    moved = idle_landmarks(portrait, 500, FPS, seed=4)
    width = np.ptp(portrait[:, 0])
    nose = moved[:, 4] / width
    assert 0.02 < np.ptp(nose, axis=0).max() < 0.35
    assert np.abs(np.diff(nose, axis=0)).max() < 0.02


def test_blinks_come_every_few_seconds() -> None:
    closed = blinks(3000, FPS, np.random.default_rng(0))
    starts = int(((closed[1:] > 0.5) & (closed[:-1] <= 0.5)).sum())
    assert 20 <= starts <= 80, "in two minutes"


def test_other_points_are_refused() -> None:
    with pytest.raises(ShapeError):
        idle_landmarks(np.zeros((478, 2)), 5, FPS, seed=0)
