"""A followed face drives a portrait: which geometry motion synchronization gets, and in which pixels it answers."""

from __future__ import annotations

import numpy as np

from portraitanim.errors import InputError
from portraitanim.face.face_track import FaceTrack
from portraitanim.face.metric_geometry import metric_geometry
from portraitanim.face.motion_sync import SyncMethod, synchronize
from portraitanim.face.published_motion_sync import PUBLISHED_CANVAS_PX
from portraitanim.types import FaceLandmarks


def drive_portrait(
    track: FaceTrack, portrait: FaceLandmarks, size_px: tuple[int, int], *, method: SyncMethod = "paper"
) -> np.ndarray:
    """Landmarks of the portrait, moved as the face of a track moves.

    Head pose and metric shape are derived from the track's landmarks, also where it has matrices of its own, so that
    they fit landmarks that were smoothed.

    Args:
        track: the driver, smoothed or not.
        portrait: one frame, in pixels of its picture.
        size_px: (height, width) of that picture.
        method: see `portraitanim.face.motion_sync.synchronize`.

    Returns:
        float32 ``(frames, 478, 2)``, x and y in pixels of the portrait's picture.

    Raises:
        InputError: the track has no depth, or ``published`` is asked for and the picture is not square.
    """
    if method == "published" and size_px[0] != size_px[1]:
        raise InputError(f"The published motion synchronization needs a square picture, got {size_px[0]}x{size_px[1]}.")
    moved = synchronize(
        metric_geometry(track.landmarks, track.size_px), metric_geometry(portrait, size_px), method=method
    )
    scale = size_px[0] / PUBLISHED_CANVAS_PX if method == "published" else 1.0
    return (moved * scale).astype(np.float32)
