"""What there is to prepare: stretches of videos on disk, from a folder or from a list that others published."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from portraitanim.errors import InputError
from portraitanim.face.regions import PixelBox

VIDEO_SUFFIXES = frozenset(
    (
        *(".3g2", ".3gp", ".asf", ".avi", ".dv", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".mxf", ".nut", ".ogv", ".rm", ".ts", ".vob", ".webm", ".wmv"),
    )
)
"""Names that are taken for videos in a folder; a file that is named itself may have any."""

_BRACKETED_ID = re.compile(r"\[([\w-]{11})\]$")
_TRAILING_ID = re.compile(r"-([\w-]{11})$")


@dataclass(frozen=True, kw_only=True)
class AnnotatedBox:
    """The part of the picture that an annotation is about.

    Attributes:
        left: x of the left edge; likewise the others.
        top: see left.
        right: see left.
        bottom: see left.
        unit: fractions of the picture's width and height, or pixels.
        reference_height_px: height of the picture that pixels refer to; ``None`` for the video's own.
        margin: growth on each side, as a fraction of the picture; the result stays inside the picture.
        is_squared: take the square in the middle whose side is the shorter one, rounded down to even.
    """

    left: float
    top: float
    right: float
    bottom: float
    unit: Literal["fraction", "pixels"]
    reference_height_px: int | None = None
    margin: float = 0.0
    is_squared: bool = False

    def in_picture(self, height: int, width: int) -> PixelBox:
        """The box in pixels of a picture.

        Raises:
            InputError: it does not lie inside the picture, as when the annotation is of another resolution.
        """
        across, down = (width, height) if self.unit == "fraction" else (1.0, 1.0)
        if self.unit == "pixels" and self.reference_height_px:
            across = down = height / self.reference_height_px
        left, right = self.left * across - self.margin * width, self.right * across + self.margin * width
        top, bottom = self.top * down - self.margin * height, self.bottom * down + self.margin * height
        # Two pixels of slack: published boxes end at rounded sizes.
        if right <= left or bottom <= top or right > width * (1 + self.margin) + 2 or left < -self.margin * width - 2:
            raise InputError(self._misfit(height, width))
        if bottom > height * (1 + self.margin) + 2 or top < -self.margin * height - 2:
            raise InputError(self._misfit(height, width))
        box = PixelBox(
            top=max(0, round(top)),
            bottom=min(height, round(bottom)),
            left=max(0, round(left)),
            right=min(width, round(right)),
        )
        if box.bottom - box.top < 2 or box.right - box.left < 2:
            raise InputError(self._misfit(height, width))
        return _square(box) if self.is_squared else box

    def _misfit(self, height: int, width: int) -> str:
        return (
            f"The annotated box ({self.left:g}, {self.top:g})-({self.right:g}, {self.bottom:g}) in {self.unit} does "
            f"not lie inside a picture of {width}x{height}. Download the video at the resolution that was annotated."
        )


@dataclass(frozen=True, kw_only=True)
class SourceClip:
    """A stretch of a video, before it is cut into scenes.

    Attributes:
        name: unique, fit for a file name, the same on every machine; clips cut from it are called ``NAME-0000``.
        dataset: where it is listed: ``folder``, ``hdtf/RD``, ``celebv-hq`` ...
        identity: name of the person, as far as the list tells; else the video's.
        video: the file, or ``None`` where it is not on disk.
        path: the file's name relative to the folder that was searched, for the records.
        start_seconds: where it begins in the video.
        end_seconds: where it ends; ``None`` at the end of the video.
        box: the part of the picture that is meant; ``None`` for all of it.
        face_zoom: side of the crop in sides of the face, where the annotation gives it in the place of a box.
    """

    name: str
    dataset: str
    identity: str
    video: Path | None
    path: str
    start_seconds: float = 0.0
    end_seconds: float | None = None
    box: AnnotatedBox | None = None
    face_zoom: float | None = None

    def __post_init__(self) -> None:
        if self.end_seconds is not None and self.end_seconds <= self.start_seconds:
            raise InputError(
                f"{self.name} ends at {self.end_seconds:g} s, before it begins at {self.start_seconds:g} s. "
                "Correct the annotation."
            )


@dataclass(frozen=True, kw_only=True)
class VideoIndex:
    """The videos below some folders, found by name.

    Attributes:
        videos: path relative to its root, and the file; sorted by the former.
    """

    videos: tuple[tuple[str, Path], ...]
    _by_name: dict[str, tuple[str, Path]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, roots: Sequence[Path], exclude: Path | None = None) -> VideoIndex:
        """Look through folders and files.

        Args:
            roots: folders, searched with all below them, or single files.
            exclude: a folder not to look into: the dataset that is written may lie inside a root.

        Raises:
            InputError: a root does not exist.
        """
        found: list[tuple[str, Path]] = []
        for root in roots:
            if not root.exists():
                raise InputError(f"{root} does not exist. Name folders with videos, or video files.")
            found += [(root.name, root)] if root.is_file() else _videos_below(root, exclude)
        videos = tuple(sorted(dict.fromkeys(found)))
        names: dict[str, tuple[str, Path]] = {}
        # Exact names win over ids found inside names.
        for pattern in (None, _BRACKETED_ID, _TRAILING_ID):
            for entry in videos:
                stem = Path(entry[0]).stem
                match = pattern.search(stem) if pattern else None
                if pattern is None or match:
                    names.setdefault(match.group(1) if match else stem, entry)
        return cls(videos=videos, _by_name=names)

    def find(self, *names: str) -> tuple[str, Path] | None:
        """The video with the first of these names that there is: file name without suffix, or YouTube id."""
        return next((self._by_name[name] for name in names if name in self._by_name), None)


def folder_clips(index: VideoIndex) -> list[SourceClip]:
    """Every video as a whole; each is taken for one person.

    Raises:
        InputError: there is no video.
    """
    if not index.videos:
        raise InputError(
            f"No videos found. Expected files that end in {', '.join(sorted(VIDEO_SUFFIXES))}, or name the files."
        )
    clips = [
        SourceClip(name=file_name(path), dataset="folder", identity=path, video=video, path=path)
        for path, video in index.videos
    ]
    return with_unique_names(clips)


def with_unique_names(clips: Iterable[SourceClip]) -> list[SourceClip]:
    """Tell apart what has the same name, in a way that does not depend on the machine."""
    clips = list(clips)
    taken: dict[str, int] = {}
    for clip in clips:
        taken[clip.name.lower()] = taken.get(clip.name.lower(), 0) + 1
    result: dict[str, SourceClip] = {}
    for clip in clips:
        name = clip.name
        if taken[name.lower()] > 1:
            name = f"{name}-{hashlib.sha256(clip.path.encode()).hexdigest()[:8]}"
        number, unique = 1, name
        while unique.lower() in result:  # the same path below two roots
            number += 1
            unique = f"{name}-{number}"
        result[unique.lower()] = replace(clip, name=unique)
    return list(result.values())


def file_name(text: str) -> str:
    """A text as a name that every file system takes, without the suffix of a video."""
    stem, dot, suffix = text.rpartition(".")
    text = stem if dot and f".{suffix.lower()}" in VIDEO_SUFFIXES else text
    name = re.sub(r"[^\w-]+", "_", text, flags=re.ASCII).strip("_")
    return name[-100:] or hashlib.sha256(text.encode()).hexdigest()[:12]


def _videos_below(root: Path, exclude: Path | None) -> list[tuple[str, Path]]:
    found = []
    excluded = exclude.resolve() if exclude is not None else None
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.suffix.lower() not in VIDEO_SUFFIXES or any(part.startswith(".") for part in relative.parts):
            continue
        if path.is_file() and not (excluded is not None and path.resolve().is_relative_to(excluded)):
            found.append((relative.as_posix(), path))
    return found


def _square(box: PixelBox) -> PixelBox:
    half = min(box.bottom - box.top, box.right - box.left) // 2
    row, column = (box.top + box.bottom) // 2, (box.left + box.right) // 2
    return PixelBox(top=row - half, bottom=row + half, left=column - half, right=column + half)
