from __future__ import annotations

import numpy as np
import pytest

from portraitanim.data.synthesis.driver_motion import (
    HeadPoses,
    carry_to_portrait,
    face_width,
    lid_opening,
    lip_opening,
    separate_motion,
)
from portraitanim.data.synthesis.expression_basis import ExpressionBasis, FaceMeasures
from portraitanim.data.synthesis.portrait_bank import BankPortrait
from portraitanim.data.synthesis.talking_tracks import TalkingTrack


@pytest.fixture(scope="module")
def basis(track: TalkingTrack) -> ExpressionBasis:
    return ExpressionBasis.fit([separate_motion(track.points)])


def still(num_frames: int) -> HeadPoses:
    return HeadPoses(
        rotations=np.tile(np.eye(3), (num_frames, 1, 1)), sizes=np.ones(num_frames), travel=np.zeros((num_frames, 3))
    )


def measures(num_frames: int, **values: np.ndarray) -> FaceMeasures:
    names = ("opening", "width", "pout", "upper_lip", "corners", "lids", "brows")
    return FaceMeasures(**{name: values.get(name, np.zeros(num_frames)) for name in names})


def talking(basis: ExpressionBasis, opening: np.ndarray) -> np.ndarray:
    """Shapes with lips open so far, and with what goes along with it on this face."""
    pout, upper_lip, corners = (np.stack([opening, 0 * opening], axis=-1) @ basis.company).T
    return basis.shapes(measures(len(opening), opening=opening, pout=pout, upper_lip=upper_lip, corners=corners))


def test_head_turns_are_told_from_expression(track: TalkingTrack) -> None:
    motion = separate_motion(track.points)
    yaw = np.degrees(np.arctan2(motion.poses.rotations[:, 0, 2], motion.poses.rotations[:, 0, 0]))
    assert np.ptp(yaw) == pytest.approx(12, abs=1.5)
    opening = lip_opening(motion.shapes)
    true = lip_opening(track.points) / face_width(track.points)
    assert np.corrcoef(opening, true)[0, 1] > 0.99


def test_motion_that_goes_too_far_is_made_smaller_as_a_whole(track: TalkingTrack) -> None:
    poses = separate_motion(track.points).poses
    limited = poses.within(2.0, 0.01, 0.01)
    angle = np.degrees(np.arccos(np.clip((np.trace(limited.rotations, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert angle.max() == pytest.approx(2.0, abs=0.05)
    assert np.linalg.norm(limited.travel, axis=1).max() <= 0.0101


def test_basis_opens_the_lips_as_far_as_told(basis: ExpressionBasis) -> None:
    wanted = np.array([0.0, 0.04, 0.08])
    shapes = talking(basis, wanted)
    assert lip_opening(shapes)[0] < 0.004
    np.testing.assert_allclose(lip_opening(shapes)[1:], wanted[1:], rtol=0.1)


def test_lids_told_to_close_meet_and_do_not_cross(basis: ExpressionBasis) -> None:
    shapes = basis.shapes(measures(1, lids=np.array([-0.5])))
    assert lid_opening(shapes)[0] < 0.01
    assert (shapes[0, [145, 374], 1] >= shapes[0, [159, 386], 1] - 1e-9).all()


def test_portrait_shuts_its_mouth_in_silence_and_opens_as_its_driver(
    basis: ExpressionBasis, portrait: BankPortrait
) -> None:
    """The example smiles with open lips: resting on its own opening would never say p, b or m."""
    rest = basis.with_closed_lips(portrait.points)
    shapes = talking(basis, np.array([0.0, 0.08]))
    landmarks = carry_to_portrait(shapes, basis.neutral, still(2), rest, 0.3)
    opening = lip_opening(landmarks) / face_width(landmarks)
    assert lip_opening(portrait.points[None])[0] / face_width(portrait.points[None])[0] > 0.02
    assert opening[0] < 0.006
    assert 0.05 < opening[1] < 0.12


def test_unmoved_driver_leaves_the_portrait_where_it_is(basis: ExpressionBasis, portrait: BankPortrait) -> None:
    rest = basis.with_closed_lips(portrait.points)
    landmarks = carry_to_portrait(basis.neutral[None], basis.neutral, still(1), rest, 0.3)
    np.testing.assert_allclose(landmarks[0], rest, atol=0.05)
