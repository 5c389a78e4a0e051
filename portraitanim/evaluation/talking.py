"""How near a generated talking face is to the true one, by its landmarks alone: no download is needed.

Landmarks are ``(frames, 478, 3)`` in pixels, topology mediapipe-478. A frame without a face is a frame of NaN; it is
left out, and every result says how many frames it stands on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from portraitanim.errors import InputError, ShapeError
from portraitanim.face.landmark_groups import LIP_PAIRS
from portraitanim.types import NUM_LANDMARKS

LANDMARKS_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # outline
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),  # eyebrows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips
)
"""The mesh points nearest to the 68 points of the 300-W markup, in its order."""

MOUTH_20 = LANDMARKS_68[48:]
"""The lips among them, on which published landmark distances of the mouth are computed."""

EYE_CORNERS = (33, 263)
"""The outer corners of both eyes, whose distance is the measure of a face."""

MAX_LAG_SECONDS = 0.6
_STILL_SPREAD = 2e-3
"""Standard deviation of the opening below which a mouth is still: what compression and the mesh make of a frozen
picture is a quarter of it at most, speech twenty times as much."""


@dataclass(frozen=True, kw_only=True)
class LandmarkDistance:
    """Mean distance between the landmarks of two videos, head position taken out.

    Attributes:
        pixels: as published (Chen et al. 2018, section 4): depends on the size of the picture.
        percent: of the true face's distance between the outer eye corners, for videos of any size.
        num_frames: frames with a face in both videos.
    """

    pixels: float
    percent: float
    num_frames: int


@dataclass(frozen=True, kw_only=True)
class OpeningAgreement:
    """How far a generated mouth opens when the true one does.

    Attributes:
        correlation: Pearson's, frame by frame; 0 for a generated mouth that does not move, NaN where the true one
            does not.
        best_correlation: the largest over all lags.
        lag_frames: the lag of the largest; positive when the generated mouth is late.
        lag_seconds: the same in seconds.
        num_frames: frames with a face in both videos, at lag 0.
    """

    correlation: float
    best_correlation: float
    lag_frames: int
    lag_seconds: float
    num_frames: int


def landmark_distance(
    generated: np.ndarray, true: np.ndarray, points: tuple[int, ...] = LANDMARKS_68
) -> LandmarkDistance:
    """Landmark distance (LMD) of two videos, frame by frame, in the plane of the picture.

    The mean of the chosen points is subtracted in each frame of each video, as Chen et al. 2018 ("Lip Movements
    Generation at a Glance") do, so that a shifted head costs nothing and a shape does.

    Args:
        generated: ``(frames, 478, 3)``.
        true: the same number of frames.
        points: which points; `MOUTH_20` for the mouth.

    Raises:
        ShapeError: other shapes, or different numbers of frames.
    """
    _require_pair(generated, true)
    seen = has_face(generated) & has_face(true)
    if not seen.any():
        return LandmarkDistance(pixels=math.nan, percent=math.nan, num_frames=0)
    ours, theirs = (video[seen][:, list(points), :2].astype(np.float64) for video in (generated, true))
    apart = np.linalg.norm(_centred(ours) - _centred(theirs), axis=-1).mean(axis=1)
    percent = 100 * apart / eye_distance(true[seen])
    return LandmarkDistance(
        pixels=float(apart.mean()), percent=float(percent.mean()), num_frames=int(np.count_nonzero(seen))
    )


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """Mean gap between the inner lips in distances between the outer eye corners: float64 ``(frames,)``.

    Both are measured in space, so that a turned head opens no mouth. Frames without a face are NaN.

    Raises:
        ShapeError: not landmarks.
    """
    _require_landmarks(landmarks)
    points = landmarks.astype(np.float64)
    upper, lower = (points[:, [pair[side] for pair in LIP_PAIRS]] for side in (0, 1))
    gap: np.ndarray = np.linalg.norm(upper - lower, axis=-1).mean(axis=1) / eye_distance(points)
    return gap


def opening_agreement(
    generated: np.ndarray, true: np.ndarray, fps: float, max_lag_seconds: float = MAX_LAG_SECONDS
) -> OpeningAgreement:
    """Correlation of the generated mouth opening with the true one, and the lag at which it is largest.

    Args:
        generated: mouth opening ``(frames,)`` of the generated video, see `mouth_opening`; NaN without a face.
        true: likewise of the true video, of the same length.
        fps: frames per second of both.
        max_lag_seconds: largest lag in either direction.

    Raises:
        ShapeError: the lengths differ, or are shorter than three frames.
        InputError: the rate is not positive, or the lag is negative.
    """
    if generated.shape != true.shape or generated.ndim != 1 or len(generated) < 3:
        raise ShapeError(
            f"Mouth openings must be two rows of one length of 3 frames or more, got {generated.shape}, {true.shape}."
        )
    if not fps > 0 or max_lag_seconds < 0:
        raise InputError(f"Expected a positive rate and a lag from 0 s, got {fps} per second and {max_lag_seconds} s.")
    # At least half of the frames must take part: two short ends agree by chance.
    limit = min(round(max_lag_seconds * fps), len(generated) // 2)
    by_lag = {lag: _correlation_at(generated, true, lag) for lag in range(-limit, limit + 1)}
    # Nearest to 0 first, so that equal ones do not choose a lag.
    lag = max(sorted(by_lag, key=abs), key=lambda lag: np.nan_to_num(by_lag[lag], nan=-2.0))
    return OpeningAgreement(
        correlation=by_lag[0],
        best_correlation=by_lag[lag],
        lag_frames=lag,
        lag_seconds=lag / fps,
        num_frames=int(np.count_nonzero(np.isfinite(generated) & np.isfinite(true))),
    )


def has_face(landmarks: np.ndarray) -> np.ndarray:
    """Which frames have a face: bool ``(frames,)``."""
    _require_landmarks(landmarks)
    found: np.ndarray = np.isfinite(landmarks).all(axis=(1, 2))
    return found


def eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Distance between the outer eye corners in space, in pixels: float64 ``(frames,)``."""
    left, right = (landmarks[:, corner].astype(np.float64) for corner in EYE_CORNERS)
    distance: np.ndarray = np.linalg.norm(left - right, axis=-1)
    return distance


def _correlation_at(generated: np.ndarray, true: np.ndarray, lag: int) -> float:
    """Pearson's correlation of ``generated[t + lag]`` with ``true[t]``."""
    ours = generated[max(lag, 0) : len(generated) + min(lag, 0)]
    theirs = true[max(-lag, 0) : len(true) - max(lag, 0)]
    both = np.isfinite(ours) & np.isfinite(theirs)
    if np.count_nonzero(both) < 3 or np.std(theirs[both]) < _STILL_SPREAD:
        return math.nan
    if np.std(ours[both]) < _STILL_SPREAD:
        return 0.0
    return float(np.corrcoef(ours[both], theirs[both])[0, 1])


def _centred(points: np.ndarray) -> np.ndarray:
    centred: np.ndarray = points - points.mean(axis=1, keepdims=True)
    return centred


def _require_pair(generated: np.ndarray, true: np.ndarray) -> None:
    _require_landmarks(generated)
    _require_landmarks(true)
    if len(generated) != len(true):
        raise ShapeError(
            f"Both videos must have one number of frames, got {len(generated)} and {len(true)}. Cut the longer one."
        )


def _require_landmarks(landmarks: np.ndarray) -> None:
    if landmarks.ndim != 3 or landmarks.shape[1:] != (NUM_LANDMARKS, 3):
        raise ShapeError(f"Landmarks must be (frames, {NUM_LANDMARKS}, 3), got {landmarks.shape}.")
