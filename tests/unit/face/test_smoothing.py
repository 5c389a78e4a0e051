"""Smoothing on the detector's own jitter and on real blinks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, LIP_PAIRS, RIGHT_EYELID_PAIRS, Edges
from portraitanim.face.landmarks import FaceMesh
from portraitanim.face.smoothing import SmoothingMethod, smooth_landmarks
from portraitanim.face.tracking import track_face
from portraitanim.media.image import load_image, resize_image
from portraitanim.media.video import iter_video
from portraitanim.types import FaceLandmarks

MEDIA = next(
    (p / "shared" / "media" for p in Path(__file__).resolve().parents if (p / "shared" / "media").is_dir()), None
)
pytestmark = pytest.mark.skipif(MEDIA is None, reason="shared/media is not beside this clone")
FPS = 25.0
METHODS: tuple[SmoothingMethod, ...] = ("savgol", "one-euro")


@pytest.fixture(scope="module")
def still() -> FaceLandmarks:
    """A face that does not move, filmed with noise."""
    assert MEDIA is not None
    picture = resize_image(load_image(MEDIA / "portraits" / "hallo_2.jpg"), 400, 400).astype(np.float32)
    generator = np.random.default_rng(0)
    frames = (np.clip(picture + generator.normal(0, 6, picture.shape), 0, 255).astype(np.uint8) for _ in range(50))
    with FaceMesh() as mesh:
        return track_face(frames, FPS, mesh).landmarks


@pytest.fixture(scope="module")
def talking() -> Iterator[list[FaceLandmarks]]:
    assert MEDIA is not None
    with FaceMesh() as mesh:
        yield [
            track_face(
                (frame.image for frame in iter_video(MEDIA / "talking" / name, FPS, duration_seconds=4.0)), FPS, mesh
            ).landmarks
            for name in ("liveportrait_d12.mp4", "echomimic_a_silent.mp4")
        ]


def restlessness(landmarks: FaceLandmarks) -> float:
    """Step from frame to frame in widths of the face."""
    points = landmarks.points
    return float(np.sqrt((np.diff(points[..., :2], axis=0) ** 2).sum(-1).mean()) / np.ptp(points[0, :, 0]))


def openings(landmarks: FaceLandmarks, pairs: Edges) -> np.ndarray:
    upper, lower = np.array(pairs).T
    points = landmarks.points[..., :2]
    return np.linalg.norm(points[:, upper] - points[:, lower], axis=-1).mean(1)


@pytest.mark.parametrize("method", METHODS)
def test_noise_of_the_camera_moves_a_still_face_less_than_half_as_far(
    still: FaceLandmarks, method: SmoothingMethod
) -> None:
    assert restlessness(still) > 1e-4  # there is jitter to take out
    assert restlessness(smooth_landmarks(still, FPS, method)) < 0.5 * restlessness(still)


@pytest.mark.parametrize(("method", "kept"), [("savgol", 0.9), ("one-euro", 0.75)])
def test_blinks_and_closing_lips_keep_their_depth(
    talking: list[FaceLandmarks], method: SmoothingMethod, kept: float
) -> None:
    for landmarks in talking:
        smooth = smooth_landmarks(landmarks, FPS, method)
        for pairs in (LIP_PAIRS, RIGHT_EYELID_PAIRS, LEFT_EYELID_PAIRS):
            raw, calm = openings(landmarks, pairs), openings(smooth, pairs)
            narrowest = np.argsort(raw)[:3]
            depth = np.median(raw) - raw[narrowest].mean()
            assert np.median(raw) - calm[narrowest].mean() > kept * depth


@pytest.mark.parametrize(("method", "frames"), [("savgol", 0.05), ("one-euro", 0.4)])
def test_motion_is_not_late(talking: list[FaceLandmarks], method: SmoothingMethod, frames: float) -> None:
    for landmarks in talking:
        nose = landmarks.points[:, 1, 0].astype(np.float64)
        smooth = smooth_landmarks(landmarks, FPS, method).points[:, 1, 0].astype(np.float64)
        times = np.arange(len(nose), dtype=np.float64)
        inner = slice(5, -5)
        lags = np.arange(-1.0, 1.01, 0.05)
        errors = [((np.interp(times - lag, times, nose) - smooth)[inner] ** 2).sum() for lag in lags]
        assert abs(lags[int(np.argmin(errors))]) <= frames
