"""Watch a long video for drift, and lead it back to frames that were still good.

Clip after clip, each reads the last frames of the one before: a loss of sharpness or colour feeds on itself. Each clip
is measured against the first one (which shows what the networks make of this portrait) and against the portrait's
proportions. When a clip has drifted, the next one reads earlier frames that had not: those, of a few that are kept,
whose face lies nearest to the last one, so that the step is small. It waits while the eyes are shut, two clips at most.

A clip may leave the limits for another reason, such as another light, which comes back whatever is read: leading back
would then only make the video jump at every seam. What a clip is like right after a step is therefore taken as the best
that can be had, and the next step is made only when things get worse than that: a loss that feeds on itself does.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, RIGHT_EYELID_PAIRS, RIGID_POINTS
from portraitanim.face.transforms import fit_similarity

logger = logging.getLogger(__name__)

FindFace = Callable[[np.ndarray], np.ndarray | None]
"""Landmarks ``(478, 3)`` of the face in a uint8 picture ``(3, height, width)``, or ``None``."""

MIN_SHARPNESS, MAX_SHARPNESS = 0.6, 1.8
"""Sharpness in units of the first clip's, outside of which a clip has drifted."""

MAX_COLOUR_SHIFT = 6.0
"""Distance in CIE Lab of the mean colour from the first clip's; 2 is just visible."""

MAX_SHAPE_ERROR = 0.08
"""RMS distance of bony points from the portrait's, best fit, in face widths."""

OPEN_EYES = 0.6
"""Opening of the lids, in units of the portrait's, from which eyes count as open."""

WORSE = 1.25
"""Factor by which a clip must be worse than the one right after the last step before another step is made."""

NO_FACE_SEVERITY = 2.0

MAX_ANCHORS = 8
MAX_WAIT_CLIPS = 2


@dataclass(frozen=True, kw_only=True)
class ClipQuality:
    """What was measured of one clip, in its last frame where nothing else is said.

    Attributes:
        clip: number of the clip.
        sharpness: variance of the Laplacian of the upper face, in units of the first clip's; median of all frames.
        colour_shift: distance in CIE Lab of the mean colour from the first clip's.
        shape_error: RMS distance of bony face points from the portrait's in face widths; ``None`` without a face.
        eye_opening: opening of the lids in units of the portrait's; ``None`` without a face.
        severity: the worst of the measures in units of its limit.
        drifted: whether a limit was passed.
        anchored: whether the next clip was led back to earlier frames.
    """

    clip: int
    sharpness: float
    colour_shift: float
    shape_error: float | None
    eye_opening: float | None
    severity: float
    drifted: bool
    anchored: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Anchor:
    pictures: Tensor
    landmarks: np.ndarray


