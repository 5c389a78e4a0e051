"""Judge a portrait and a sound before any weights are loaded: is it worth the wait?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitanim.config.animation import AnimationOptions
from portraitanim.errors import FaceError, MediaError
from portraitanim.face.detection import select_face
from portraitanim.face.landmarks import MIN_SCORE, FaceMesh
from portraitanim.face.quality import check_portrait
from portraitanim.findings import CheckReport, Overall
from portraitanim.media.image import load_image
from portraitanim.media.sound_check import check_sound

_ORDER: tuple[Overall, ...] = ("yes", "yes with care", "no")


@dataclass(frozen=True, kw_only=True)
class InputCheck:
    """What was found.

    Attributes:
        picture: findings about the portrait.
        sound: findings about the sound, or ``None`` without one.
        face: which face was taken.
    """

    picture: CheckReport
    sound: CheckReport | None
    face: str

    @property
    def reports(self) -> tuple[CheckReport, ...]:
        """The reports that there are."""
        return (self.picture,) if self.sound is None else (self.picture, self.sound)

    @property
    def overall(self) -> Overall:
        """The worst verdict of all."""
        return max((report.overall for report in self.reports), key=_ORDER.index)

    @property
    def concerns(self) -> tuple[str, ...]:
        """What is doubtful or bad, as sentences."""
        return tuple(
            f"{report.subject}, {finding.name}: {finding.advice}"
            for report in self.reports
            for finding in report.concerns
        )

    def raise_if_hopeless(self) -> None:
        """Stop where nothing good can come of it.

        Raises:
            FaceError: the picture is unfit.
            MediaError: the sound is.
        """
        for report, kind in zip(self.reports, (FaceError, MediaError), strict=False):
            if report.overall == "no":
                worst = report.concerns[0]
                raise kind(f"The {report.subject} is not fit for this ({worst.name}): {worst.advice}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "overall": self.overall,
            "face": self.face,
            "picture": self.picture.to_dict(),
            "sound": None if self.sound is None else self.sound.to_dict(),
        }


def check_inputs(
    portrait: str | Path, audio: str | Path | None, options: AnimationOptions, *, output_px: int = 512
) -> InputCheck:
    """Look at picture and sound.

    Args:
        portrait: a picture.
        audio: a sound, or ``None``.
        options: which face, and which part of the sound.
        output_px: side of the square that the networks make.

    Raises:
        FaceError: no face, or not the one asked for.
        MediaError: a file that cannot be read.
    """
    picture = load_image(portrait)
    with FaceMesh(min_score=options.face_threshold or MIN_SCORE) as mesh:
        search = mesh.search(picture)
    face, sentence = select_face(search, options.face, source=Path(portrait).name)
    sound = None
    if audio is not None:
        sound = check_sound(audio, start_seconds=options.start_seconds, duration_seconds=options.duration_seconds)
    return InputCheck(
        picture=check_portrait(picture, search, face, output_px=options.size_px or output_px),
        sound=sound,
        face=sentence,
    )
