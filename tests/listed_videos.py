"""A talking picture with sound, and annotation files in the published forms that list it, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from portraitanim.media.image import load_image, resize_image
from portraitanim.media.video_writer import VideoWriter
from tests.examples import PORTRAIT, SPEECH

NUM_FRAMES = 30
FPS = 25
WIDTH_PX, HEIGHT_PX = 240, 160


def write_video(path: Path, num_frames: int = NUM_FRAMES) -> Path:
    """The example portrait at the right of a grey picture, swaying, with speech."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, FPS, audio=SPEECH) as writer:
        for frame in _frames(num_frames):
            writer.write(frame)
    return path


def write_hdtf(folder: Path, names: dict[str, str], crop: str = "") -> Path:
    """HDTF's files of the subset RD: video → its intervals, such as ``0:00-0:01``."""
    folder.mkdir(parents=True, exist_ok=True)
    times = "".join(f"{name}.mp4 {intervals}\n" for name, intervals in names.items())
    (folder / "RD_annotion_time.txt").write_text(times)
    if crop:
        (folder / "RD_crop_wh.txt").write_text("".join(f"{name}_0.mp4 {crop}\n" for name in names))
        (folder / "RD_resolution.txt").write_text("".join(f"{name}.mp4 {HEIGHT_PX}\n" for name in names))
    return folder


def write_celebv(path: Path, ids: list[str], box: dict[str, float]) -> Path:
    """CelebV's JSON: one clip of each video, from its first second on."""
    clips = {f"{name}_0": {"ytb_id": name, "duration": {"start_sec": 0.0, "end_sec": 1.2}, "bbox": box} for name in ids}
    path.write_text(json.dumps({"clips": clips}))
    return path


def _frames(count: int) -> Iterator[np.ndarray]:
    portrait = resize_image(load_image(PORTRAIT)[:, :400, :400], HEIGHT_PX, HEIGHT_PX)
    for number in range(count):
        frame = np.full((3, HEIGHT_PX, WIDTH_PX), 90, np.uint8)
        frame[:, :, WIDTH_PX - HEIGHT_PX :] = np.roll(portrait, number % 5, axis=2)
        yield frame
