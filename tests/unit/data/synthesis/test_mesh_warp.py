from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitanim.data.synthesis.mesh_warp import PortraitWarper
from portraitanim.data.synthesis.mouth_interior import MouthLook
from portraitanim.data.synthesis.portrait_bank import BankPortrait
from portraitanim.errors import ShapeError
from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, RIGHT_EYELID_PAIRS
from portraitanim.face.triangle_map import affine_maps, sample, triangle_map
from tests.unit.data.synthesis.conftest import LOWER_LIP_AND_CHIN

LOOK = MouthLook(
    teeth=(235, 228, 215),
    cavity=(40, 14, 14),
    tongue=(160, 80, 80),
    upper_teeth_drop=0.06,
    lower_teeth_rise=0.0,
    tongue_rise=0.05,
    gap=0.2,
)


@pytest.fixture(scope="module")
def warper(portrait: BankPortrait) -> PortraitWarper:
    return PortraitWarper(portrait, LOOK)


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other.astype(int)).max(0)


def around(points: np.ndarray, group: list[int], margin: int) -> tuple[slice, slice]:
    low = np.floor(points[group, :2].min(0)).astype(int) - margin
    high = np.ceil(points[group, :2].max(0)).astype(int) + margin
    return slice(low[1], high[1]), slice(low[0], high[0])


def test_unmoved_landmarks_give_the_portrait(warper: PortraitWarper, portrait: BankPortrait) -> None:
    changed = difference(warper.frame(portrait.points), portrait.image)
    sure = (portrait.person > 0.99) | (cv2.dilate(portrait.person, np.ones((9, 9))) < 0.01)
    # Eyes and lips go through layers of their own; the rest is the same picture, resampled at its own places.
    assert np.mean(changed[sure] <= 3) > 0.97


def test_open_lips_show_the_mouth_and_leave_the_forehead(warper: PortraitWarper, portrait: BankPortrait) -> None:
    target = portrait.points.copy()
    target[list(LOWER_LIP_AND_CHIN), 1] += 12
    frame, rest = warper.frame(target), warper.frame(portrait.points)
    middle = ((target[13] + target[14]) / 2)[:2].astype(int)
    assert frame[:, middle[1], middle[0]].mean() < 0.7 * rest[:, middle[1], middle[0]].mean()
    forehead = around(portrait.points, [54, 284, 105, 334], 0)
    assert difference(frame, rest)[forehead].max() <= 2


def test_closed_lids_hide_the_white_of_the_eye(warper: PortraitWarper, portrait: BankPortrait) -> None:
    target = portrait.points.copy()
    for upper, lower in (*RIGHT_EYELID_PAIRS, *LEFT_EYELID_PAIRS):
        target[upper] = target[lower]
    frame = warper.frame(target)
    eye = around(portrait.points, [33, 133, 159, 145], 0)
    before, after = portrait.image[:, eye[0], eye[1]], frame[:, eye[0], eye[1]]
    # The iris against the white is the strongest contrast of a face; skin has little.
    assert after.std() < 0.75 * before.std()


def test_background_stays_while_the_head_moves(warper: PortraitWarper, portrait: BankPortrait) -> None:
    rest = warper.frame(portrait.points)
    moved = warper.frame(portrait.points + np.float32([5, 2, 0]))
    away = cv2.dilate(portrait.person, np.ones((25, 25))) < 0.01
    assert away.mean() > 0.05
    assert difference(moved, rest)[away].max() == 0
    assert difference(moved, rest)[around(portrait.points, [50, 280, 195], 0)].max() > 20


def test_landmarks_of_another_topology_are_rejected(warper: PortraitWarper) -> None:
    with pytest.raises(ShapeError, match="478"):
        warper.frame(np.zeros((468, 3), np.float32))


@settings(max_examples=25)
@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(0.8, 1.25))
def test_triangle_map_of_an_affine_motion_is_its_inverse(dx: float, dy: float, scale: float) -> None:
    source = np.array([[0, 0], [64, 0], [0, 64], [64, 64], [30, 26]], np.float64)
    triangles = np.array([[0, 1, 4], [1, 3, 4], [3, 2, 4], [2, 0, 4]])
    target = 32 + scale * (source - 32) + [dx, dy]
    places = triangle_map(source, target, triangles, 64)
    rows, columns = np.mgrid[20:44, 20:44]
    expected = np.stack([columns + 0.5 - 32 - dx, rows + 0.5 - 32 - dy], axis=-1) / scale + 32
    np.testing.assert_allclose(places[20:44, 20:44], expected, atol=1e-3)


def test_folded_triangles_fetch_nothing_from_afar() -> None:
    source = np.array([[10, 10], [50, 10], [30, 40]], np.float64)
    target = np.array([[10, 20], [50, 20], [30, 20.01]])
    places = triangle_map(source, target, np.array([[0, 1, 2]]), 64)
    assert places[19:22].min() >= 0
    assert places.max() <= 64


def test_affine_of_a_triangle_without_area_is_finite() -> None:
    flat = np.array([[[1.0, 1], [2, 2], [3, 3]]])
    assert np.isfinite(affine_maps(flat, flat + 1)).all()


def test_sampling_the_identity_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    middle = np.arange(32, dtype=np.float32) + 0.5
    places = np.stack(np.meshgrid(middle, middle), axis=-1)
    np.testing.assert_array_equal(sample(picture, places), picture)
