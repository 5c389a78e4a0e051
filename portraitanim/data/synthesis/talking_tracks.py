"""Motion and sound of real talking videos; what the people look like is not kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from portraitanim.errors import InputError
from portraitanim.face.landmarks import FaceMesh
from portraitanim.media.audio import load_audio, to_mono
from portraitanim.media.files import whole_file
from portraitanim.media.video import iter_video, probe_video

logger = logging.getLogger(__name__)

HELD_OUT_TALKING = (
    *("liveportrait_d3", "liveportrait_d12", "liveportrait_d20"),
    *("echomimic_a_silent", "echomimic_b_silent"),
)
"""Videos on which the bundled model is tested: their motion and sound are never trained on.

The sound of d3 is empty, and d12 sings: d20 is the one clear voice to test lips against. Its sound comes late, see
`clip_motion.MOUTH_LATE_FRAMES`.
"""

HELD_OUT_VOICES = ("liveportrait_d6", "liveportrait_d10")
"""Videos whose motion may be trained on, but never with their sound: more voices to test lips against."""

TRACK_FPS = 25.0
SOUND_RATE_HZ = 16000


@dataclass(frozen=True, kw_only=True, eq=False)
class TalkingTrack:
    """A face over time, with what it says.

    Attributes:
        name: of the video.
        points: float32 ``(frames, 478, 3)`` at 25 per second, in pixels of the video.
        sound: float32 ``(samples,)`` at 16 kHz, as long as the points.
    """

    name: str
    points: np.ndarray
    sound: np.ndarray


def read_track(path: Path, mesh: FaceMesh) -> TalkingTrack:
    """Follow the largest face of a video.

    Frames without a face are bridged linearly, with a warning.

    Raises:
        InputError: the video has no sound, or fewer than half of its frames show a face.
    """
    if not probe_video(path).has_audio:
        raise InputError(f"{path} has no sound, so its motion teaches nothing. Leave it out.")
    found: list[np.ndarray | None] = []
    for frame in iter_video(path, TRACK_FPS):
        faces = mesh.search(frame.image).faces
        found.append(faces[0].points if faces else None)
    seen = np.array([index for index, points in enumerate(found) if points is not None])
    if 2 * len(seen) < len(found) or not len(seen):
        raise InputError(f"{path} shows a face in {len(seen)} of {len(found)} frames. Leave it out.")
    if len(seen) < len(found):
        logger.warning("%s: no face in %d of %d frames.", path.name, len(found) - len(seen), len(found))
    known = np.stack([points for points in found if points is not None]).reshape(len(seen), -1)
    every = np.arange(len(found))
    points = np.stack([np.interp(every, seen, column) for column in known.T], axis=1).reshape(len(found), -1, 3)
    sound = to_mono(load_audio(path, SOUND_RATE_HZ)).samples[0]
    num_samples = round(len(found) / TRACK_FPS * SOUND_RATE_HZ)
    sound = np.pad(sound, (0, max(0, num_samples - len(sound))))[:num_samples]
    return TalkingTrack(name=path.stem, points=points.astype(np.float32), sound=sound)


def load_tracks(folder: Path, cache: Path, *, without: Sequence[str] = HELD_OUT_TALKING) -> list[TalkingTrack]:
    """The tracks of all videos with sound of a folder; read once, then taken from ``cache``.

    Raises:
        InputError: there is no such video.
    """
    tracks = []
    mesh: FaceMesh | None = None
    try:
        for path in sorted(folder.glob("*.mp4")):
            stored = cache / f"{path.stem}.npz"
            if path.stem in without or not probe_video(path).has_audio:
                continue
            if not stored.is_file():
                mesh = mesh or FaceMesh()
                track = read_track(path, mesh)
                with whole_file(stored) as partial, partial.open("wb") as file:
                    np.savez(file, points=track.points, sound=track.sound)
            with np.load(stored) as arrays:
                tracks.append(TalkingTrack(name=path.stem, points=arrays["points"], sound=arrays["sound"]))
    finally:
        if mesh is not None:
            mesh.close()
    if not tracks:
        raise InputError(f"{folder} has no talking video with sound besides those held out. Name another folder.")
    return tracks
