from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from portraitanim.data.preparation.camera_motion import CameraMotion
from portraitanim.data.preparation.clip_crop import face_share_of, stable_crop
from portraitanim.data.preparation.face_following import ClipFollower
from portraitanim.data.preparation.motion_measures import (
    face_sides_px,
    head_speeds,
    head_travel,
    mouth_openings,
    yaws_degrees,
)
from portraitanim.data.preparation.speech import mouth_sound_agreement, speech_fraction
from portraitanim.face.landmarks import FaceMesh
from portraitanim.media.audio import load_audio
from tests.unit.data.preparation.made_videos import (
    MEDIA,
    SPEAKER,
    late,
    music,
    needs_media,
    shaken,
    sound_of,
    still,
    talking,
)

FACE_BOX = (140.0, 60.0, 180.0, 110.0)


@pytest.fixture(scope="module")
def mesh() -> Iterator[FaceMesh]:
    with FaceMesh(thorough=False) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def points(mesh: FaceMesh) -> np.ndarray:
    return mesh.search(still("hallo_2.jpg", 1)[0]).faces[0].points


@pytest.fixture(scope="module")
def spoken(mesh: FaceMesh) -> np.ndarray:
    """Landmarks of five seconds of speech."""
    follower = ClipFollower(mesh, 25)
    for image in talking(SPEAKER, 125):
        follower.add(image)
    track = follower.track()
    assert track is not None
    return track.points


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """The same face seen frontally and then turned about the vertical."""
    across = points[454] - points[234]
    straight, _ = Rotation.align_vectors([[1, 0, 0]], [across / np.linalg.norm(across)])
    return (points - points.mean(axis=0)) @ (Rotation.from_euler("y", degrees, degrees=True) * straight).as_matrix().T


@needs_media
@pytest.mark.parametrize("degrees", [-60, 0, 30, 75])
def test_yaw_is_how_far_the_head_is_turned(points: np.ndarray, degrees: float) -> None:
    assert abs(yaws_degrees(turned(points, degrees)[None])[0]) == pytest.approx(abs(degrees), abs=3)


@needs_media
def test_speed_and_travel_are_measured_in_faces(points: np.ndarray) -> None:
    side = face_sides_px(points[None])[0]
    moving = points + np.arange(26)[:, None, None] * np.array([side / 25, 0, 0])
    assert head_speeds(moving, 25) == pytest.approx(np.ones(25), rel=1e-4)
    assert head_travel(moving) == pytest.approx(np.ptp(moving[..., 0]) / side - 1, abs=0.01)
    assert head_travel(np.stack([points, points])) == pytest.approx(0, abs=1e-6)
    assert mouth_openings(10 * moving) == pytest.approx(mouth_openings(moving), rel=1e-4)


@needs_media
def test_camera_motion_is_that_of_the_background(mesh: FaceMesh) -> None:
    def speed(frames: np.ndarray) -> float | None:
        camera = CameraMotion(25)
        for image in frames:
            camera.add(image, (90.0, 60.0, 160.0, 150.0))
        return camera.speed(0, len(frames))

    scene = np.repeat(still("sadtalker_full3.jpg", 1), 20, axis=0)
    panned = np.stack([np.roll(image, number, axis=2) for number, image in enumerate(scene)])
    assert speed(still("sadtalker_full3.jpg", 20)) == pytest.approx(0, abs=0.01)
    assert speed(panned) == pytest.approx(25 / 256, rel=0.1)
    assert (speed(shaken(scene)) or 0) > 0.3


def test_plain_background_has_no_measurable_camera_motion() -> None:
    camera = CameraMotion(25)
    for _ in range(10):
        camera.add(np.full((3, 200, 320), 120, np.uint8), FACE_BOX)
    assert camera.speed(0, 10) is None


@needs_media
def test_face_that_vanishes_leaves_the_longest_stretch(mesh: FaceMesh) -> None:
    follower = ClipFollower(mesh, 25)
    grey = np.full((3, 256, 256), 127, np.uint8)
    frames = [*still("hallo_5.jpg", 4), grey, grey, *still("hallo_5.jpg", 9)]
    for image in frames:
        follower.add(image)
    track = follower.track()
    assert track is not None
    assert track.start_frame + len(track) == 15
    assert 5 <= len(track) <= 9
    assert track.tracked_fraction == len(track) / 15
    assert track.second_face_share == 0.0


