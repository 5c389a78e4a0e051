"""Does a video hold still where it should: flicker from frame to frame, drift from its start to its end.

Both take the pictures of `portraitanim.evaluation.aligned_face`, so that neither counts the motion of the head. Both
are also non-zero for a real video: read them beside its own value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import laplace

from portraitanim.errors import InputError

_START_SECONDS = 1.0
# Rec. 709 luma.
_LUMA = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How a face's look leaves that of the first second.

    Attributes:
        colour_shift: distance of the mean colour of the last second from that of the first, 0 to 441 (RGB, 0 to 255).
        colour_shift_per_minute: length of the slope of the mean colour over the whole video.
        contrast_ratio: standard deviation of the luma, last second over first.
        sharpness_ratio: mean absolute Laplacian of the luma, last second over first; below 1 is blurred.
        seconds: time between the middles of the two.
    """

    colour_shift: float
    colour_shift_per_minute: float
    contrast_ratio: float
    sharpness_ratio: float
    seconds: float


class FlickerMeter:
    """Mean absolute second difference over time, 0 to 510, on the scale 0 to 255 of pixels.

    A steady change of light or pose has none; a value that jumps up and back has twice its jump. Frames come one by
    one; three are kept.
    """

    def __init__(self) -> None:
        self._last: list[np.ndarray] = []
        self._sum = 0.0
        self._num_differences = 0

    def add(self, frame: np.ndarray | None) -> None:
        """Take the next frame, uint8 ``(3, height, width)``; ``None`` (no face) starts anew."""
        if frame is None:
            self._last.clear()
            return
        self._last.append(frame.astype(np.int16))
        if len(self._last) == 3:
            before, here, after = self._last
            self._sum += float(np.abs(before - 2 * here + after).mean())
            self._num_differences += 1
            self._last.pop(0)

    @property
    def flicker(self) -> float:
        """The mean so far, NaN before three frames in a row."""
        return self._sum / self._num_differences if self._num_differences else math.nan


class DriftMeter:
    """Measures `Drift` frame by frame; five numbers are kept of each.

    Args:
        fps: frames per second.

    Raises:
        InputError: the rate is not positive.
    """

    def __init__(self, fps: float) -> None:
        if not fps > 0:
            raise InputError(f"Frames per second must be positive, got {fps}.")
        self._fps = fps
        self._looks: list[tuple[float, ...]] = []
        self._num_frames = 0

    def add(self, frame: np.ndarray | None) -> None:
        """Take the next frame, uint8 ``(3, height, width)``, or ``None`` without a face."""
        seconds = self._num_frames / self._fps
        self._num_frames += 1
        if frame is None:
            return
        luma = np.tensordot(_LUMA, frame.astype(np.float64), axes=1)
        self._looks.append(
            (seconds, *frame.mean(axis=(1, 2)).tolist(), float(luma.std()), float(np.abs(laplace(luma)).mean()))
        )

    @property
    def drift(self) -> Drift | None:
        """What was seen so far; ``None`` for a video below two seconds, whose start and end are the same."""
        if not self._looks or self._looks[-1][0] + 1 / self._fps < 2 * _START_SECONDS:
            return None
        looks = np.array(self._looks)
        times, colours = looks[:, 0], looks[:, 1:4]
        is_start, is_end = times < _START_SECONDS, times > times[-1] - _START_SECONDS
        if not is_start.any():
            return None
        start, end = looks[is_start].mean(axis=0), looks[is_end].mean(axis=0)
        return Drift(
            colour_shift=float(np.linalg.norm(end[1:4] - start[1:4])),
            colour_shift_per_minute=float(60 * np.linalg.norm(np.polyfit(times, colours, 1)[0])),
            contrast_ratio=float(end[4] / max(start[4], 1e-9)),
            sharpness_ratio=float(end[5] / max(start[5], 1e-9)),
            seconds=float(end[0] - start[0]),
        )
