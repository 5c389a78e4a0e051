"""What a face does beside talking: it blinks, glances, and its head is never quite still."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from portraitanim.errors import ShapeError
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

_EAR_TO_EAR = (234, 454)
_FRAMES_AT_ONCE = 256


def idle_landmarks(portrait: np.ndarray, num_frames: int, fps: float, seed: int, amount: float = 1.0) -> np.ndarray:
    """Landmarks of a portrait that rests: slow turns of the head, blinks, glances. The mouth does nothing of its own.

    The motion fades in from the portrait's own pose over the first second, so that a video starts as the picture is.

    Args:
        portrait: ``(478, 3)`` in pixels.
        num_frames: frames to make.
        fps: frames per second.
        seed: decides everything.
        amount: factor on turns, shifts and glances; 0 only blinks.

    Returns:
        float32 ``(frames, 478, 2)`` in pixels of the portrait.

    Raises:
        ShapeError: the points are not ``(478, 3)``.
    """
    if portrait.shape != (NUM_LANDMARKS, 3):
        raise ShapeError(f"Landmarks of one face must be ({NUM_LANDMARKS}, 3), got {portrait.shape}.")
    random = np.random.default_rng(seed)
    rest = portrait.astype(np.float64)
    width = float(np.linalg.norm(rest[_EAR_TO_EAR[1]] - rest[_EAR_TO_EAR[0]]))
    fade = amount * np.minimum(np.arange(num_frames) / fps, 1.0)
    pivot = rest[list(RIGID_POINTS)].mean(0) + np.array([0.0, 0.0, PIVOT_DEPTH_WIDTHS * width])
    angles = [
        size * fade * slow_noise(num_frames, fps, 0.3, random) for size in (YAW_DEGREES, PITCH_DEGREES, ROLL_DEGREES)
    ]
    turns = Rotation.from_euler("yxz", np.stack(angles, axis=-1), degrees=True).as_matrix()
    travel = [TRAVEL_WIDTHS * width * fade * slow_noise(num_frames, fps, 0.25, random) for _ in range(2)]
    shifts = np.stack(travel, axis=-1)
    eyes = _living_eyes(num_frames, fps, fade, random)
    moved = np.empty((num_frames, NUM_LANDMARKS, 2), np.float32)
    for start in range(0, num_frames, _FRAMES_AT_ONCE):
        some = slice(start, start + _FRAMES_AT_ONCE)
        faces = _with_living_eyes(rest, *(track[some] for track in eyes))
        turned = pivot + np.einsum("tij,tnj->tni", turns[some], faces - pivot)
        moved[some] = turned[..., :2] + shifts[some, None]
    return moved


def slow_noise(num_frames: int, fps: float, cutoff_hz: float, random: np.random.Generator) -> np.ndarray:
    """Smooth random motion of about unit size, ``(frames,)``, made of six waves up to three times the cutoff."""
    seconds = np.arange(num_frames) / fps
    rates = cutoff_hz * random.uniform(0.2, 3.0, 6)
    sizes = 1 / (1 + (rates / cutoff_hz) ** 2)
    phases = random.uniform(0, 2 * np.pi, 6)
    waves = sizes[:, None] * np.sin(2 * np.pi * rates[:, None] * seconds + phases[:, None])
    noise: np.ndarray = waves.sum(0) / np.sqrt((sizes**2).sum() / 2) * 0.7
    return noise


def blinks(num_frames: int, fps: float, random: np.random.Generator) -> np.ndarray:
    """How far the lids are closed, ``(frames,)`` in [0, 1]: down in 80 ms, up in 140 ms."""
    closed = np.zeros(num_frames)
    seconds = np.arange(num_frames) / fps
    moment = 0.5 + random.exponential(MEAN_SECONDS_BETWEEN_BLINKS / 2)
    while num_frames and moment < seconds[-1]:
        down, hold, up = random.uniform(0.06, 0.10), random.uniform(0.03, 0.06), random.uniform(0.10, 0.18)
        near = slice(max(0, int(moment * fps)), int((moment + down + hold + up) * fps) + 2)
        rising = np.clip((seconds[near] - moment) / down, 0, 1)
        falling = np.clip(1 - (seconds[near] - moment - down - hold) / up, 0, 1)
        lid = np.minimum(rising, falling)
        closed[near] = np.maximum(closed[near], lid * lid * (3 - 2 * lid))
        moment += down + hold + up + 0.5 + random.exponential(MEAN_SECONDS_BETWEEN_BLINKS - 0.5)
    return closed


def _living_eyes(
    num_frames: int, fps: float, fade: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far the lids are closed ``(frames,)``, glances ``(frames, 2)`` and brows ``(frames,)`` in eye widths."""
    closed = blinks(num_frames, fps, random)
    glances = np.stack([0.05 * fade * slow_noise(num_frames, fps, 0.5, random) for _ in range(2)], axis=-1)
    return closed, glances * [1.0, 0.4], 0.05 * fade * slow_noise(num_frames, fps, 0.3, random)


def _with_living_eyes(rest: np.ndarray, closed: np.ndarray, glances: np.ndarray, lift: np.ndarray) -> np.ndarray:
    """The resting face ``(frames, 478, 3)`` with lids, irises and brows that move."""
    faces = np.repeat(rest[None], len(closed), axis=0)
    upper, lower = np.array((*RIGHT_EYELID_PAIRS, *LEFT_EYELID_PAIRS)).T
    gap = rest[lower] - rest[upper]
    faces[:, upper] += 0.85 * closed[:, None, None] * gap
    faces[:, lower] -= 0.15 * closed[:, None, None] * gap
    eye_width = float(np.linalg.norm(rest[33, :2] - rest[133, :2]))
    faces[:, [*RIGHT_IRIS, *LEFT_IRIS], :2] += eye_width * glances[:, None]
    faces[:, [*LEFT_EYEBROW, *RIGHT_EYEBROW], 1] -= eye_width * lift[:, None]
    return faces