class DriftGuard:
    """Measures clips, and chooses the motion frames of the next one.

    Args:
        landmarks: of the portrait, ``(478, 3)`` in its pixels.
        find_face: landmarks of a made frame.
        num_motion_frames: how many frames a clip reads of the one before.
        correct: whether to lead back at all; without, clips are only measured.
    """

    def __init__(
        self, landmarks: np.ndarray, find_face: FindFace, num_motion_frames: int, *, correct: bool = True
    ) -> None:
        self._portrait = landmarks.astype(np.float64)
        self._face_width = float(np.ptp(self._portrait[:, 0]))
        left, top, right, bottom = _upper_face(self._portrait)
        self._region_px = (max(right - left, 1), max(bottom - top, 1))
        self._find_face = find_face
        self._num_motion = num_motion_frames
        self._correct = correct
        self._first: tuple[float, np.ndarray] | None = None
        self._anchors: list[_Anchor] = []
        self._waited = 0
        self._was_anchored = False
        self._best_after_anchor = 0.0
        self.clips: list[ClipQuality] = []

    def next_motion(self, number: int, frames: Tensor) -> Tensor:
        """The pictures that the clip after ``number`` reads; see `portrait_animation.NextMotion`.

        Args:
            number: of the finished clip.
            frames: ``(1, frames, 3, height, width)`` in [0, 1].
        """
        tail = frames[:, frames.shape[1] - self._num_motion :]
        points = self.measure(number, frames[0])
        quality = self.clips[-1]
        if not quality.drifted:
            self._best_after_anchor = 0.0
        elif self._was_anchored:
            self._best_after_anchor = quality.severity
        self._was_anchored = False
        if not quality.drifted:
            self._waited = 0
            is_open = quality.eye_opening is not None and quality.eye_opening >= OPEN_EYES
            if points is not None and is_open and len(self._anchors) < MAX_ANCHORS:
                self._anchors.append(_Anchor(pictures=tail.clone(), landmarks=points))
            return tail
        if not self._correct or not self._anchors or quality.severity <= WORSE * self._best_after_anchor:
            return tail
        shut = quality.eye_opening is not None and quality.eye_opening < OPEN_EYES
        if shut and self._waited < MAX_WAIT_CLIPS:
            self._waited += 1
            return tail
        self._waited, self._was_anchored = 0, True
        self.clips[-1] = replace(quality, anchored=True)
        logger.info("Clip %d has drifted; the next one starts from earlier frames.", number)
        return self._nearest(points).pictures

    def measure(self, number: int, frames: Tensor) -> np.ndarray | None:
        """Measure a clip ``(frames, 3, height, width)`` in [0, 1]; returns landmarks of its last frame, if found."""
        pictures = (frames.float().nan_to_num().cpu().numpy() * 255).round().astype(np.uint8)
        points = self._find_face(pictures[-1])
        where = self._portrait if points is None else points
        # The median of the clip: its last frame alone may be blurred by a quick move.
        sharpness = float(np.median([_sharpness(picture, where, self._region_px) for picture in pictures]))
        colour = _mean_colour(pictures[-1])
        if self._first is None:
            self._first = (max(sharpness, 1e-6), colour)
        relative = sharpness / self._first[0]
        shift = float(np.linalg.norm(colour - self._first[1]))
        shape = None if points is None else self._shape_error(points)
        severity = _severity(relative, shift, shape)
        self.clips.append(
            ClipQuality(
                clip=number,
                sharpness=relative,
                colour_shift=shift,
                shape_error=shape,
                eye_opening=None if points is None else _eye_opening(points) / max(_eye_opening(self._portrait), 1e-6),
                severity=severity,
                drifted=severity > 1 and number > 0,
                anchored=False,
            )
        )
        return points

    def summary(self) -> dict[str, Any]:
        """The worst of all clips, and how often the video was led back."""
        shapes = [clip.shape_error for clip in self.clips if clip.shape_error is not None]
        return {
            "num_clips": len(self.clips),
            "num_drifted": sum(clip.drifted for clip in self.clips),
            "num_anchored": sum(clip.anchored for clip in self.clips),
            "num_without_face": len(self.clips) - len(shapes),
            "min_sharpness": round(min((clip.sharpness for clip in self.clips), default=1.0), 4),
            "max_colour_shift": round(max((clip.colour_shift for clip in self.clips), default=0.0), 4),
            "max_shape_error": round(max(shapes), 4) if shapes else None,
        }

    def _shape_error(self, points: np.ndarray) -> float:
        bone = list(RIGID_POINTS)
        target = self._portrait[bone]
        fitted = fit_similarity(points[bone].astype(np.float64), target)
        moved = fitted.scale * points[bone] @ fitted.rotation.T
        moved += target.mean(0) - moved.mean(0)
        return float(np.sqrt(((moved - target)[:, :2] ** 2).sum(1).mean()) / self._face_width)

    def _nearest(self, points: np.ndarray | None) -> _Anchor:
        if points is None:
            return self._anchors[0]
        return min(self._anchors, key=lambda anchor: float(np.abs(anchor.landmarks - points)[:, :2].mean()))


def _severity(sharpness: float, colour_shift: float, shape_error: float | None) -> float:
    """The worst of the measures in units of its limit."""
    change = math.log(max(sharpness, 1e-6))
    blur = change / math.log(MIN_SHARPNESS if change < 0 else MAX_SHARPNESS)
    shape = NO_FACE_SEVERITY if shape_error is None else shape_error / MAX_SHAPE_ERROR
    return max(blur, colour_shift / MAX_COLOUR_SHIFT, shape)


def _upper_face(landmarks: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the bony points, which move little."""
    low, high = landmarks[list(RIGID_POINTS), :2].min(0), landmarks[list(RIGID_POINTS), :2].max(0)
    left, top = np.maximum(low.astype(int), 0).tolist()
    right, bottom = (high.astype(int) + 1).tolist()
    return left, top, right, bottom


def _sharpness(picture: np.ndarray, landmarks: np.ndarray, size_px: tuple[int, int]) -> float:
    """Variance of the Laplacian of the upper face, wherever it is, brought to (width, height) of the portrait's."""
    left, top, right, bottom = _upper_face(landmarks)
    grey = cv2.cvtColor(np.ascontiguousarray(picture.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    region = grey[top:bottom, left:right]
    if region.size and region.shape != (size_px[1], size_px[0]):
        region = np.asarray(cv2.resize(region, size_px, interpolation=cv2.INTER_AREA))
    return float(cv2.Laplacian(region if region.size else grey, cv2.CV_64F).var())


def _mean_colour(picture: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(np.ascontiguousarray(picture.transpose(1, 2, 0)).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    mean: np.ndarray = lab.reshape(-1, 3).mean(0)
    return mean


def _eye_opening(points: np.ndarray) -> float:
    pairs = np.array([*LEFT_EYELID_PAIRS, *RIGHT_EYELID_PAIRS])
    gaps = np.linalg.norm(points[pairs[:, 0], :2] - points[pairs[:, 1], :2], axis=1)
    return float(gaps.mean() / max(float(np.ptp(points[:, 0])), 1e-6))
