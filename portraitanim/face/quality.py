"""Whether a portrait is fit to be animated, judged before any network of the animation is loaded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from portraitanim.errors import InputError
from portraitanim.face.alignment import FACE_SHARE
from portraitanim.face.detection import DetectedFace, FaceSearch
from portraitanim.face.face_measures import FaceLook, eye_openness, face_look, head_angles, mouth_openness
from portraitanim.findings import CheckReport, Finding, judge

_CLOSED_EYE = 0.15
_COVERED_NOTE = "an estimate from colour and detail, which a skin-coloured hand can pass"


def check_portrait(image: np.ndarray, search: FaceSearch, face: DetectedFace, *, output_px: int = 512) -> CheckReport:
    """Judge a portrait.

    The limits were set on the 32 portraits and 8 hard pictures that this project is tried on, on 141 frames of people
    who talk, and on copies of the portraits that were blurred, darkened, turned, cut and covered. No face among them
    is turned by more than 25 degrees: the limits of yaw and pitch follow Hallo's advice, "below 30 degrees".

    Args:
        image: uint8 RGB ``(3, height, width)``.
        search: the outcome of the search in this picture.
        face: the chosen one of its faces.
        output_px: side of the square that the network makes.

    Returns:
        ``faces``, ``face score``, ``face size``, ``face share``, ``face outside``, ``room around``, ``yaw``,
        ``pitch``, ``roll``, ``mouth open``, ``eyes open``, ``sharpness``, ``brightness``, ``contrast``,
        ``black pixels``, ``white pixels``, ``mouth visible``, ``eyes visible``, ``eyes lit``, ``face colour``.

    Raises:
        InputError: the output size is below 1.
    """
    if output_px < 1:
        raise InputError(f"The output size must be at least 1 pixel, got {output_px}.")
    return CheckReport(
        subject="picture",
        findings=(
            *_place_findings(image, search, face, output_px),
            *_shape_findings(face.points),
            *_look_findings(image, face.points),
        ),
    )


def _place_findings(image: np.ndarray, search: FaceSearch, face: DetectedFace, output_px: int) -> Iterator[Finding]:
    height, width = image.shape[1:]
    yield judge(
        "faces",
        len(search.faces),
        warn_above=1,
        advice="There are several faces; say which one with --face, or cut the picture.",
    )
    yield judge(
        "face score",
        face.score,
        warn_below=0.78,
        advice="This may not be a human face, or much of it is hidden; expect oddities.",
    )
    needed = FACE_SHARE * output_px
    yield judge(
        "face size",
        face.side_px,
        "px",
        warn_below=needed / 2,
        bad_below=needed / 6,
        advice=f"The network wants a face of about {needed:.0f} px; use a larger picture, or a smaller --size.",
    )
    yield Finding(name="face share", value=face.side_px / min(height, width), unit="", verdict="ok")
    inside = np.all((face.points[:, :2] >= 0) & (face.points[:, :2] <= (width, height)), axis=1)
    yield judge(
        "face outside",
        1.0 - float(inside.mean()),
        warn_above=0.01,
        bad_above=0.2,
        advice="The border of the picture cuts the face; use a picture that shows all of it.",
    )
    yield judge(
        "room around",
        1.0 - _share_outside(face, height, width),
        warn_below=0.7,
        advice="There is little room around the face, and what lies outside is made up; use a wider picture.",
    )


def _share_outside(face: DetectedFace, height: int, width: int) -> float:
    """Share of the square that will be cut out around the face that lies outside the picture."""
    side = face.side_px / FACE_SHARE
    covered = 1.0
    for center, limit in zip(face.center_px, (width, height), strict=True):
        start, end = center - side / 2, center + side / 2
        covered *= max(0.0, min(end, limit) - max(start, 0.0)) / side
    return 1.0 - covered


def _shape_findings(points: np.ndarray) -> Iterator[Finding]:
    angles = head_angles(points)
    for name, degrees, limits, advice in (
        ("yaw", angles.yaw, (30.0, 55.0), "The head is turned to the side; use a picture that looks to the camera."),
        ("pitch", angles.pitch, (25.0, 50.0), "The head is tilted up or down; use a picture taken at eye level."),
        ("roll", angles.roll, (30.0, 70.0), "The head leans to the side; turn the picture until the eyes are level."),
    ):
        yield judge(
            name,
            degrees,
            "degrees",
            warn_below=-limits[0],
            bad_below=-limits[1],
            warn_above=limits[0],
            bad_above=limits[1],
            advice=advice,
        )
    yield judge(
        "mouth open",
        mouth_openness(points),
        warn_above=0.25,
        advice="The mouth is open, and may never close in the video; use a picture with closed lips.",
    )
    yield judge(
        "eyes open",
        eye_openness(points),
        warn_below=_CLOSED_EYE,
        advice="An eye is closed, and may never open in the video; use a picture with open eyes.",
    )


def _look_findings(image: np.ndarray, points: np.ndarray) -> Iterator[Finding]:
    look = face_look(image, points)
    blurred = "The face is blurred; use a sharper picture."
    yield judge("sharpness", look.sharpness, warn_below=0.19, bad_below=0.11, advice=blurred)
    yield judge(
        "brightness",
        look.brightness,
        "L*",
        warn_below=28.0,
        bad_below=8.0,
        warn_above=90.0,
        bad_above=98.0,
        advice="The face is far too dark or too bright; use a picture with more even light.",
    )
    yield judge(
        "contrast", look.contrast, "L*", warn_below=5.0, bad_below=2.0, advice="The face has hardly any contrast."
    )
    for name, share in (("black pixels", look.dark_share), ("white pixels", look.blown_share)):
        yield judge(
            name,
            share,
            warn_above=0.05,
            advice="Parts of the face have lost their detail to light or shadow; use a picture with softer light.",
        )
    yield judge(
        "mouth visible",
        look.mouth_detail,
        warn_below=0.07,
        advice=f"The mouth seems to be covered ({_COVERED_NOTE}); use a picture that shows it.",
    )
    yield from _eye_findings(look, eye_openness(points))
    yield judge(
        "face colour",
        look.lower_colour,
        "Lab",
        warn_above=22.0,
        advice="The lower face has another colour than the forehead (mask, scarf, hair or coloured light?).",
    )


def _eye_findings(look: FaceLook, openness: float) -> Iterator[Finding]:
    names = ("eyes visible", "eyes lit")
    if openness < _CLOSED_EYE:
        for name in names:
            yield Finding(name=name, value=None, unit="", verdict="not measured", advice="An eye is closed.")
        return
    yield judge(
        names[0],
        look.eye_detail,
        warn_below=0.06,
        advice=f"An eye seems to be covered ({_COVERED_NOTE}); use a picture that shows both.",
    )
    yield judge(
        names[1],
        look.eye_light,
        warn_below=0.25,
        advice="The eyes are very dark, as behind sunglasses; use a picture that shows them.",
    )
