"""How much a face moves of itself: blinks, turns of the head, expressions. No true video is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import percentile_filter
from scipy.spatial.transform import Rotation

from portraitanim.errors import InputError
from portraitanim.evaluation.talking import eye_distance, has_face
from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, NUM_MESH_POINTS, RIGHT_EYELID_PAIRS, RIGID_POINTS
from portraitanim.face.transforms import fit_similarity

_EYE_CORNERS = ((33, 133), (362, 263))
# An eye is shut below this share of its usual opening; the usual one is that of the seconds around.
_SHUT_SHARE, _USUAL_PERCENTILE, _USUAL_SECONDS = 0.6, 75, 3.0
# Longer ones are eyes kept shut or looking down, not blinks.
_MAX_BLINK_SECONDS = 0.7


@dataclass(frozen=True, kw_only=True)
class Blinks:
    """Blinks of a video.

    Attributes:
        count: how many.
        per_minute: their rate; people who talk blink some 10 to 30 times a minute.
        mean_seconds: how long the eyes are shut, NaN without a blink.
        seconds: length of the video with a face in it.
    """

    count: int
    per_minute: float
    mean_seconds: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class HeadMotion:
    """How much a head turns and a face changes; the larger, the livelier.

    Attributes:
        pose_degrees: root mean square angle between the head's pose and its mean pose.
        pitch_degrees: standard deviation of nodding.
        yaw_degrees: of turning.
        roll_degrees: of tilting.
        expression_percent: root mean square distance of the points from their mean place on the head, in per cent
            of the distance between the outer eye corners.
        num_frames: frames with a face.
    """

    pose_degrees: float
    pitch_degrees: float
    yaw_degrees: float
    roll_degrees: float
    expression_percent: float
    num_frames: int


def eye_openness(landmarks: np.ndarray) -> np.ndarray:
    """Gap between the lids in widths of the eye, mean of both eyes: float64 ``(frames,)``, NaN without a face."""
    points = landmarks.astype(np.float64)
    has_face(landmarks)
    eyes = []
    for pairs, (outer, inner) in zip((RIGHT_EYELID_PAIRS, LEFT_EYELID_PAIRS), _EYE_CORNERS, strict=True):
        upper, lower = (points[:, [pair[side] for pair in pairs]] for side in (0, 1))
        width = np.linalg.norm(points[:, outer] - points[:, inner], axis=-1)
        eyes.append(np.linalg.norm(upper - lower, axis=-1).mean(axis=1) / width)
    openness: np.ndarray = np.mean(eyes, axis=0)
    return openness


def count_blinks(openness: np.ndarray, fps: float) -> Blinks:
    """Count the blinks in a row of eye openings.

    A blink is a run of frames below 60 per cent of the usual opening that ends within 0.7 s. A run that the start or
    the end of the video, or a lost face, cuts off is not counted.

    Args:
        openness: ``(frames,)``, see `eye_openness`.
        fps: frames per second.

    Raises:
        InputError: the rate is not positive.
    """
    if not fps > 0:
        raise InputError(f"Frames per second must be positive, got {fps}.")
    seen = np.isfinite(openness)
    seconds = float(np.count_nonzero(seen) / fps)
    if not seen.any():
        return Blinks(count=0, per_minute=math.nan, mean_seconds=math.nan, seconds=0.0)
    usual = percentile_filter(openness[seen], _USUAL_PERCENTILE, size=max(3, round(_USUAL_SECONDS * fps)))
    shut = np.zeros(len(openness), dtype=int)
    shut[seen] = openness[seen] < _SHUT_SHARE * usual
    edges = np.diff(np.concatenate([[0], shut, [0]]))
    lengths = []
    for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        is_whole = start > 0 and stop < len(openness) and seen[start - 1] and seen[stop]
        if is_whole and (stop - start) / fps <= _MAX_BLINK_SECONDS:
            lengths.append((stop - start) / fps)
    return Blinks(
        count=len(lengths),
        per_minute=60 * len(lengths) / seconds,
        mean_seconds=float(np.mean(lengths)) if lengths else math.nan,
        seconds=seconds,
    )


def head_motion(landmarks: np.ndarray) -> HeadMotion:
    """Spread of head pose and expression over a video.

    The pose of a frame is the rotation that fits the points on bone to their shape; what is left after it, with
    position and size, is the expression.

    Args:
        landmarks: ``(frames, 478, 3)``; frames without a face are NaN.
    """
    points = landmarks[has_face(landmarks)][:, :NUM_MESH_POINTS].astype(np.float64)
    if len(points) < 2:
        nan = math.nan
        return HeadMotion(
            pose_degrees=nan,
            pitch_degrees=nan,
            yaw_degrees=nan,
            roll_degrees=nan,
            expression_percent=nan,
            num_frames=len(points),
        )
    shape = points[0]
    for _ in range(2):  # the first frame is replaced by the mean shape
        placed = np.stack([_placed_on(shape, frame) for frame in points])
        shape = placed.mean(axis=0)
    rigid = list(RIGID_POINTS)
    rotations = Rotation.from_matrix([fit_similarity(shape[rigid], frame[rigid]).rotation for frame in points])
    # Axes of the picture: x right, y down, z away.
    turns = np.degrees((rotations.mean().inv() * rotations).as_rotvec())
    scale = eye_distance(shape[None])[0]
    deviation = np.linalg.norm(placed - shape, axis=-1)
    return HeadMotion(
        pose_degrees=float(np.sqrt((turns**2).sum(axis=1).mean())),
        pitch_degrees=float(turns[:, 0].std()),
        yaw_degrees=float(turns[:, 1].std()),
        roll_degrees=float(turns[:, 2].std()),
        expression_percent=float(100 * np.sqrt((deviation**2).mean()) / scale),
        num_frames=len(points),
    )


def _placed_on(shape: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """A frame's points moved so that its bones lie on those of the shape."""
    rigid = list(RIGID_POINTS)
    fit = fit_similarity(frame[rigid], shape[rigid])
    placed: np.ndarray = fit.scale * frame @ fit.rotation.T + fit.translation
    return placed
