"""The models of face_landmarker.task, against MediaPipe's own task."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from portraitanim.errors import DamagedWeightsError, MissingWeightsError
from portraitanim.face.landmarker_task import BLENDSHAPE_NAMES, TASK_FILE, LandmarkerTask
from portraitanim.face.landmarks import FaceMesh
from portraitanim.face.metric_geometry import metric_geometry
from portraitanim.face.tracking import track_face
from portraitanim.media.image import load_image
from portraitanim.media.video import iter_video
from portraitanim.types import FaceLandmarks

SHARED = next((p / "shared" for p in Path(__file__).resolve().parents if (p / "shared" / "weights").is_dir()), None)
TASK = SHARED / "weights" / TASK_FILE if SHARED else Path(TASK_FILE)
needs_task = pytest.mark.skipif(not TASK.is_file(), reason="shared/weights is not beside this clone")
PORTRAITS = ["hallo_2.jpg", "echomimic2_0140.jpg", "liveportrait_s0.jpg", "sadtalker_art_14.jpg", "echomimic_c.jpg"]


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceMesh]:
    with FaceMesh(model=LandmarkerTask(TASK)) as finder:
        yield finder


@pytest.fixture(scope="module")
def published() -> Any:
    """MediaPipe's own task on the same file."""
    from mediapipe.tasks.python import BaseOptions
    from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions

    options = FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(TASK)),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    with FaceLandmarker.create_from_options(options) as task:
        yield task


def portrait(name: str) -> np.ndarray:
    assert SHARED is not None
    return load_image(SHARED / "media" / "portraits" / name)


def detect(published: Any, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in pixels, pose and scores as MediaPipe's task gives them."""
    import mediapipe

    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    result = published.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels))
    size = (image.shape[2], image.shape[1], image.shape[2])
    points = np.array([(mark.x, mark.y, mark.z) for mark in result.face_landmarks[0]]) * size
    assert tuple(score.category_name for score in result.face_blendshapes[0]) == BLENDSHAPE_NAMES
    scores = np.array([score.score for score in result.face_blendshapes[0]])
    return points.astype(np.float32), result.facial_transformation_matrixes[0], scores


@needs_task
@pytest.mark.parametrize("name", PORTRAITS)
def test_head_pose_from_points_is_that_of_the_task(published: Any, name: str) -> None:
    image = portrait(name)
    points, pose, _ = detect(published, image)
    ours = metric_geometry(FaceLandmarks(points=points[None]), (image.shape[1], image.shape[2])).head_pose[0]
    # Centimetres, at a distance of half a metre, in float32.
    np.testing.assert_allclose(ours, pose, atol=2e-3)


@needs_task
@pytest.mark.parametrize("name", PORTRAITS)
def test_points_pose_and_scores_agree_with_the_task(finder: FaceMesh, published: Any, name: str) -> None:
    image = portrait(name)
    face = finder.search(image).require()[0]
    points, pose, scores = detect(published, image)
    # The crops differ by a few percent; the model's points then differ by some tenths of a percent of the face.
    assert np.linalg.norm((face.points - points)[:, :2], axis=1).mean() < 0.01 * face.side_px
    ours = metric_geometry(FaceLandmarks(points=face.points[None]), (image.shape[1], image.shape[2])).head_pose[0]
    turn = Rotation.from_matrix(ours[:3, :3].astype(np.float64) @ pose[:3, :3].T).magnitude()
    assert np.rad2deg(turn) < 2.5
    assert face.blendshapes is not None
    assert np.abs(face.blendshapes - scores).mean() < 0.05


@needs_task
def test_track_has_scores_poses_and_the_models_name(finder: FaceMesh) -> None:
    assert SHARED is not None
    video = SHARED / "media" / "talking" / "liveportrait_d10.mp4"
    frames = (frame.image for frame in iter_video(video, 15, duration_seconds=3.0))
    track = track_face(frames, 15.0, finder)
    assert track.source == "mediapipe face landmarker"
    assert track.found.all()
    assert track.matrices is not None
    assert track.blendshapes is not None
    assert track.blendshapes.shape == (len(track), 52)
    # The mouth opens on the points when the score says that the jaw does.
    gap = np.linalg.norm(track.landmarks.points[:, 13, :2] - track.landmarks.points[:, 14, :2], axis=1)
    jaw = track.blendshapes[:, BLENDSHAPE_NAMES.index("jawOpen")]
    assert np.corrcoef(gap, jaw)[0, 1] > 0.7


@needs_task
def test_pulled_folder_is_enough(tmp_path: Path) -> None:
    folder = tmp_path / "face_analysis" / "models"
    folder.mkdir(parents=True)
    (folder / TASK_FILE).symlink_to(TASK)
    LandmarkerTask(tmp_path).close()


def test_absent_file_names_the_command(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / TASK_FILE):
        with pytest.raises(MissingWeightsError, match="weights pull face-landmarker"):
            LandmarkerTask(path)


def broken_task(folder: Path, kind: str) -> Path:
    path = folder / TASK_FILE
    if kind == "truncated":
        path.write_bytes(TASK.read_bytes()[:100_000])
    elif kind == "no archive":
        path.write_bytes(b"<html>not found</html>")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("face_landmarks_detector.tflite", b"no model")
            if kind == "no model":
                archive.writestr("face_blendshapes.tflite", b"no model")
    return path


@needs_task
@pytest.mark.parametrize("kind", ["truncated", "no archive", "without scores", "no model"])
def test_damaged_file_is_an_error_of_ours(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DamagedWeightsError, match="weights pull face-landmarker"):
        LandmarkerTask(broken_task(tmp_path, kind))


@needs_task
def test_nothing_is_printed_by_the_models() -> None:
    code = (
        "import sys, numpy as np\n"
        "from portraitanim.face.landmarks import FaceMesh\n"
        "from portraitanim.face.landmarker_task import LandmarkerTask\n"
        "with FaceMesh(model=LandmarkerTask(sys.argv[1])) as mesh:\n"
        "    mesh.search(np.zeros((3, 200, 200), np.uint8))\n"
    )
    command = [sys.executable, "-c", code, str(TASK)]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert done.stdout == ""
