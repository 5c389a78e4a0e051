"""What a face does beside talking: it blinks, glances, and its head is never quite still."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from portraitanim.errors import ShapeError
from portraitanim.face.curves import lid_closure
from portraitanim.face.landmark_groups import (
    LEFT_EYEBROW,
    LEFT_EYELID_PAIRS,
    LEFT_IRIS,
    RIGHT_EYEBROW,
    RIGHT_EYELID_PAIRS,
    RIGHT_IRIS,
    RIGID_POINTS,
)
from portraitanim.types import NUM_LANDMARKS

YAW_DEGREES, PITCH_DEGREES, ROLL_DEGREES = 4.0, 2.0, 1.6
"""Typical size of the head's turns."""

TRAVEL_WIDTHS = 0.012
"""Typical size of the head's shifts, in face widths."""

PIVOT_DEPTH_WIDTHS = 0.5
"""How far behind the bony points of the face the head turns."""

MEAN_SECONDS_BETWEEN_BLINKS = 3.0

MOUTH_FADE_SECONDS = 0.2
"""So long the mouth takes from how the picture has it to what is said."""

_EAR_TO_EAR = (234, 454)


class MovesMouth(Protocol):
    """What a mouth does while the head rests."""

    def faces(self, frames: Sequence[int]) -> np.ndarray:
        """Float64 ``(frames, 478, 3)`` in pixels of the portrait."""


class IdleMotion:
    """Landmarks of a portrait that rests: slow turns of the head, blinks, glances. The mouth does nothing of its own.

    The motion fades in from the portrait's own pose over the first second, so that a video starts as the picture is.
    Any frames can be asked for: a frame is the same however long the video becomes.

    Args:
        portrait: ``(478, 3)`` in pixels.
        fps: frames per second.
        seed: decides everything.
        amount: factor on turns, shifts and glances; 0 only blinks.
        mouth: moves the mouth.

    Raises:
        ShapeError: the points are not ``(478, 3)``.
    """

    def __init__(
        self, portrait: np.ndarray, fps: float, seed: int, amount: float = 1.0, mouth: MovesMouth | None = None
    ) -> None:
        if portrait.shape != (NUM_LANDMARKS, 3):
            raise ShapeError(f"Landmarks of one face must be ({NUM_LANDMARKS}, 3), got {portrait.shape}.")
        random = np.random.default_rng(seed)
        self._fps, self._amount, self._mouth = fps, amount, mouth
        self._rest = portrait.astype(np.float64)
        self._width = float(np.linalg.norm(self._rest[_EAR_TO_EAR[1]] - self._rest[_EAR_TO_EAR[0]]))
        self._turns = [SlowNoise(0.3, random) for _ in range(3)]
        self._travel = [SlowNoise(0.25, random) for _ in range(2)]
        self._glances = [SlowNoise(0.5, random) for _ in range(2)]
        self._brows = SlowNoise(0.3, random)
        self._blinks = Blinks(random)  # the last: how much it draws depends on the length of the video

    def landmarks(self, frames: Sequence[int]) -> np.ndarray:
        """Float32 ``(frames, 478, 2)`` in pixels of the portrait."""
        seconds = np.asarray(frames, dtype=np.float64) / self._fps
        fade = self._amount * np.minimum(seconds, 1.0)
        sizes = (YAW_DEGREES, PITCH_DEGREES, ROLL_DEGREES)
        angles = [size * fade * noise.at(seconds) for size, noise in zip(sizes, self._turns, strict=True)]
        turns = Rotation.from_euler("yxz", np.stack(angles, axis=-1), degrees=True).as_matrix()
        travel = [TRAVEL_WIDTHS * self._width * fade * noise.at(seconds) for noise in self._travel]
        glances = np.stack([0.05 * fade * noise.at(seconds) for noise in self._glances], axis=-1) * [1.0, 0.4]
        lift = 0.05 * fade * self._brows.at(seconds)
        faces = np.repeat(self._rest[None], len(seconds), axis=0)
        if self._mouth is not None:
            share = np.minimum(seconds / MOUTH_FADE_SECONDS, 1.0)[:, None, None]
            faces += share * (self._mouth.faces(frames) - faces)
        faces = _with_living_eyes(faces, self._rest, self._blinks.at(seconds), glances, lift)
        depth = np.array([0.0, 0.0, PIVOT_DEPTH_WIDTHS * self._width])
        pivot = self._rest[list(RIGID_POINTS)].mean(0) + depth
        turned = pivot + np.einsum("tij,tnj->tni", turns, faces - pivot)
        return (turned[..., :2] + np.stack(travel, axis=-1)[:, None]).astype(np.float32)