@needs_media
def test_second_face_is_counted_by_its_size(mesh: FaceMesh) -> None:
    follower = ClipFollower(mesh, 25)
    other = cv2.resize(still("echomimic_a.jpg", 1)[0].transpose(1, 2, 0), (128, 128)).transpose(2, 0, 1)
    frame = np.concatenate([still("hallo_5.jpg", 1)[0], np.pad(other, ((0, 0), (0, 128), (0, 0)))], axis=2)
    follower.add(frame)
    track = follower.track()
    assert track is not None
    sizes = sorted(face.side_px for face in mesh.search(frame).faces)
    assert track.second_face_share == pytest.approx(sizes[0] / sizes[1], abs=0.05)


def test_no_frames_with_a_face_give_no_track(mesh: FaceMesh) -> None:
    follower = ClipFollower(mesh, 25)
    for _ in range(3):
        assert follower.add(np.full((3, 256, 256), 127, np.uint8)) is None
    assert follower.track() is None


@needs_media
@pytest.mark.parametrize("shift", [(0, 0), (150, 0), (-60, -80)])
def test_crop_holds_the_face_and_stays_in_the_picture(points: np.ndarray, shift: tuple[int, int]) -> None:
    moved = points[None] + (*shift, 0)
    crop = stable_crop(moved, 256, (400, 500), 0.6)
    corners = np.array([[0, 0], [256, 256]]) @ np.linalg.inv(crop.transform[:, :2]).T
    corners += -np.linalg.inv(crop.transform[:, :2]) @ crop.transform[:, 2]
    assert corners.min() >= -1e-6
    assert (corners[1] <= np.array([500, 400]) + 1e-6).all()
    if shift == (0, 0):
        assert face_share_of(moved, crop) == pytest.approx(0.6, abs=1e-3)


@needs_media
def test_face_larger_than_the_picture_is_told_by_its_share(points: np.ndarray) -> None:
    crop = stable_crop(3 * points[None], 256, (200, 300), 0.6)
    assert face_share_of(3 * points[None], crop) > 1.0


@needs_media
@pytest.mark.parametrize("name", ["echomimic_en.wav", "echomimic_mei.wav", "sadtalker_bus_chinese.wav"])
def test_speech_is_speech_in_any_language(name: str) -> None:
    assert MEDIA is not None
    samples = load_audio(MEDIA / "speech" / name, 16000).samples.mean(axis=0)[: 16000 * 8]
    assert speech_fraction(samples) > 0.7
    assert speech_fraction(0.03 * samples) > 0.6


@pytest.mark.parametrize("kind", ["silence", "hiss", "hum", "music", "none"])
def test_other_sound_is_no_speech(kind: str) -> None:
    times = np.arange(16000 * 4) / 16000
    random = np.random.default_rng(0)
    samples = {
        "silence": np.zeros(len(times)),
        "hiss": random.normal(0, 0.1, len(times)),
        "hum": 0.2 * np.sin(2 * np.pi * 100 * times),
        "music": music(100),
        "none": np.zeros(0),
    }[kind]
    assert speech_fraction(samples.astype(np.float32)) < 0.05


@needs_media
def test_mouth_agrees_with_its_own_speech_and_not_with_music(spoken: np.ndarray) -> None:
    openings, speech = mouth_openings(spoken), sound_of(SPEAKER, 125)
    own = mouth_sound_agreement(openings, speech, 25)
    other = mouth_sound_agreement(openings, music(125), 25)
    assert own is not None
    assert other is not None
    assert own.correlation > 0.3
    assert own.offset_frames is not None
    assert abs(own.offset_frames) <= 1
    assert other.correlation < 0.2


@needs_media
def test_late_sound_is_found_with_its_sign(spoken: np.ndarray) -> None:
    delayed = mouth_sound_agreement(mouth_openings(spoken), late(sound_of(SPEAKER, 125), 7), 25)
    assert delayed is not None
    assert delayed.offset_frames is not None
    assert -8 <= delayed.offset_frames <= -5  # the mouth is early


@needs_media
def test_offset_of_a_short_clip_is_not_told(spoken: np.ndarray) -> None:
    short = mouth_sound_agreement(mouth_openings(spoken[:60]), sound_of(SPEAKER, 60), 25)
    assert short is not None
    assert short.offset_frames is None


@pytest.mark.parametrize(("num_frames", "level"), [(10, 0.1), (100, 0.0)])
def test_too_short_clips_and_silence_are_not_compared(num_frames: int, level: float) -> None:
    random = np.random.default_rng(0)
    samples = (level * random.normal(size=num_frames * 640)).astype(np.float32)
    assert mouth_sound_agreement(random.uniform(size=num_frames), samples, 25) is None
