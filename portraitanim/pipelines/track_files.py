"""Landmark files: a `FaceTrack` as safetensors.

Format ``portraitanim-face-track``, version 1. Tensors:

* ``landmarks`` float32 ``(frames, 478, 3)``: x, y and z in pixels of the picture, z in the scale of x and smaller when
  nearer; MediaPipe's face mesh with irises.
* ``found`` bool or uint8 ``(frames,)``, optional: 1 where the face was seen. Absent: everywhere.
* ``matrices`` float32 ``(frames, 4, 4)``, optional: head pose, head axes → camera axes in centimetres (x to the
  subject's left, y up, z towards the viewer), a rotation, one size and a place.
* ``blendshapes`` float32 ``(frames, 52)``, optional: expression scores in [0, 1], in MediaPipe's order.

Metadata, all of it text: ``format``, ``version``, ``fps`` (``25`` or ``30000/1001``), ``height`` and ``width`` of the
picture in pixels, ``topology`` (``mediapipe-478``), and optionally ``source`` (what found the points) and
``num_missing`` (frames without the face, also those that were dropped). Nothing else may be in the file.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from portraitanim.errors import InputError, MediaError
from portraitanim.face.face_track import MAX_FPS, NUM_BLENDSHAPES, FaceTrack
from portraitanim.media.files import existing_file, whole_file
from portraitanim.types import NUM_LANDMARKS, FaceLandmarks

FORMAT, VERSION, TOPOLOGY = "portraitanim-face-track", "1", "mediapipe-478"

MAX_FRAMES = 1_000_000
MAX_SIDE_PX = 16384
MAX_REACH = 100
"""How many picture sizes away a point may lie."""

_SHAPES = {
    "landmarks": (NUM_LANDMARKS, 3),
    "found": (),
    "matrices": (4, 4),
    "blendshapes": (NUM_BLENDSHAPES,),
}
_DTYPES = {"landmarks": {"F32"}, "found": {"BOOL", "U8"}, "matrices": {"F32"}, "blendshapes": {"F32"}}
_METADATA = ("format", "version", "fps", "height", "width", "topology")


def save_track(path: str | Path, track: FaceTrack) -> None:
    """Write a landmark file, whole or not at all.

    Raises:
        InputError: the track would be refused on reading: numbers that are not finite, and the like.
        MediaError: the file cannot be written.
    """
    path = Path(path)
    tensors = {"landmarks": track.landmarks.points, "found": track.found.astype(np.uint8)}
    for name in ("matrices", "blendshapes"):
        value = getattr(track, name)
        if value is not None:
            tensors[name] = value
    tensors = {
        name: np.ascontiguousarray(value, None if name == "found" else np.float32) for name, value in tensors.items()
    }
    if max(track.size_px) > MAX_SIDE_PX:
        raise InputError(f"Pictures of landmark files have at most {MAX_SIDE_PX} pixels a side, got {track.size_px}.")
    _check_values(path, tensors, track.size_px)
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "fps": repr(float(track.fps)),
        "height": str(track.size_px[0]),
        "width": str(track.size_px[1]),
        "topology": TOPOLOGY,
        "source": track.source,
        "num_missing": str(track.num_missing),
    }
    with whole_file(path) as partial:
        partial.write_bytes(save(tensors, metadata))


def load_track(path: str | Path) -> FaceTrack:
    """Read a landmark file; see the module for its format.

    Raises:
        InputError: it is another kind of file, or its content is not what the format says.
        MediaError: absent, empty or damaged.
    """
    path = existing_file(path, "landmark")
    try:
        with safe_open(path, "np") as file:
            metadata = dict(file.metadata() or {})
            fps, size_px, num_missing = _read_metadata(path, metadata)
            _check_header(path, {name: file.get_slice(name) for name in file.keys()})  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, OverflowError, MemoryError) as error:
        raise MediaError(
            f"{path} is damaged or no safetensors file ({str(error).splitlines()[0][:100]}). Copy it again, or make it "
            "anew from the driving video."
        ) from None
    _check_values(path, tensors, size_px)
    frames = len(tensors["landmarks"])
    return FaceTrack(
        landmarks=FaceLandmarks(points=tensors["landmarks"]),
        fps=fps,
        size_px=size_px,
        found=tensors.get("found", np.ones(frames, np.uint8)).astype(bool),
        matrices=tensors.get("matrices"),
        blendshapes=tensors.get("blendshapes"),
        source=metadata.get("source", "unknown"),
        num_missing=num_missing,
    )


def fault_of_points(points: np.ndarray, size_px: tuple[int, int]) -> str:
    """What is wrong with points ``(frames, 478, 2 or more)`` in pixels, as a sentence; empty if nothing is."""
    if not np.isfinite(points).all():
        return "some points are not finite. Make the landmarks anew from the driving video."
    reach = float(np.abs(points).max())
    if reach > MAX_REACH * max(size_px):
        return f"points lie up to {reach:.3g} pixels away in a picture of {size_px[0]}x{size_px[1]}. Check its size."
    small = np.flatnonzero(np.ptp(points[..., :2].astype(np.float64), axis=1).max(axis=1) < 2)
    if len(small):
        return (
            f"in frame {small[0]} all points lie within 2 pixels. Landmarks are pixels of the picture, not fractions "
            "of its size."
        )
    return ""


def _read_metadata(path: Path, metadata: dict[str, str]) -> tuple[float, tuple[int, int], int]:
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{path} is a safetensors file, but no landmark file: its metadata has no format {FORMAT!r}. Give a file "
            "that was saved as landmarks, a pose folder or a video."
        )
    missing = [name for name in _METADATA if name not in metadata]
    if missing:
        raise InputError(
            f"{path}: the metadata has no {', '.join(missing)}. Landmark files need {', '.join(_METADATA)}."
        )
    if metadata["version"] != VERSION:
        raise InputError(
            f"{path} has version {_short(metadata['version'])} of the landmark format; this release reads {VERSION}. "
            "Update portraitanim, or make the file anew."
        )
    if metadata["topology"] != TOPOLOGY:
        raise InputError(f"{path} has points of {_short(metadata['topology'])}, expected {TOPOLOGY}.")
    height, width = (_whole(path, name, metadata[name], 1, MAX_SIDE_PX) for name in ("height", "width"))
    num_missing = _whole(path, "num_missing", metadata.get("num_missing", "0"), 0, 10**9)
    return _fps(path, metadata["fps"]), (height, width), num_missing


def _fps(path: Path, text: str) -> float:
    if re.fullmatch(r"\d{1,6}(\.\d{1,20})?|\d{1,7}/[1-9]\d{0,6}", text, re.ASCII):
        fps = float(Fraction(text))
        if 0 < fps <= MAX_FPS:
            return fps
    raise InputError(f"{path}: fps is {_short(text)}, expected a number above 0 and at most {MAX_FPS:g}, as 25.")


def _whole(path: Path, name: str, text: str, low: int, high: int) -> int:
    if re.fullmatch(r"\d{1,10}", text, re.ASCII) and low <= int(text) <= high:
        return int(text)
    raise InputError(f"{path}: {name} is {_short(text)}, expected a whole number from {low} to {high}.")


def _short(text: str) -> str:
    return ascii(text[:40])


def _check_header(path: Path, slices: dict[str, Any]) -> None:
    """Check names, types and shapes before any number is read."""
    if "landmarks" not in slices:
        raise InputError(f"{path} has no tensor 'landmarks'. Make it anew from the driving video.")
    unknown = [name for name in slices if name not in _SHAPES]
    if unknown:
        raise InputError(f"{path} has a tensor {_short(unknown[0])}. Landmark files hold {', '.join(_SHAPES)} only.")
    frames = (slices["landmarks"].get_shape() or [0])[0]
    if not 1 <= frames <= MAX_FRAMES:
        raise InputError(f"{path} has {frames} frames, expected 1 to {MAX_FRAMES}.")
    for name, found in slices.items():
        shape, expected = tuple(found.get_shape()), (frames, *_SHAPES[name])
        if found.get_dtype() not in _DTYPES[name] or shape != expected:
            raise InputError(
                f"{path}: {name} is {found.get_dtype()} {shape}, expected {' or '.join(sorted(_DTYPES[name]))} "
                f"{expected} for {frames} frames."
            )


def _check_values(path: Path, tensors: dict[str, np.ndarray], size_px: tuple[int, int]) -> None:
    for name, values in tensors.items():
        if name not in ("landmarks", "found") and not np.isfinite(values).all():
            raise InputError(f"{path}: {name} has numbers that are not finite. Make it anew from the driving video.")
    fault = fault_of_points(tensors["landmarks"], size_px)
    if fault:
        raise InputError(f"{path}: {fault}")
    if (tensors.get("found", np.zeros(1)) > 1).any():
        raise InputError(f"{path}: found has values other than 0 and 1.")
    scores = tensors.get("blendshapes", np.zeros(1))
    if scores.min() < -1e-3 or scores.max() > 1 + 1e-3:
        raise InputError(f"{path}: blendshapes lie in {scores.min():.3g} to {scores.max():.3g}, expected 0 to 1.")
    if "matrices" in tensors:
        _check_poses(path, tensors["matrices"].astype(np.float64))


def _check_poses(path: Path, matrices: np.ndarray) -> None:
    linear = matrices[:, :3, :3]
    sizes = np.cbrt(np.linalg.det(linear))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        unit = linear / sizes[:, None, None]
        skew = np.abs(unit @ np.swapaxes(unit, 1, 2) - np.eye(3)).max(axis=(1, 2))
    wrong = ~((sizes > 0.01) & (sizes < 100) & (skew < 0.01))
    wrong |= np.abs(matrices[:, 3] - (0, 0, 0, 1)).max(axis=1) > 1e-4
    wrong |= np.abs(matrices[:, :3, 3]).max(axis=1) > 1e5
    if wrong.any():
        raise InputError(
            f"{path}: the matrix of frame {np.flatnonzero(wrong)[0]} is no head pose (rotation and place)."
        )