class SlowNoise:
    """Smooth random motion of about unit size, made of six waves up to three times the cutoff."""

    def __init__(self, cutoff_hz: float, random: np.random.Generator) -> None:
        self._rates = cutoff_hz * random.uniform(0.2, 3.0, 6)
        self._sizes = 1 / (1 + (self._rates / cutoff_hz) ** 2)
        self._phases = random.uniform(0, 2 * np.pi, 6)

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """The motion at ``(times,)``."""
        waves = self._sizes[:, None] * np.sin(2 * np.pi * self._rates[:, None] * seconds + self._phases[:, None])
        noise: np.ndarray = waves.sum(0) / np.sqrt((self._sizes**2).sum() / 2) * 0.7
        return noise


def slow_noise(num_frames: int, fps: float, cutoff_hz: float, random: np.random.Generator) -> np.ndarray:
    """`SlowNoise` of the first frames, ``(frames,)``."""
    return SlowNoise(cutoff_hz, random).at(np.arange(num_frames) / fps)


class Blinks:
    """Blinks every few seconds: down in 80 ms, up in 140 ms."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._next = 0.5 + random.exponential(MEAN_SECONDS_BETWEEN_BLINKS / 2)
        self._blinks: list[tuple[float, float, float, float]] = []

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """How far the lids are closed at ``(times,)``, in [0, 1]."""
        closed = np.zeros(len(seconds))
        if not len(seconds):
            return closed
        self._draw_until(float(seconds.max()))
        for moment, down, hold, up in self._blinks:
            if moment + down + hold + up >= seconds.min() and moment <= seconds.max():
                closed = np.maximum(closed, lid_closure(seconds, moment, down, hold, up))
        return closed

    def _draw_until(self, seconds: float) -> None:
        random = self._random
        while self._next <= seconds:
            down, hold, up = random.uniform(0.06, 0.10), random.uniform(0.03, 0.06), random.uniform(0.10, 0.18)
            self._blinks.append((self._next, down, hold, up))
            self._next += down + hold + up + 0.5 + random.exponential(MEAN_SECONDS_BETWEEN_BLINKS - 0.5)


def _with_living_eyes(
    faces: np.ndarray, rest: np.ndarray, closed: np.ndarray, glances: np.ndarray, lift: np.ndarray
) -> np.ndarray:
    """Faces ``(frames, 478, 3)``, changed in place: lids, irises and brows move, by the sizes of the resting face."""
    upper, lower = np.array((*RIGHT_EYELID_PAIRS, *LEFT_EYELID_PAIRS)).T
    gap = rest[lower] - rest[upper]
    faces[:, upper] += 0.85 * closed[:, None, None] * gap
    faces[:, lower] -= 0.15 * closed[:, None, None] * gap
    eye_width = float(np.linalg.norm(rest[33, :2] - rest[133, :2]))
    faces[:, [*RIGHT_IRIS, *LEFT_IRIS], :2] += eye_width * glances[:, None]
    faces[:, [*LEFT_EYEBROW, *RIGHT_EYEBROW], 1] -= eye_width * lift[:, None]
    return faces
