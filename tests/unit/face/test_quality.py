from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from portraitanim.errors import FaceError, InputError
from portraitanim.face.detection import DetectedFace, FaceSearch, select_face
from portraitanim.face.face_measures import head_angles
from portraitanim.face.landmark_groups import LEFT_EYE, LIPS_OUTLINE, RIGHT_EYE
from portraitanim.face.landmarks import FaceMesh
from portraitanim.face.quality import check_portrait
from portraitanim.findings import CheckReport
from portraitanim.media.image import load_image

MEDIA = next(
    (p / "shared" / "media" for p in Path(__file__).resolve().parents if (p / "shared" / "media").is_dir()), None
)
pytestmark = pytest.mark.skipif(MEDIA is None, reason="shared/media is not beside this clone")

# Portraits that are fine but for what is named: small pictures of a face, for a network of 512 pixels.
WITH_CARE = {
    "liveportrait_s0.jpg": {"face size"},
    "liveportrait_s3.jpg": {"face size"},
    "liveportrait_s4.jpg": {"face size"},
    "liveportrait_s5.jpg": {"face size"},
    "liveportrait_s9.jpg": {"face size"},
    "sadtalker_happy1.jpg": {"face size"},
}

# What a person is told of each hard picture: a refusal, or a verdict with its concerns. Nothing can be measured
# that tells a photograph of a photograph from a portrait, and it can be animated as one.
NO_FACE = "No face in {}"
HARD = {
    "cat.jpg": NO_FACE,
    "dog_detected.jpg": NO_FACE,
    "dog_not_detected.jpg": NO_FACE,
    "wide_llama.jpg": NO_FACE,
    "monkey.jpg": ("yes with care", {"face score": "may not be a human face", "face size": "larger picture"}),
    "photo_of_photo.jpg": ("yes", {}),
    "robot.jpg": ("yes with care", {"black pixels": "lost their detail"}),
    "statue.jpg": ("yes with care", {"eyes open": "An eye is closed"}),
}

Damage = Callable[[np.ndarray, DetectedFace], np.ndarray]


@pytest.fixture(scope="module")
def mesh() -> Iterator[FaceMesh]:
    with FaceMesh() as mesh:
        yield mesh


def picture(*parts: str) -> np.ndarray:
    assert MEDIA is not None
    return load_image(MEDIA.joinpath(*parts))


def looked_at(mesh: FaceMesh, image: np.ndarray, **options: int) -> CheckReport:
    search = mesh.search(image)
    face, _ = select_face(search)
    return check_portrait(image, search, face, **options)


def concerns(report: CheckReport) -> set[str]:
    return {finding.name for finding in report.concerns}


def test_no_portrait_is_refused_and_small_ones_are_named(mesh: FaceMesh) -> None:
    assert MEDIA is not None
    names = sorted(path.name for path in (MEDIA / "portraits").iterdir())
    reports = {name: looked_at(mesh, picture("portraits", name)) for name in names}
    assert {name: concerns(report) for name, report in reports.items() if report.overall != "yes"} == WITH_CARE
    assert {report.overall for report in reports.values()} == {"yes", "yes with care"}
    assert len(reports) == 32


@pytest.mark.parametrize("name", HARD)
def test_hard_picture_is_refused_or_handled_with_the_message_a_person_needs(mesh: FaceMesh, name: str) -> None:
    outcome = HARD[name]
    if isinstance(outcome, str):
        with pytest.raises(FaceError, match=outcome.format(name)):
            mesh.search(picture("portraits_hard", name)).require(name)
        return
    overall, advice = outcome
    report = looked_at(mesh, picture("portraits_hard", name))
    assert (report.overall, concerns(report)) == (overall, set(advice))
    for finding, words in advice.items():
        assert words in report[finding].advice


@pytest.fixture(scope="module")
def good(mesh: FaceMesh) -> tuple[np.ndarray, FaceSearch, DetectedFace]:
    """A portrait in which nothing is wrong."""
    image = picture("portraits", "echomimic_c.jpg")
    search = mesh.search(image)
    return image, search, search.faces[0]


def drawn(image: np.ndarray, draw: Callable[[np.ndarray], object]) -> np.ndarray:
    canvas = np.ascontiguousarray(image.transpose(1, 2, 0))
    draw(canvas)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1))


