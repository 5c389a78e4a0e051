from __future__ import annotations

import numpy as np
import pytest

from portraitanim.errors import InputError
from portraitanim.face.face_track import FaceTrack
from portraitanim.face.motion_sync import SyncMethod
from portraitanim.face.track_motion import drive_portrait
from portraitanim.types import NUM_LANDMARKS, FaceLandmarks


def cloud(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal((256, 256, 0), (60, 80, 40), (NUM_LANDMARKS, 3)).astype(np.float32)


def track(depth: float = 1.0) -> FaceTrack:
    frames = np.stack([cloud(1) + np.float32(step) for step in range(5)]) * np.array([1, 1, depth], np.float32)
    return FaceTrack(
        landmarks=FaceLandmarks(points=frames), fps=25.0, size_px=(512, 512), found=np.ones(5, bool), source="test"
    )


@pytest.mark.parametrize("method", ["paper", "published"])
def test_answer_is_in_pixels_of_the_portraits_picture(method: SyncMethod) -> None:
    large = drive_portrait(track(), FaceLandmarks(points=cloud(2)[None]), (512, 512), method=method)
    small = drive_portrait(track(), FaceLandmarks(points=cloud(2)[None] / 2), (256, 256), method=method)
    assert large.dtype == np.float32
    np.testing.assert_allclose(small * 2, large, atol=0.05)


def test_points_without_depth_are_refused() -> None:
    with pytest.raises(InputError, match="depth"):
        drive_portrait(track(depth=0.0), FaceLandmarks(points=cloud(2)[None]), (512, 512))


def test_published_method_refuses_a_picture_that_is_not_square() -> None:
    with pytest.raises(InputError, match="square"):
        drive_portrait(track(), FaceLandmarks(points=cloud(2)[None]), (512, 400), method="published")
