from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from portraitanim.errors import FaceError, InputError, ShapeError
from portraitanim.face.detection import DetectedFace, FaceSearch
from portraitanim.face.face_track import FaceTrack, resample_track
from portraitanim.face.landmarks import FaceMesh
from portraitanim.face.tracking import track_face
from portraitanim.media.image import load_image, resize_image
from portraitanim.media.video import iter_video
from portraitanim.types import NUM_LANDMARKS, FaceLandmarks

MEDIA = next(
    (p / "shared" / "media" for p in Path(__file__).resolve().parents if (p / "shared" / "media").is_dir()), None
)
needs_media = pytest.mark.skipif(MEDIA is None, reason="shared/media is not beside this clone")
CLOUD = np.random.default_rng(0).uniform(-0.5, 0.5, (NUM_LANDMARKS, 3))
CLOUD[:2] = ((-0.5, -0.5, 0), (0.5, 0.5, 0))
BLANK = np.zeros((3, 100, 400), np.uint8)

Scene = list[tuple[tuple[float, float], ...]]
"""For each frame, the centre and size of the faces that it shows."""


def face_at(x: float, size: float) -> DetectedFace:
    points = (CLOUD * size + (x, 50, 0)).astype(np.float32)
    return DetectedFace(points=points, score=0.9, presence=1.0)


class SceneFinder:
    """Sees the faces of a scene; the frames carry their number in the first pixels."""

    source = "scene"

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.num_searches = 0

    def _faces(self, image: np.ndarray) -> list[DetectedFace]:
        return [face_at(*place) for place in self._scene[int(image[0, 0, 0])]]

    def search(self, image: np.ndarray, around: DetectedFace | None = None) -> FaceSearch:
        self.num_searches += around is None
        faces = self._faces(image)
        if around is not None:
            faces = [face for face in faces if abs(face.center_px[0] - around.center_px[0]) < around.side_px]
        best = sorted(faces, key=lambda face: -face.side_px)
        return FaceSearch(faces=tuple(best), best_rejected_score=0.0, min_score=0.5, image_size=(100, 400))

    def follow(self, image: np.ndarray, previous: DetectedFace) -> DetectedFace | None:
        faces = self._faces(image)
        near = [face for face in faces if abs(face.center_px[0] - previous.center_px[0]) < previous.side_px]
        return min(near, key=lambda face: abs(face.center_px[0] - previous.center_px[0]), default=None)

    def confirm(self, image: np.ndarray, face: DetectedFace) -> bool:
        return True


def frames_of(scene: Scene) -> Iterator[np.ndarray]:
    for number in range(len(scene)):
        frame = BLANK.copy()
        frame[0, 0, 0] = number
        yield frame


def centres(track: FaceTrack) -> list[int]:
    points = track.landmarks.points[..., 0]
    return [round(float(x)) for x in (points.min(1) + points.max(1)) / 2]


def test_face_is_followed_past_a_larger_one() -> None:
    scene: Scene = [((100 + 5 * t, 40), (300, 90)) for t in range(20)]
    track = track_face(frames_of(scene), 25.0, SceneFinder(scene), select="left")
    assert centres(track) == [100 + 5 * t for t in range(20)]


def test_face_missing_for_a_while_is_not_replaced_by_the_other_one() -> None:
    both, other = ((100.0, 40.0), (300.0, 40.0)), ((300.0, 40.0),)
    scene: Scene = [both] * 5 + [other] * 40 + [both] * 5
    track = track_face(frames_of(scene), 25.0, SceneFinder(scene), select="left")
    assert centres(track) == [100] * 50
    assert track.found.tolist() == [True] * 5 + [False] * 40 + [True] * 5
    assert track.num_missing == 40


def test_face_found_again_is_the_nearest() -> None:
    scene: Scene = [((200.0, 40.0),)] * 3 + [()] * 7 + [((180.0, 40.0), (300.0, 80.0))] * 3
    track = track_face(frames_of(scene), 25.0, SceneFinder(scene))
    assert centres(track) == [200] * 10 + [180] * 3


def test_face_elsewhere_after_a_cut_is_found_within_a_fifth_of_a_second() -> None:
    scene: Scene = [((60.0, 40.0),)] * 10 + [()] + [((300.0, 40.0),)] * 20
    track = track_face(frames_of(scene), 25.0, SceneFinder(scene))
    assert centres(track)[16:] == [300] * 15


def test_hold_repeats_the_last_face_and_before_it_the_first() -> None:
    scene: Scene = [()] * 2 + [((100.0, 40.0),)] + [((110.0, 40.0),)] + [()] * 3
    track = track_face(frames_of(scene), 5.0, SceneFinder(scene))
    assert centres(track) == [100, 100, 100, 110, 110, 110, 110]
    assert track.found.tolist() == [False, False, True, True, False, False, False]


def test_skip_leaves_frames_without_the_face_out() -> None:
    scene: Scene = [()] * 2 + [((100.0, 40.0),)] + [()] * 3 + [((110.0, 40.0),)]
    track = track_face(frames_of(scene), 5.0, SceneFinder(scene), on_missing="skip")
    assert centres(track) == [100, 110]
    assert track.num_missing == 5


def test_missing_face_as_an_error_names_the_time() -> None:
    scene: Scene = [((100.0, 40.0),)] * 10 + [()]
    with pytest.raises(FaceError, match=r"at 0\.40 s.*--on-missing"):
        track_face(frames_of(scene), 25.0, SceneFinder(scene), on_missing="error")


