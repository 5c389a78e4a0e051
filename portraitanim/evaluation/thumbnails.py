"""A few frames of both videos as one picture, chosen while frames pass by."""

from __future__ import annotations

import numpy as np

from portraitanim.media.image import resize_image

NUM_SHOWN = 6
_HEIGHT_PX = 128


class ThumbnailStrip:
    """Evenly spaced frames of a video of unknown length: when too many are kept, every other one goes."""

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []
        self._step = 1
        self._num_frames = 0

    def add(self, generated: np.ndarray, true: np.ndarray) -> None:
        """Take the next frame of both, uint8 ``(3, height, width)``."""
        if self._num_frames % self._step == 0:
            if len(self._kept) == 2 * NUM_SHOWN:
                self._kept = self._kept[::2]
                self._step *= 2
            if self._num_frames % self._step == 0:
                self._kept.append(_stacked(generated, true))
        self._num_frames += 1

    def picture(self) -> np.ndarray:
        """At most six columns, generated above true: uint8 ``(3, 256, width)``."""
        places = np.unique(np.linspace(0, len(self._kept) - 1, NUM_SHOWN).round().astype(int))
        return np.concatenate([self._kept[place] for place in places], axis=2)


def _stacked(generated: np.ndarray, true: np.ndarray) -> np.ndarray:
    pair = [resize_image(frame, _HEIGHT_PX, _width(frame)) for frame in (generated, true)]
    width = max(frame.shape[2] for frame in pair)
    padded = [np.pad(frame, ((0, 0), (0, 0), (0, width - frame.shape[2]))) for frame in pair]
    return np.concatenate(padded, axis=1)


def _width(frame: np.ndarray) -> int:
    return max(1, round(frame.shape[2] * _HEIGHT_PX / frame.shape[1]))
