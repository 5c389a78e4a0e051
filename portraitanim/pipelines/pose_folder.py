"""EchoMimic's pose folders: ``0.pkl``, ``1.pkl``, …, one frame of landmarks each."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from portraitanim.errors import InputError, MediaError
from portraitanim.face.face_track import FaceTrack, check_fps
from portraitanim.pipelines.array_pickle import read_array
from portraitanim.pipelines.track_files import MAX_FRAMES, fault_of_points
from portraitanim.types import NUM_LANDMARKS, FaceLandmarks

logger = logging.getLogger(__name__)

PUBLISHED_FPS = 24.0
PUBLISHED_SIZE_PX = (512, 512)

_MESH_WITHOUT_IRISES = 468


def load_pose_folder(
    path: str | Path, *, fps: float = PUBLISHED_FPS, size_px: tuple[int, int] = PUBLISHED_SIZE_PX
) -> FaceTrack:
    """Read a folder of pickled landmarks; nothing in it is executed.

    The files know neither rate nor size: the published ones are 24 frames per second on 512×512 pixels. They hold
    ``(478, 3)`` or, out of EchoMimic's motion synchronization, ``(478, 2)`` points in pixels. Points without depth are
    given z = 0, which is enough to draw them; `portraitanim.face.motion_sync` needs depth to turn a head, so draw such
    points as they are.

    Args:
        path: the folder. Files with other names are left alone, with a word in the log.
        fps: frames per second of the landmarks.
        size_px: (height, width) of the picture that the points belong to.

    Returns:
        A track in which every frame counts as found, without head poses or expression scores.

    Raises:
        InputError: no numbered file, a number is missing, points of another topology, not finite or far outside the
            picture, or frames with and without depth are mixed.
        MediaError: the folder or a file cannot be read, or asks for anything but an array.
    """
    check_fps(fps)
    folder = Path(path)
    files = _numbered_files(folder)
    shapes = set()
    frames = []
    for file in files:
        points = _checked_points(file, read_array(file), size_px)
        shapes.add(points.shape[1])
        frames.append(np.pad(points, ((0, 0), (0, 3 - points.shape[1]))).astype(np.float32))
    if len(shapes) > 1:
        raise InputError(f"{folder} mixes frames with and without depth. Make the folder anew from one video.")
    return FaceTrack(
        landmarks=FaceLandmarks(points=np.stack(frames)),
        fps=fps,
        size_px=size_px,
        found=np.ones(len(frames), dtype=bool),
        source="EchoMimic pose folder" if shapes == {3} else "EchoMimic pose folder, without depth",
    )


def _numbered_files(folder: Path) -> list[Path]:
    try:
        listed = list(folder.iterdir())
    except OSError as error:
        raise MediaError(f"The pose folder {folder} cannot be read ({error.strerror}). Check its name.") from None
    numbered = {number: file for file in listed if (number := _number(file)) is not None}
    if not numbered:
        raise InputError(f"{folder} has no files 0.pkl, 1.pkl, …: it is no pose folder of EchoMimic.")
    if len(numbered) > MAX_FRAMES:
        raise InputError(f"{folder} has {len(numbered)} frames, at most {MAX_FRAMES} are read. Split it.")
    missing = next((number for number in range(len(numbered)) if number not in numbered), None)
    if missing is not None:
        raise InputError(f"{folder} has {len(numbered)} frames, but no {missing}.pkl. They must count from 0.")
    others = len(listed) - len(numbered)
    if others:
        logger.info("%s: %d other files are left alone.", folder, others)
    return [numbered[number] for number in range(len(numbered))]


def _number(file: Path) -> int | None:
    match = re.fullmatch(r"(0|[1-9]\d{0,6})\.pkl", file.name, re.ASCII)
    return int(match[1]) if match else None


def _checked_points(file: Path, points: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    if points.shape in ((_MESH_WITHOUT_IRISES, 2), (_MESH_WITHOUT_IRISES, 3)):
        raise InputError(
            f"{file} has the {_MESH_WITHOUT_IRISES} points of a mesh without irises, expected {NUM_LANDMARKS}: pupils "
            "cannot be drawn from it. Make the folder anew with iris landmarks, or give the driving video itself."
        )
    if points.shape not in ((NUM_LANDMARKS, 2), (NUM_LANDMARKS, 3)) or points.dtype.kind not in "fiu":
        raise InputError(
            f"{file} holds {points.dtype} of shape {points.shape}, expected ({NUM_LANDMARKS}, 2 or 3) numbers: pixels."
        )
    exact = points.astype(np.float64)
    fault = fault_of_points(exact[None], size_px)
    if fault:
        raise InputError(f"{file}: {fault}")
    return exact