def test_video_without_any_face_is_an_error() -> None:
    scene: Scene = [()] * 30
    with pytest.raises(FaceError, match="No face in the driving video"):
        track_face(frames_of(scene), 25.0, SceneFinder(scene))


def test_whole_frames_are_searched_once_a_second_only() -> None:
    scene: Scene = [((100.0, 40.0),)] * 100
    finder = SceneFinder(scene)
    track_face(frames_of(scene), 25.0, finder)
    assert finder.num_searches == 4  # the first frame, then three checks


def test_frames_are_not_kept() -> None:
    living = 0
    most = 0

    class Frame(np.ndarray):
        def __del__(self) -> None:
            nonlocal living
            living -= 1

    def stream() -> Iterator[np.ndarray]:
        nonlocal living, most
        for _ in range(50):
            living += 1
            most = max(most, living)
            yield np.zeros((3, 100, 400), np.uint8).view(Frame)

    track_face(stream(), 25.0, SceneFinder([((100.0, 40.0),)]))
    assert most <= 2


@pytest.mark.parametrize(("fps", "on_missing"), [(0.0, "hold"), (float("nan"), "hold"), (25.0, "guess")])
def test_impossible_arguments_are_refused(fps: float, on_missing: str) -> None:
    with pytest.raises(InputError):
        track_face([BLANK], fps, SceneFinder([()]), on_missing=on_missing)  # type: ignore[arg-type]


def test_no_frames_are_refused() -> None:
    with pytest.raises(InputError, match="no frames"):
        track_face([], 25.0, SceneFinder([]))


def test_frames_of_changing_size_are_refused() -> None:
    with pytest.raises(ShapeError, match="Frame 1 is 100x300"):
        track_face([BLANK, BLANK[:, :, :300]], 25.0, SceneFinder([((100.0, 40.0),)]))


def track_of(points: np.ndarray, fps: float, matrices: np.ndarray | None = None) -> FaceTrack:
    return FaceTrack(
        landmarks=FaceLandmarks(points=points.astype(np.float32)),
        fps=fps,
        size_px=(100, 400),
        found=np.ones(len(points), bool),
        matrices=matrices,
        source="test",
    )


@pytest.mark.parametrize(("fps", "other"), [(24.0, 25.0), (30.0, 25.0), (25.0, 50.0), (29.97, 25.0), (25.0, 1.0)])
def test_steady_motion_keeps_its_speed_and_length_at_another_rate(fps: float, other: float) -> None:
    points = np.arange(250)[:, None, None] / fps + CLOUD
    track = resample_track(track_of(points, fps), other)
    assert abs(track.duration_seconds - 250 / fps) <= 0.5 / other
    seconds = np.minimum(np.arange(len(track)) / other, 249 / fps)
    np.testing.assert_allclose(track.landmarks.points[:, 0, 0], seconds + CLOUD[0, 0], atol=1e-5)


def test_head_turns_between_frames_stay_rotations() -> None:
    matrices = np.tile(np.eye(4), (3, 1, 1))
    matrices[:, :3, :3] = Rotation.from_euler("y", [[0], [40], [80]], degrees=True).as_matrix() * 1.02
    matrices[:, :3, 3] = ((0, 0, -50), (0, 0, -40), (0, 0, -30))
    moved = resample_track(track_of(np.zeros((3, NUM_LANDMARKS, 3)), 10.0, matrices.astype(np.float32)), 20.0)
    assert moved.matrices is not None
    linear = moved.matrices[1, :3, :3].astype(np.float64) / 1.02
    np.testing.assert_allclose(linear, Rotation.from_euler("y", 20, degrees=True).as_matrix(), atol=1e-5)
    np.testing.assert_allclose(moved.matrices[1, :3, 3], (0, 0, -45), atol=1e-4)


@pytest.fixture(scope="module")
def mesh() -> Iterator[FaceMesh]:
    with FaceMesh() as mesh:
        yield mesh


@needs_media
def test_followed_points_are_those_of_a_full_search(mesh: FaceMesh) -> None:
    assert MEDIA is not None
    frames = [frame.image for frame in iter_video(MEDIA / "talking" / "liveportrait_d20.mp4", duration_seconds=1.0)]
    track = track_face(frames, 25.0, mesh)
    assert track.found.all()
    searched = np.stack([mesh.search(frame).faces[0].points for frame in frames[::5]])
    followed = track.landmarks.points[::5]
    width = np.ptp(searched[..., 0], axis=1).mean()
    # Measured 0.3 % of the face's width; the crops differ, and the mesh is that exact.
    assert np.linalg.norm((followed - searched)[..., :2], axis=-1).mean() < 0.01 * width


@needs_media
def test_real_face_is_found_again_after_a_black_gap_beside_another_person(mesh: FaceMesh) -> None:
    assert MEDIA is not None
    left, right = (
        resize_image(load_image(MEDIA / "portraits" / name), 300, 300) for name in ("hallo_2.jpg", "echomimic_a.jpg")
    )
    both = np.concatenate([left, right], axis=2)
    only_right = np.concatenate([np.zeros_like(left), right], axis=2)
    track = track_face([both] * 3 + [only_right] * 4 + [both] * 2, 10.0, mesh, select="left")
    assert track.found.tolist() == [True] * 3 + [False] * 4 + [True] * 2
    assert track.landmarks.points[..., 0].max() < 300
