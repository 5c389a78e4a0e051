from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.errors import InputError
from portraitanim.face.motion_sync import synchronize
from portraitanim.face.smoothing import smooth_landmarks
from portraitanim.types import NUM_LANDMARKS, FaceLandmarks


def face(seed: int = 0) -> np.ndarray:
    """Points of no real face: motion synchronization must not need one."""
    return np.random.default_rng(seed).normal((256, 256, 0), (60, 80, 40), (NUM_LANDMARKS, 3))


def landmarks(*frames: np.ndarray) -> FaceLandmarks:
    return FaceLandmarks(points=np.stack(frames).astype(np.float32))


def test_still_driver_leaves_the_portrait_as_it_is() -> None:
    driver, portrait = face(1), face(2)
    moved = synchronize(landmarks(driver, driver, driver), landmarks(portrait))
    np.testing.assert_allclose(moved, np.broadcast_to(portrait[:, :2], moved.shape), atol=1e-3)


@given(scale=st.floats(0.2, 5.0), right=st.floats(-500, 500), down=st.floats(-500, 500))
def test_size_and_place_of_the_driver_do_not_matter(scale: float, right: float, down: float) -> None:
    generator = np.random.default_rng(3)
    frames = [face(1) + generator.normal(0, 2, (NUM_LANDMARKS, 3)) for _ in range(4)]
    elsewhere = [frame * scale + np.array([right, down, 0]) for frame in frames]
    first = synchronize(landmarks(*frames), landmarks(face(2)))
    second = synchronize(landmarks(*elsewhere), landmarks(face(2)))
    # float32 landmarks, up to some thousand pixels.
    np.testing.assert_allclose(first, second, atol=0.05)


def test_portrait_with_two_frames_is_refused() -> None:
    with pytest.raises(InputError, match="exactly one frame"):
        synchronize(landmarks(face()), landmarks(face(), face()))


def test_published_method_without_metric_geometry_is_refused() -> None:
    with pytest.raises(InputError, match="metric face geometry"):
        synchronize(landmarks(face()), landmarks(face()), method="published")


@pytest.mark.parametrize("method", ["savgol", "one-euro"])
def test_smoothing_calms_a_still_face_and_keeps_its_place(method: str) -> None:
    generator = np.random.default_rng(0)
    # A tenth of a percent of the face's width: what noise of a camera does to the detector's points.
    frames = [face(1) + generator.normal(0, 0.4, (NUM_LANDMARKS, 3)) for _ in range(50)]
    noisy = landmarks(*frames)
    calm = smooth_landmarks(noisy, 25.0, method)  # type: ignore[arg-type]
    assert len(calm) == len(noisy)
    assert np.diff(calm.points, axis=0).std() < 0.5 * np.diff(noisy.points, axis=0).std()
    assert np.abs(calm.points.mean(0) - noisy.points.mean(0)).mean() < 0.3


def test_savgol_keeps_steady_motion() -> None:
    frames = [face(1) + t * np.array([3.0, -1.0, 0.0]) for t in range(20)]
    steady = landmarks(*frames)
    np.testing.assert_allclose(smooth_landmarks(steady, 25.0).points, steady.points, atol=1e-2)
