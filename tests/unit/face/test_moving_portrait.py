"""The portrait moved to where landmarks say, on a real face."""

from __future__ import annotations

import numpy as np
import pytest

from portraitanim.errors import InputError
from portraitanim.evaluation.liveliness import eye_openness
from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, MOUTH, RIGHT_EYELID_PAIRS, RIGID_POINTS
from portraitanim.face.landmarks import FaceMesh
from portraitanim.face.moving_portrait import MovingPortrait
from portraitanim.media.image import load_image, resize_image
from tests.examples import PORTRAIT

UPPER = ("eyes", "eyebrows", "pupils", "nose")
SIZE = 256


@pytest.fixture(scope="module")
def face() -> tuple[np.ndarray, np.ndarray]:
    """The example portrait at 256 pixels and its landmarks."""
    picture = load_image(PORTRAIT)
    side = min(picture.shape[1:])
    image = resize_image(picture[:, :side, :side], SIZE, SIZE)
    with FaceMesh() as mesh:
        return image, mesh.search(image).require("the portrait")[0].points


def turned(points: np.ndarray, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = points[list(RIGID_POINTS), :2].mean(0)
    return np.concatenate([(points[:, :2] - middle) @ turn.T + middle + shift, points[:, 2:]], axis=1)


def test_landmarks_at_rest_leave_the_portrait(face: tuple[np.ndarray, np.ndarray]) -> None:
    image, points = face
    still = MovingPortrait(image, points).moved(points[None], UPPER)[0]
    np.testing.assert_array_equal(still, image)


def test_a_turned_head_is_found_where_it_was_sent(face: tuple[np.ndarray, np.ndarray]) -> None:
    """The face detector finds eyes and nose of the moved picture where they should be."""
    image, points = face
    wanted = turned(points, 7.0, (6.0, -4.0))
    moved = MovingPortrait(image, points).moved(wanted[None], UPPER)[0]
    with FaceMesh() as mesh:
        found = mesh.search(moved).require("the moved portrait")[0].points
    bone = [33, 133, 362, 263, 4, 168]
    before = np.linalg.norm(points[bone, :2] - wanted[bone, :2], axis=1).mean()
    after = np.linalg.norm(found[bone, :2] - wanted[bone, :2], axis=1).mean()
    assert before > 5
    assert after < 1.5


def test_parts_that_are_not_shown_tell_nothing(face: tuple[np.ndarray, np.ndarray]) -> None:
    """Or a network would learn to read the mouth off the moved portrait, and not to listen."""
    image, points = face
    talking = points.copy()
    talking[list(MOUTH), 1] += 9.0
    np.testing.assert_array_equal(
        MovingPortrait(image, points).moved(talking[None], UPPER),
        MovingPortrait(image, points).moved(points[None], UPPER),
    )
    with_mouth = MovingPortrait(image, points).moved(talking[None], (*UPPER, "mouth"))[0]
    assert np.abs(with_mouth.astype(int) - image).max() > 60


def test_without_parts_nothing_moves(face: tuple[np.ndarray, np.ndarray]) -> None:
    image, points = face
    np.testing.assert_array_equal(MovingPortrait(image, points).moved(turned(points, 9, (9, 9))[None], ())[0], image)


def test_border_and_shoulders_stay(face: tuple[np.ndarray, np.ndarray]) -> None:
    image, points = face
    moved = MovingPortrait(image, points).moved(turned(points, 8.0, (8.0, 0.0))[None], UPPER)[0]
    apart = np.abs(moved.astype(int) - image).max(0)
    edge = np.concatenate([apart[:2], apart[-2:], apart[:, :2].T, apart[:, -2:].T])
    assert edge.max() < 30
    x, y = points[4, :2].astype(int)
    assert apart[y - 20 : y + 20, x - 20 : x + 20].max() > 60


def test_a_few_points_tell_a_shift_and_no_turn(face: tuple[np.ndarray, np.ndarray]) -> None:
    """The nose alone, a little bent, must not throw the forehead about."""
    image, points = face
    bent = points.copy()
    bent[[44, 45, 274, 275], 1] += [1.0, 1.0, -1.0, -1.0]
    moved = MovingPortrait(image, points).moved(bent[None], ("nose",))[0]
    with FaceMesh() as mesh:
        found = mesh.search(moved).require("the moved portrait")[0].points
    forehead = [10, 151, 109, 338]
    assert np.abs(found[forehead, :2] - points[forehead, :2]).max() < 2.0


def test_lids_close(face: tuple[np.ndarray, np.ndarray]) -> None:
    image, points = face
    shut = points.copy()
    for upper, lower in (*RIGHT_EYELID_PAIRS, *LEFT_EYELID_PAIRS):
        shut[upper] = shut[lower]
    moving = MovingPortrait(image, points)
    blinking = moving.moved(np.stack([points, shut]), UPPER)
    with FaceMesh() as mesh:
        found = [mesh.search(frame).require("the moved portrait")[0].points for frame in blinking]
    open_eyes, shut_eyes = eye_openness(np.stack(found))
    assert shut_eyes < 0.65 * open_eyes
    # And where lids are not shown, eyes stay as they are.
    np.testing.assert_array_equal(*(moving.moved(points[None], ("nose",)) for points in (points, shut)))


def test_an_unknown_part_is_named(face: tuple[np.ndarray, np.ndarray]) -> None:
    image, points = face
    with pytest.raises(InputError, match="'ears'"):
        MovingPortrait(image, points).moved(points[None], ("ears",))