def blurred(image: np.ndarray, sigma_px: float) -> np.ndarray:
    return np.ascontiguousarray(cv2.GaussianBlur(image.transpose(1, 2, 0), (0, 0), sigma_px).transpose(2, 0, 1))


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape[1:]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1.0)
    pixels = cv2.warpAffine(image.transpose(1, 2, 0), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def shrunk(image: np.ndarray, face: DetectedFace, face_px: float) -> np.ndarray:
    factor = face_px / face.side_px
    pixels = cv2.resize(image.transpose(1, 2, 0), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def sunglasses(image: np.ndarray, face: DetectedFace) -> np.ndarray:
    def draw(canvas: np.ndarray) -> None:
        for eye in (LEFT_EYE, RIGHT_EYE):
            center = face.points[list(eye), :2].mean(0)
            cv2.circle(canvas, center.astype(int).tolist(), int(face.side_px / 7), (18, 18, 22), -1)

    return drawn(image, draw)


def covered_mouth(colour: tuple[int, int, int] | None) -> Damage:
    """Something flat over the mouth and what is around it: ``None`` has the colour of the cheek."""

    def cover(image: np.ndarray, face: DetectedFace) -> np.ndarray:
        mouth = face.points[list(LIPS_OUTLINE), :2].mean(0)
        cheek = face.points[50, :2].astype(int)
        paint = image[:, cheek[1], cheek[0]].tolist() if colour is None else colour
        axes = (int(face.side_px * 0.45), int(face.side_px * 0.3))
        return drawn(image, lambda canvas: cv2.ellipse(canvas, mouth.astype(int).tolist(), axes, 0, 0, 360, paint, -1))

    return cover


def cut_right(image: np.ndarray, face: DetectedFace) -> np.ndarray:
    return np.ascontiguousarray(image[:, :, : int(face.center_px[0] + 0.3 * face.side_px)])


DAMAGES: dict[str, tuple[Damage, str, set[str]]] = {
    "a little blurred": (lambda image, face: blurred(image, face.side_px / 65), "yes with care", {"sharpness"}),
    "blurred": (lambda image, face: blurred(image, face.side_px / 40), "no", {"sharpness"}),
    "dark": (lambda image, face: (image * 0.25).astype(np.uint8), "yes with care", {"brightness"}),
    "leaning": (lambda image, face: turned(image, 40), "yes with care", {"roll"}),
    "small": (lambda image, face: shrunk(image, face, 90), "yes with care", {"face size"}),
    "cut": (cut_right, "yes with care", {"face outside", "room around"}),
    "sunglasses": (sunglasses, "yes with care", {"eyes visible", "eyes lit"}),
    "blue mask": (covered_mouth((150, 190, 210)), "yes with care", {"mouth visible", "face colour"}),
    "hand": (covered_mouth(None), "yes with care", {"mouth visible"}),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(mesh: FaceMesh, good: tuple[np.ndarray, FaceSearch, DetectedFace], name: str) -> None:
    damage, overall, expected = DAMAGES[name]
    image, _, face = good
    report = looked_at(mesh, damage(image, face))
    assert expected <= concerns(report)
    assert report.overall == overall
    # The face score may fall with any damage.
    assert concerns(report) - expected <= {"face score", "contrast"}


def test_tiny_face_is_refused_for_a_large_network_only(
    mesh: FaceMesh, good: tuple[np.ndarray, FaceSearch, DetectedFace]
) -> None:
    image, _, face = good
    small = shrunk(image, face, 45)
    assert looked_at(mesh, small)["face size"].verdict == "bad"
    assert looked_at(mesh, small, output_px=128)["face size"].verdict == "ok"


def test_several_faces_are_mentioned(mesh: FaceMesh, good: tuple[np.ndarray, FaceSearch, DetectedFace]) -> None:
    image = good[0]
    report = looked_at(mesh, np.concatenate([image, image], axis=2))
    assert report["faces"].value == 2
    assert "--face" in report["faces"].advice


def test_open_mouth_and_closed_eyes_are_named(good: tuple[np.ndarray, FaceSearch, DetectedFace]) -> None:
    image, search, face = good
    points = face.points.copy()
    points[14, 1] += 0.1 * face.side_px
    for upper, lower in ((159, 145), (158, 153), (160, 144)):
        points[lower] = points[upper]
    report = check_portrait(image, search, replace(face, points=points))
    assert {"mouth open", "eyes open"} <= concerns(report)
    assert report["eyes visible"].verdict == "not measured"


def test_report_is_json_with_unique_names(good: tuple[np.ndarray, FaceSearch, DetectedFace]) -> None:
    report = check_portrait(*good)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["overall"] == "yes"
    names = [finding["name"] for finding in data["findings"]]
    assert len(set(names)) == len(names) == 20


def test_output_without_size_is_refused(good: tuple[np.ndarray, FaceSearch, DetectedFace]) -> None:
    with pytest.raises(InputError, match="at least 1 pixel"):
        check_portrait(*good, output_px=0)


@pytest.mark.parametrize(
    ("axis", "name", "sign"),
    # Turning right by the rotation that moves the nose (towards the camera, negative z) to positive x; and so on.
    [((0, 1, 0), "yaw", -1), ((1, 0, 0), "pitch", -1), ((0, 0, 1), "roll", 1)],
)
@pytest.mark.parametrize("degrees", [-25.0, 10.0, 25.0])
def test_angles_follow_a_turn_of_the_head(
    good: tuple[np.ndarray, FaceSearch, DetectedFace],
    axis: tuple[int, int, int],
    name: str,
    sign: int,
    degrees: float,
) -> None:
    points = good[2].points.astype(np.float64)
    rotation, _ = cv2.Rodrigues(np.array(axis, np.float64) * np.radians(degrees) * sign)
    center = points.mean(0)
    before, after = head_angles(points), head_angles((points - center) @ rotation.T + center)
    assert getattr(after, name) - getattr(before, name) == pytest.approx(degrees, abs=1.0)
    for other in {"yaw", "pitch", "roll"} - {name}:
        assert getattr(after, other) == pytest.approx(getattr(before, other), abs=4.0)


def test_head_that_looks_right_and_up_has_positive_angles() -> None:
    points = np.zeros((478, 3))
    # Subject's right is the left of the picture; the chin is below the forehead.
    points[[33, 133, 234, 127, 162, 21, 54, 103, 67, 109, 61], 0] = -1
    points[[263, 362, 454, 356, 389, 251, 284, 332, 297, 338, 291], 0] = 1
    points[10, 1], points[152, 1] = -1, 1
    points[points[:, 0] < 0, 2] = -0.5  # the left side of the picture is nearer: the face looks to the right
    points[10, 2] = 0.3  # the forehead is further than the chin: it looks up
    angles = head_angles(points)
    assert angles.yaw > 10
    assert angles.pitch > 10
