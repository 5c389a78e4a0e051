from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from portraitanim.errors import FaceError, InputError, ShapeError
from portraitanim.face.detection import DetectedFace, FaceSearch, select_face
from portraitanim.face.landmarks import FaceMesh
from portraitanim.media.image import load_image, resize_image
from portraitanim.types import NUM_LANDMARKS

MEDIA = next(
    (p / "shared" / "media" for p in Path(__file__).resolve().parents if (p / "shared" / "media").is_dir()), None
)
needs_media = pytest.mark.skipif(MEDIA is None, reason="shared/media is not beside this clone")
# What happens to pictures that are not photographs of people. A monkey's face is human enough to be animated.
HARD = {
    "cat.jpg": 0,
    "dog_detected.jpg": 0,
    "dog_not_detected.jpg": 0,
    "monkey.jpg": 1,
    "photo_of_photo.jpg": 1,
    "robot.jpg": 1,
    "statue.jpg": 1,
    "wide_llama.jpg": 0,
}


@pytest.fixture(scope="module")
def mesh() -> Iterator[FaceMesh]:
    with FaceMesh() as mesh:
        yield mesh


def portraits() -> list[str]:
    return sorted(path.name for path in (MEDIA / "portraits").glob("*.jpg")) if MEDIA else ["absent"]


def media(*parts: str) -> np.ndarray:
    assert MEDIA is not None
    return load_image(MEDIA.joinpath(*parts))


@needs_media
@pytest.mark.parametrize("name", portraits())
def test_one_face_in_every_portrait(mesh: FaceMesh, name: str) -> None:
    image = media("portraits", name)
    (face,) = mesh.search(image).require(name)
    assert face.points.shape == (NUM_LANDMARKS, 3)
    assert face.presence > 0.9
    x0, y0, x1, y1 = face.box
    # Eyes above the mouth, the subject's left eye on the right of the picture, all inside the face's box.
    right_eye, left_eye, mouth = face.points[468], face.points[473], face.points[13]
    assert x0 < right_eye[0] < left_eye[0] < x1
    assert y0 < min(right_eye[1], left_eye[1]) < mouth[1] < y1


@needs_media
@pytest.mark.parametrize(("name", "num_faces"), HARD.items())
def test_pictures_without_a_person(mesh: FaceMesh, name: str, num_faces: int) -> None:
    search = mesh.search(media("portraits_hard", name))
    assert len(search.faces) == num_faces
    if not num_faces:
        with pytest.raises(FaceError, match=rf"No face in {name} \(.*need 0\.50\)\. Try a frontal picture"):
            search.require(name)


@needs_media
def test_face_of_a_twentieth_of_a_large_picture_is_found(mesh: FaceMesh) -> None:
    small = resize_image(media("portraits", "hallo_2.jpg"), 220, 220)
    scene = np.full((3, 1200, 1800), 90, np.uint8)
    scene[:, 700:920, 1300:1520] = small
    (face,) = mesh.search(scene).require("scene.png")
    x, y = face.center_px
    assert 1300 < x < 1520
    assert 700 < y < 920
    assert face.side_px < 100


@needs_media
def test_several_faces_are_told_apart_and_chosen(mesh: FaceMesh) -> None:
    left, right = (resize_image(media("portraits", name), 400, 400) for name in ("hallo_2.jpg", "echomimic_a.jpg"))
    search = mesh.search(np.concatenate([left, right], axis=2))
    assert len(search.faces) == 2
    largest, sentence = select_face(search, "largest", source="group.png")
    assert largest.center_px[0] > 400
    assert sentence.startswith("Took face 2 of 2 in group.png")
    assert select_face(search, "left")[0].center_px[0] < 400
    assert select_face(search, 1)[0].center_px[0] < 400
    assert select_face(search, "600,200")[0].center_px[0] > 400


@needs_media
def test_same_picture_gives_the_same_points(mesh: FaceMesh) -> None:
    image, other = media("portraits", "hallo_2.jpg"), media("portraits", "echomimic_a.jpg")
    first = mesh.search(image).faces[0].points
    mesh.search(other)
    assert np.array_equal(first, mesh.search(image).faces[0].points)


def test_picture_of_nothing_is_a_clear_error(mesh: FaceMesh) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 300, 400), np.uint8)
    with pytest.raises(FaceError, match=r"No face in noise\.png"):
        mesh.search(noise).require("noise.png")


def test_picture_of_another_shape_is_refused(mesh: FaceMesh) -> None:
    with pytest.raises(ShapeError, match="height, width"):
        mesh.search(np.zeros((300, 400, 3), np.uint8))


def search_of(*centres: tuple[float, float]) -> FaceSearch:
    """Faces of 100 pixels at given places of a 1000×500 picture."""
    square = np.random.default_rng(0).uniform(-50, 50, (NUM_LANDMARKS, 3)).astype(np.float32)
    square[:2] = ((-50, -50, 0), (50, 50, 0))
    faces = tuple(
        DetectedFace(points=square + np.array([x, y, 0], np.float32), score=0.9, presence=1.0) for x, y in centres
    )
    return FaceSearch(faces=faces, best_rejected_score=0.0, min_score=0.5, image_size=(500, 1000))


@pytest.mark.parametrize(
    ("spec", "x"), [("left", 100), ("right", 900), ("center", 480), ("2", 480), (3, 900), ("850,240", 900)]
)
def test_faces_are_chosen_by_place(spec: str | int, x: float) -> None:
    face, _ = select_face(search_of((900, 250), (100, 250), (480, 250)), spec)
    assert face.center_px[0] == pytest.approx(x, abs=1)


def test_only_face_is_taken_without_a_word_about_others() -> None:
    assert select_face(search_of((500, 250)))[1] == "Found one face in the picture."


def test_number_beyond_the_faces_lists_them() -> None:
    with pytest.raises(FaceError, match=r"--face 3 was asked for, but the picture has 2 faces \(1: 100,250"):
        select_face(search_of((100, 250), (900, 250)), 3)


@pytest.mark.parametrize("spec", ["", "0", "biggest", "1,2,3", "5000,10"])
def test_impossible_choice_is_an_input_error(spec: str) -> None:
    with pytest.raises(InputError):
        select_face(search_of((100, 250), (900, 250)), spec)


def test_point_far_from_any_face_is_refused() -> None:
    with pytest.raises(FaceError, match="No face near"):
        select_face(search_of((100, 250)), "900,250")
