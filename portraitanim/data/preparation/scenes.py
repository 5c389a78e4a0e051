"""Where a video is cut: PySceneDetect on frames at the dataset's rate, and the parts that scenes are made into."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from portraitanim.config.preparation import SceneConfig

_DETECTOR_WIDTH_PX = 256


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A stretch without a cut, to be measured.

    Attributes:
        index: number of the candidate in its source, from 0.
        start_frame: first frame, counted from the start of the source at the dataset's rate.
        num_frames: how many frames.
        content_change: largest change from frame to frame inside, 0..255, as PySceneDetect measures it.
    """

    index: int
    start_frame: int
    num_frames: int
    content_change: float


class SceneCutter:
    """Finds cuts in frames that come one by one.

    Args:
        fps: frames per second.
        config: thresholds and lengths.
    """

    def __init__(self, fps: float, config: SceneConfig) -> None:
        from scenedetect import FrameTimecode, StatsManager
        from scenedetect.detectors import AdaptiveDetector

        self._fps = float(fps)
        self._config = config
        self._time_code = FrameTimecode
        self._detector = AdaptiveDetector(
            adaptive_threshold=config.cut_ratio, min_content_val=config.min_content_change, min_scene_len=1
        )
        self._detector.stats_manager = self._stats = StatsManager()
        self._cuts: list[int] = []
        self.num_frames = 0

    def add(self, image: np.ndarray) -> None:
        """Look at the next frame, uint8 RGB ``(3, height, width)``."""
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        height, width = pixels.shape[:2]
        if width > _DETECTOR_WIDTH_PX:
            size = (_DETECTOR_WIDTH_PX, max(1, round(height * _DETECTOR_WIDTH_PX / width)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        code = self._time_code(self.num_frames, self._fps)
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        self._cuts += [cut.frame_num for cut in self._detector.process_frame(code, bgr)]
        self.num_frames += 1

    def candidates(self) -> list[Candidate]:
        """What the frames so far are cut into."""
        changes = [self._change(frame) for frame in range(self.num_frames)]
        return cut_into_candidates(changes, self._cuts, self._fps, self._config)

    def _change(self, frame: int) -> float:
        """Change from the frame before to this one."""
        key = self._detector.FRAME_SCORE_KEY
        code = self._time_code(frame, self._fps)
        if frame == 0 or not self._stats.metrics_exist(code, [key]):
            return 0.0
        return float(self._stats.get_metrics(code, [key])[0])


def cut_into_candidates(
    changes: Sequence[float], cuts: Iterable[int], fps: float, config: SceneConfig
) -> list[Candidate]:
    """Scenes between cuts, without the frames beside a cut, long ones in equal parts.

    Args:
        changes: change from the frame before, for every frame.
        cuts: first frames of new scenes.
        fps: frames per second.
        config: lengths.

    Returns:
        Candidates in order; scenes too short for a frame give none.
    """
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(changes)}), len(changes)]
    longest = max(1, int(config.max_seconds * fps))
    found: list[Candidate] = []
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        start += config.num_frames_beside_cut if number > 0 else 0
        end -= config.num_frames_beside_cut if number < len(edges) - 2 else 0
        if end <= start:
            continue
        num_parts = math.ceil((end - start) / longest)
        bounds = [start + (end - start) * part // num_parts for part in range(num_parts + 1)]
        for first, last in itertools.pairwise(bounds):
            found.append(
                Candidate(
                    index=len(found),
                    start_frame=first,
                    num_frames=last - first,
                    content_change=float(max(changes[first + 1 : last], default=0.0)),
                )
            )
    return found
