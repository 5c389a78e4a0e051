"""What a face does beside talking: blinks, glances, brows, a slowly moving head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from portraitanim.data.synthesis.driver_motion import HeadPoses
from portraitanim.face.curves import lid_closure
from portraitanim.face.idle_motion import slow_noise


@dataclass(frozen=True, kw_only=True, eq=False)
class IdleMotion:
    """Motion of eyes and brows, each ``(frames,)`` but the gaze.

    Attributes:
        closed: how far the lids are closed, in [0, 1].
        brows: brows raised, in face widths.
        gaze: ``(frames, 2)``, shift of the irises to the right and down in eye widths.
    """

    closed: np.ndarray
    brows: np.ndarray
    gaze: np.ndarray


def idle_motion(num_frames: int, fps: float, effort: np.ndarray, rng: np.random.Generator) -> IdleMotion:
    """Draw eyes and brows; brows rise with the effort of speech.

    Args:
        num_frames: of the clip.
        fps: frames per second.
        effort: ``(frames,)`` from `visemes.loudness_effort`, or ones for silence.
        rng: decides everything.
    """
    brow_gain = rng.uniform(0, 0.06)
    emphasis = np.convolve(np.pad(effort - effort.mean(), 4, mode="edge"), np.full(9, 1 / 9), mode="valid")
    brows = brow_gain * emphasis + slow_noise(num_frames, fps, 0.4, rng) * rng.uniform(0, 0.008)
    return IdleMotion(
        closed=_blinks(num_frames, fps, rng), brows=np.clip(brows, -0.015, 0.035), gaze=_glances(num_frames, fps, rng)
    )


def head_sway(num_frames: int, fps: float, effort: np.ndarray, rng: np.random.Generator) -> HeadPoses:
    """Draw a slow motion of the head, with small nods where speech is loud."""
    lively = rng.choice([0.15, 0.6, 1.0, 1.5], p=[0.2, 0.35, 0.3, 0.15])
    yaw, pitch, roll = (
        lively * size * slow_noise(num_frames, fps, 0.35, rng) for size in rng.uniform(0.3, 1, 3) * [6.5, 3.0, 3.0]
    )
    nods = np.convolve(np.pad(effort - effort.mean(), 3, mode="edge"), np.full(7, 1 / 7), mode="valid")
    pitch = pitch + lively * rng.uniform(-2, 6) * nods
    yaw, pitch, roll = (angle - angle[0] * rng.uniform(0.5, 1) for angle in (yaw, pitch, roll))
    travel = np.stack([slow_noise(num_frames, fps, 0.3, rng) for _ in range(3)], axis=-1) * [0.02, 0.012, 0] * lively
    return HeadPoses(
        rotations=Rotation.from_euler("yxz", np.stack([yaw, pitch, roll], -1), degrees=True).as_matrix(),
        sizes=np.exp(0.012 * lively * slow_noise(num_frames, fps, 0.25, rng)),
        travel=travel,
    )


def _blinks(num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    closed = np.zeros(num_frames)
    seconds = np.arange(num_frames) / fps
    moment = rng.exponential(1.5)
    while moment < seconds[-1] + 0.3:
        down, hold, up = rng.uniform(0.06, 0.10), rng.uniform(0.02, 0.06), rng.uniform(0.10, 0.18)
        closed = np.maximum(closed, lid_closure(seconds, moment, down, hold, up))
        moment += down + hold + up + 0.25 + rng.exponential(2.4)
    return closed


def _glances(num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    gaze = np.zeros((num_frames, 2))
    frame, place = 0, rng.normal(0, [0.03, 0.015])
    while frame < num_frames:
        stay = max(3, round(rng.exponential(1.3) * fps))
        gaze[frame : frame + stay] = place
        frame += stay
        place = rng.normal(0, [0.06, 0.02])
    return np.clip(gaze, -0.14, 0.14)
