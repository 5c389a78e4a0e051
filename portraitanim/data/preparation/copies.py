"""Find clips that show the same moments twice: the same video under two names, or cut twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import correlate

MAX_HASH_BITS = 12
"""Pictures whose 64-bit hashes differ in more bits do not look alike."""

_MIN_OVERLAP_FRAMES = 32
_BITS_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a clip is recognised by.

    Attributes:
        clip_id: name of the clip.
        picture_hash: see `portraitanim.data.preparation.clip_writing.picture_hash`.
        mouth: opening of the mouth in each frame.
    """

    clip_id: str
    picture_hash: str
    mouth: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A clip that shows what an earlier one shows.

    Attributes:
        of: name of the earlier clip.
        distance: one less the correlation of the two mouths' motion.
    """

    of: str
    distance: float


def find_nearest(clips: Sequence[Fingerprint], max_distance: float) -> dict[str, Copy]:
    """For each clip that looks like an earlier one, the earlier clip whose mouth moves most alike.

    Two clips of one speaker in one place look alike too; no two of them move the mouth alike for a second. Clips that
    are copies themselves are not compared with.

    Args:
        clips: in the order in which the first of several is kept.
        max_distance: clips nearer than this are copies.
    """
    hashes = np.array([list(bytes.fromhex(clip.picture_hash)) for clip in clips], dtype=np.uint8).reshape(-1, 8)
    is_kept = np.ones(len(clips), dtype=bool)
    found: dict[str, Copy] = {}
    for number, clip in enumerate(clips):
        bits = _BITS_OF_BYTE[hashes[:number] ^ hashes[number]].sum(axis=1)
        alike = np.flatnonzero((bits <= MAX_HASH_BITS) & is_kept[:number])
        distances = [1.0 - mouth_correlation(clip.mouth, clips[other].mouth) for other in alike]
        if distances:
            nearest = int(np.argmin(distances))
            found[clip.clip_id] = Copy(of=clips[alike[nearest]].clip_id, distance=round(distances[nearest], 5))
            is_kept[number] = distances[nearest] >= max_distance
    return found


def mouth_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Highest correlation of two series over all shifts that leave half of the shorter one, at least 32 frames.

    Returns:
        In [-1, 1]; 0 where a series is too short or constant.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(a) < len(b):
        a, b = b, a
    needed = max(_MIN_OVERLAP_FRAMES, len(b) // 2)
    if len(b) < needed or a.std() == 0 or b.std() == 0:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    shifts = np.arange(-(len(b) - needed), len(a) - needed + 1)  # of b's start in a
    starts, ends = np.maximum(shifts, 0), np.minimum(shifts + len(b), len(a))
    counts = ends - starts
    products = correlate(a, b, mode="full", method="fft")[shifts + len(b) - 1]
    sums_a, squares_a = _sums(a, starts, ends), _sums(a**2, starts, ends)
    sums_b, squares_b = _sums(b, starts - shifts, ends - shifts), _sums(b**2, starts - shifts, ends - shifts)
    spread = (squares_a - sums_a**2 / counts) * (squares_b - sums_b**2 / counts)
    # Stretches in which a mouth hardly moves agree with anything.
    moves = spread > (0.1 * counts) ** 2 * a.var() * b.var()
    values = np.where(moves, (products - sums_a * sums_b / counts) / np.sqrt(np.maximum(spread, 1e-30)), 0.0)
    return float(np.clip(values.max(), -1.0, 1.0))


def _sums(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    total = np.concatenate([[0.0], np.cumsum(values)])
    sums: np.ndarray = total[ends] - total[starts]
    return sums
