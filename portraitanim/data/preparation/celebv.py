"""The annotation files of CelebV-HQ and CelebV-Text, applied to videos on disk.

Both are one JSON file with ``clips``: key → YouTube id, times, box. They differ in the unit of the box, which tells
them apart; their file names do not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from portraitanim.data.preparation.sources import AnnotatedBox, SourceClip, VideoIndex, file_name, with_unique_names
from portraitanim.errors import InputError

HQ_MARGIN = 0.02
"""CelebV-HQ's own crop grows its box by this share of the picture and takes the square in the middle."""

_TIME_NAMES = (("start_sec", "end_sec"), ("start_frame", "end_frame"))  # the latter are seconds too
_EDGES = ("left", "top", "right", "bottom")


def celebv_clips(path: Path, index: VideoIndex) -> list[SourceClip]:
    """The listed clips, each with its video where that is on disk.

    A file called as the clip's key is the clip, cut and cropped already. Else the video is found by its YouTube id
    and is cut and cropped as annotated: a square for CelebV-HQ, the box as it is for CelebV-Text.

    Raises:
        InputError: not such a file, or a clip without id, times or box.
    """
    listed = _read(path)
    boxes = {key: _box(key, clip, path) for key, clip in listed.items()}
    is_hq = all(max(box) <= 1.0 for box in boxes.values())
    return with_unique_names(_located(key, clip, boxes[key], is_hq, path, index) for key, clip in listed.items())


def _located(
    key: str, clip: dict[str, Any], edges: tuple[float, ...], is_hq: bool, path: Path, index: VideoIndex
) -> SourceClip:
    video_id = clip.get("ytb_id")
    if not isinstance(video_id, str) or not video_id:  # keys hold underscores, as ids do: never split them
        raise InputError(f"{path}: clip {key!r} has no ytb_id. Download the file again.")
    start, end = _times(key, clip, path)
    cut, whole = index.find(key), index.find(video_id)
    relative, video = cut or whole or ("", None)
    left, top, right, bottom = edges
    box = AnnotatedBox(
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        unit="fraction" if is_hq else "pixels",
        margin=HQ_MARGIN if is_hq else 0.0,
        is_squared=is_hq,
    )
    return SourceClip(
        name=file_name(key),
        dataset="celebv-hq" if is_hq else "celebv-text",
        identity=video_id,
        video=video,
        path=relative,
        start_seconds=0.0 if cut else start,
        end_seconds=None if cut else end,
        box=None if cut else box,
    )


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Give celebvhq_info.json or the like.") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}). Download it again.") from None
    clips = values.get("clips") if isinstance(values, dict) else None
    if not isinstance(clips, dict) or not clips or not all(isinstance(clip, dict) for clip in clips.values()):
        raise InputError(f"{path} has no mapping 'clips'. Give celebvhq_info.json or celebvtext_info.json.")
    return clips


def _box(key: str, clip: dict[str, Any], path: Path) -> tuple[float, ...]:
    box = clip.get("bbox")
    values = [box.get(edge) for edge in _EDGES] if isinstance(box, dict) else []
    edges = tuple(float(value) for value in values if _is_number(value))
    if len(edges) != len(_EDGES):
        raise InputError(f"{path}: clip {key!r} needs bbox with {', '.join(_EDGES)}, got {box!r}.")
    return edges


def _times(key: str, clip: dict[str, Any], path: Path) -> tuple[float, float]:
    duration = clip.get("duration")
    for names in _TIME_NAMES:
        values = [duration.get(name) for name in names] if isinstance(duration, dict) else []
        times = [float(value) for value in values if _is_number(value)]
        if len(times) == len(names):
            return times[0], times[1]
    raise InputError(f"{path}: clip {key!r} needs duration with start_sec and end_sec, got {duration!r}.")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
