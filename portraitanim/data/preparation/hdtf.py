"""The annotation files of HDTF (MRzzm/HDTF, CC BY 4.0), applied to videos on disk.

Each of the subsets RD, WDA and WRA has five text files, fields split by blanks, no header. Clip i is the i-th
interval of its video. The traps are those found by reading every line of the published files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from portraitanim.data.preparation.sources import AnnotatedBox, SourceClip, VideoIndex, file_name, with_unique_names
from portraitanim.errors import InputError

SUBSETS = ("RD", "WDA", "WRA")


@dataclass(frozen=True, kw_only=True)
class HdtfClip:
    """One listed clip.

    Attributes:
        subset: RD, WDA or WRA.
        video: name of the video, without suffix.
        index: number of the interval, from 0.
        start_seconds: in the video.
        end_seconds: in the video.
        youtube_id: or ``None`` where no address is listed.
        crop_xywh: left, top, width, height in pixels of a picture of ``height_px``; ``None`` for 15 clips.
        height_px: height of the picture that was cropped; ``None`` where the list says 0 or nothing.
        zoom: side of the crop in sides of the face, for clips without a usable crop.
    """

    subset: str
    video: str
    index: int
    start_seconds: float
    end_seconds: float
    youtube_id: str | None
    crop_xywh: tuple[int, int, int, int] | None
    height_px: int | None
    zoom: float | None

    @property
    def identity(self) -> str:
        """The person: WDA and WRA number the videos of one politician, RD numbers its speakers."""
        return f"{self.subset}_{self.video if self.subset == 'RD' else self.video.rstrip('0123456789')}"


def read_hdtf(folder: Path) -> list[HdtfClip]:
    """Read the annotation files of all subsets that are in a folder.

    Raises:
        InputError: there are none, or a line is not of the published form.
    """
    subsets = [subset for subset in SUBSETS if (folder / f"{subset}_annotion_time.txt").is_file()]
    if not subsets:
        raise InputError(
            f"{folder} holds no HDTF annotations (RD_annotion_time.txt and the like). "
            "Give the folder HDTF_dataset of github.com/MRzzm/HDTF."
        )
    return [clip for subset in subsets for clip in _read_subset(folder, subset)]


def hdtf_clips(folder: Path, index: VideoIndex) -> list[SourceClip]:
    """The listed clips, each with its video where that is on disk.

    A video is found under its published name (``Radio11`` or ``RD_Radio11``) or its YouTube id and is cut and
    cropped as annotated; clips that were cut already (``Radio11_0``, ``RD_Radio11_000``) are taken as they are.

    Raises:
        InputError: as `read_hdtf`.
    """
    return with_unique_names(_located(clip, index) for clip in read_hdtf(folder))


def _located(clip: HdtfClip, index: VideoIndex) -> SourceClip:
    name = f"{clip.subset}_{clip.video}_{clip.index:03d}"
    cut = index.find(name, f"{clip.subset}_{clip.video}_{clip.index}", f"{clip.video}_{clip.index}")
    whole = index.find(f"{clip.subset}_{clip.video}", clip.video, *([clip.youtube_id] if clip.youtube_id else []))
    path, video = cut or whole or ("", None)
    source = SourceClip(
        name=file_name(name), dataset=f"hdtf/{clip.subset}", identity=clip.identity, video=video, path=path
    )
    if cut:
        return source
    box = None
    if clip.crop_xywh is not None and clip.height_px:
        left, top, width, height = clip.crop_xywh
        box = AnnotatedBox(
            left=left,
            top=top,
            right=left + width,
            bottom=top + height,
            unit="pixels",
            reference_height_px=clip.height_px,
        )
    return replace(
        source,
        start_seconds=clip.start_seconds,
        end_seconds=clip.end_seconds,
        box=box,
        face_zoom=None if box else clip.zoom,
    )


def _read_subset(folder: Path, subset: str) -> Iterator[HdtfClip]:
    urls = {words[0]: words[1] for words, _ in _rows(folder, f"{subset}_video_url.txt", 2)}
    heights = {_stem(words[0]): _whole(words[1], at) for words, at in _rows(folder, f"{subset}_resolution.txt", 2)}
    zooms = {_stem(words[0]): _number(words[1], at) for words, at in _rows(folder, f"{subset}_crop_ratio.txt", 2)}
    crops = {}
    for words, at in _rows(folder, f"{subset}_crop_wh.txt", 5):
        left, width, top, height = (_whole(word, at) for word in words[1:5])  # x w y h, in this order
        crops[_stem(words[0])] = (left, top, width, height)
    for words, at in _rows(folder, f"{subset}_annotion_time.txt", 1):
        video = _stem(words[0])
        for number, interval in enumerate(words[1:]):
            start, end = _interval(interval, at)
            yield HdtfClip(
                subset=subset,
                video=video,
                index=number,
                start_seconds=start,
                end_seconds=end,
                youtube_id=_youtube_id(urls.get(video)),
                crop_xywh=crops.get(f"{video}_{number}"),
                height_px=heights.get(video) or None,
                zoom=zooms.get(f"{video}_{number}"),
            )


def _rows(folder: Path, name: str, num_words: int) -> Iterator[tuple[list[str], str]]:
    """Words of each line, and its place for messages; a file that is absent has no rows."""
    path = folder / name
    if not path.is_file():
        return
    # One of the published files begins with a byte-order mark, which would hide its first video.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        words, at = line.split(), f"{path}, line {number}"
        if not words:
            continue
        if len(words) < num_words:
            raise InputError(f"{at}: expected at least {num_words} words, got {line!r}. Download the file again.")
        yield words, at


def _stem(name: str) -> str:
    return name.removesuffix(".mp4")


def _whole(word: str, at: str) -> int:
    if not re.fullmatch(r"\d+", word):
        raise InputError(f"{at}: expected a whole number, got {word!r}. Download the file again.")
    return int(word)


def _number(word: str, at: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", word):
        raise InputError(f"{at}: expected a number, got {word!r}. Download the file again.")
    return float(word)


def _interval(text: str, at: str) -> tuple[float, float]:
    match = re.fullmatch(r"([\d:.]+)-([\d:.]+)", text)
    try:
        start, end = (_seconds(part) for part in match.groups()) if match else (0.0, 0.0)
    except ValueError:
        start = end = 0.0
    if end <= start:
        raise InputError(f"{at}: expected an interval such as 00:30-01:00, got {text!r}. Download the file again.")
    return start, end


def _seconds(text: str) -> float:
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def _youtube_id(url: str | None) -> str | None:
    """The id in an address; some have more parameters (``&t=6s``)."""
    if url is None:
        return None
    parts = urlsplit(url)
    listed = parse_qs(parts.query).get("v")
    return listed[0] if listed else parts.path.rpartition("/")[2] or None
