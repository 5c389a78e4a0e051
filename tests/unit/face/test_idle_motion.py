from __future__ import annotations

import numpy as np
import pytest

from portraitanim.errors import ShapeError
from portraitanim.face.idle_motion import Blinks, IdleMotion
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
    moved = IdleMotion(portrait, FPS, seed=1).landmarks(range(100))
    np.testing.assert_allclose(moved[0], portrait[:, :2], atol=1e-3)


def test_same_seed_same_motion(portrait: np.ndarray) -> None:
    first = IdleMotion(portrait, FPS, seed=1).landmarks(range(60))
    assert np.array_equal(first, IdleMotion(portrait, FPS, seed=1).landmarks(range(60)))
    assert not np.array_equal(first, IdleMotion(portrait, FPS, seed=2).landmarks(range(60)))


def test_frame_is_the_same_however_long_the_video_becomes(portrait: np.ndarray) -> None:
    whole = IdleMotion(portrait, FPS, seed=5).landmarks(range(200))
    piecewise = IdleMotion(portrait, FPS, seed=5)
    pieces = [piecewise.landmarks(range(start, start + 8)) for start in range(0, 200, 8)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert np.array_equal(piecewise.landmarks([3, 150]), whole[[3, 150]]), "also back in time"


def test_eyes_blink_shut_and_the_mouth_keeps_its_shape(portrait: np.ndarray) -> None:
    moved = IdleMotion(portrait, FPS, seed=3).landmarks(range(500))
    lids = gaps(moved, (*LEFT_EYELID_PAIRS, *RIGHT_EYELID_PAIRS))
    assert lids.min() < 0.15 * lids[0]
    assert np.median(lids) == pytest.approx(lids[0], rel=0.1)
    lips = gaps(moved, LIP_PAIRS)
    assert lips.max() == pytest.approx(lips[0], rel=0.15, abs=0.5)


def test_head_moves_a_little_and_smoothly(portrait: np.ndarray) -> None:
    moved = IdleMotion(portrait, FPS, seed=4).landmarks(range(500))
    width = np.ptp(portrait[:, 0])
    nose = moved[:, 4] / width
    assert 0.02 < np.ptp(nose, axis=0).max() < 0.35
    assert np.abs(np.diff(nose, axis=0)).max() < 0.02


def test_blinks_come_every_few_seconds() -> None:
    closed = Blinks(np.random.default_rng(0)).at(np.arange(3000) / FPS)
    starts = int(((closed[1:] > 0.5) & (closed[:-1] <= 0.5)).sum())
    assert 20 <= starts <= 80, "in two minutes"


def test_other_points_are_refused() -> None:
    with pytest.raises(ShapeError):
        IdleMotion(np.zeros((478, 2)), FPS, seed=0)
