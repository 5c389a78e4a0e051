"""Aligned upper faces, flicker and drift on pictures that are moved and changed in known ways."""

from __future__ import annotations

import math

import numpy as np
import pytest

from portraitanim.errors import ShapeError
from portraitanim.evaluation.aligned_face import SIZE_PX, align_upper_face, align_upper_faces, upper_face_ssim
from portraitanim.evaluation.stability import DriftMeter, FlickerMeter
from portraitanim.face.warping import square_transform, transform_points, warp
from tests.unit.evaluation.made_up_faces import face

_FPS = 25


def _picture(seed: int = 0) -> np.ndarray:
    """A smooth random picture, uint8 ``(3, 256, 256)``."""
    coarse = np.random.default_rng(seed).integers(40, 215, (16, 16, 3)).astype(np.uint8)
    smooth = warp(coarse, square_transform((8, 8), 16, 256), (256, 256))
    return np.ascontiguousarray(smooth.transpose(2, 0, 1))


def _moved(picture: np.ndarray, points: np.ndarray, shift: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    transform = square_transform((128 + shift, 128), 256, 256, angle)
    pixels = warp(np.ascontiguousarray(picture.transpose(1, 2, 0)), transform, (256, 256))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), transform_points(points, transform)


def test_the_same_face_elsewhere_aligns_to_the_same_picture() -> None:
    picture, points = _picture(), face().astype(np.float32)
    here = align_upper_face(picture, points)
    there = align_upper_face(*_moved(picture, points, shift=9, angle=0.15))
    assert here.shape == (3, *SIZE_PX)
    # The bilinear sampling of two steps instead of one.
    assert np.abs(here.astype(int) - there).mean() < 1.5


def test_corners_of_the_eyes_come_to_their_places() -> None:
    picture = np.zeros((3, 256, 256), np.uint8)
    picture[:, 98:103, 86:91] = 255  # around the right eye's outer corner
    aligned = align_upper_face(picture, face())
    assert aligned[0, 52, 40] > 200
    assert aligned[0, 52, 80] == 0


def test_upper_face_ssim_is_1_for_equal_videos_and_nan_without_a_face() -> None:
    frames, points = [_picture()] * 3, np.stack([face()] * 3)
    lost = points.copy()
    lost[1] = np.nan
    values = upper_face_ssim(frames, points, frames, lost)
    assert values[[0, 2]] == pytest.approx([1, 1])
    assert math.isnan(values[1])
    assert upper_face_ssim(frames, points, [_picture(1)] * 3, points).max() < 0.9


@pytest.mark.parametrize("num_frames", [2, 4])
def test_as_many_frames_as_landmarks_are_needed(num_frames: int) -> None:
    with pytest.raises(ShapeError, match="3 frames"):
        list(align_upper_faces([_picture()] * num_frames, np.stack([face()] * 3)))


def test_flicker_is_twice_the_jump_of_every_other_frame() -> None:
    meter = FlickerMeter()
    for number in range(8):
        meter.add(np.full((3, 4, 4), 100 + 3 * (number % 2), np.uint8))
    assert meter.flicker == 6


def test_steady_change_does_not_flicker_and_a_lost_face_starts_anew() -> None:
    meter = FlickerMeter()
    for number in range(8):
        meter.add(np.full((3, 4, 4), 10 * number, np.uint8))
    meter.add(None)
    meter.add(np.full((3, 4, 4), 255, np.uint8))
    assert meter.flicker == 0
    assert math.isnan(FlickerMeter().flicker)


def test_drift_of_colour_is_measured_with_its_slope() -> None:
    meter = DriftMeter(_FPS)
    for number in range(10 * _FPS):
        frame = np.full((3, 8, 8), 100, np.uint8)
        frame[0] += round(number * 0.4)  # ten units of red per second
        meter.add(frame)
    found = meter.drift
    assert found is not None
    assert found.colour_shift == pytest.approx(90, abs=0.5)
    assert found.colour_shift_per_minute == pytest.approx(600, rel=0.01)
    assert found.seconds == pytest.approx(9, abs=0.05)


def test_a_face_that_blurs_loses_sharpness() -> None:
    sharp, meter = _picture().astype(float), DriftMeter(_FPS)
    for number in range(4 * _FPS):
        mixed = sharp + (sharp.mean(axis=(1, 2), keepdims=True) - sharp) * min(number / 100, 0.5)
        meter.add(mixed.astype(np.uint8))
    found = meter.drift
    assert found is not None
    assert found.sharpness_ratio < 0.8
    assert found.contrast_ratio < 0.8
    assert found.colour_shift < 1


def test_a_short_video_has_no_drift() -> None:
    meter = DriftMeter(_FPS)
    for _ in range(2 * _FPS - 1):
        meter.add(_picture())
    assert meter.drift is None
