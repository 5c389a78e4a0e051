"""A prepared dataset of half a second, for tests of what animates held-out clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from portraitanim.data.records import ClipRecord, write_manifest
from portraitanim.media.image import load_image, resize_image
from portraitanim.media.video_writer import VideoWriter
from tests.examples import PORTRAIT, SPEECH

_SIDE_PX = 128
_NUM_FRAMES = 12


def write_dataset(root: Path) -> Path:
    """One test clip, the example portrait swaying, and one clip for training; returns ``root``."""
    portrait = resize_image(load_image(PORTRAIT)[:, :400, :400], _SIDE_PX, _SIDE_PX)
    records = []
    for name, split in (("seen", "train"), ("unseen", "test")):
        folder = root / "clips" / name
        folder.mkdir(parents=True)
        with VideoWriter(folder / "video.mp4", 25, audio=SPEECH) as writer:
            for number in range(_NUM_FRAMES):
                writer.write(np.roll(portrait, number // 4, axis=2))
        paths = {"video": f"clips/{name}/video.mp4", "face": f"clips/{name}/face.safetensors"}
        records.append(
            ClipRecord(
                clip_id=name, identity=name, split=split, num_frames=_NUM_FRAMES, fps=25, size_px=_SIDE_PX, **paths
            )
        )
    write_manifest(root, records)
    return root
