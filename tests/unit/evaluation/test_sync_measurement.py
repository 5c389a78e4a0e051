"""Where SyncNet looks, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from portraitanim.data.lip_sync import boxes_at
from portraitanim.errors import FaceError, MediaError
from portraitanim.evaluation.judges import Judges
from portraitanim.evaluation.protocol import EvaluationProtocol
from portraitanim.evaluation.sync_measurement import measure_sync
from portraitanim.media.video_writer import VideoWriter
from tests.examples import SPEECH
from tests.unit.evaluation.made_up_faces import face


def _track(num_frames: int) -> np.ndarray:
    """A face that moves two pixels to the right in each frame."""
    return np.stack([face() + np.array([2 * number, 0, 0]) for number in range(num_frames)])


def test_boxes_are_the_bounds_of_the_landmarks_at_25_frames_per_second() -> None:
    track = _track(61)
    boxes = boxes_at(track, fps=50, num_frames=30)
    np.testing.assert_allclose(boxes[:, 0], track[:60:2, :, 0].min(axis=1))
    np.testing.assert_allclose(boxes[:, 3], track[:60:2, :, 1].max(axis=1))


def test_short_gaps_are_bridged_on_a_line_and_long_ones_refused() -> None:
    track = _track(80)
    whole = boxes_at(track, 25, 80)
    track[30:40] = np.nan
    np.testing.assert_allclose(boxes_at(track, 25, 80), whole)
    track[30:60] = np.nan
    with pytest.raises(FaceError, match=r"lost for 1\.2 s"):
        boxes_at(track, 25, 80)
    with pytest.raises(FaceError, match="no face"):
        boxes_at(np.full((10, 478, 3), np.nan), 25, 10)


@pytest.mark.parametrize(("has_sound", "num_frames", "message"), [(False, 30, "sound"), (True, 5, "too short")])
def test_videos_without_sound_or_of_a_blink_are_refused(
    tmp_path: Path, has_sound: bool, num_frames: int, message: str
) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 25, audio=SPEECH if has_sound else None) as writer:
        for _ in range(num_frames):
            writer.write(np.zeros((3, 64, 64), np.uint8))
    judges = Judges(EvaluationProtocol(), {})
    with pytest.raises(MediaError, match=message):
        measure_sync(tmp_path / "clip.mp4", None, _track(num_frames), 25, judges)
