"""Made frames on their way to the file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from portraitanim.media.video_writer import VideoWriter
from portraitanim.pipelines.animation_inputs import AnimationInputs
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline


@dataclass
class FrameOutput:
    """Counts frames on their way to the file, and keeps a few for the preview."""

    writer: VideoWriter
    inputs: AnimationInputs
    paste_back: bool
    preview_at: set[int]
    started: float
    num_frames: int = 0
    first_frame_seconds: float = 0.0
    previews: list[np.ndarray] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)

    def write(self, frame: np.ndarray) -> None:
        """Take the next frame, uint8 ``(3, height, width)``: into the whole picture where asked, and to the file."""
        if self.num_frames == 0:
            self.first_frame_seconds = time.perf_counter() - self.started
        if self.paste_back:
            frame = self.inputs.portrait.crop.paste(frame, self.inputs.portrait.original)
        if self.num_frames in self.preview_at:
            self.previews.append(frame)
        self.writer.write(frame)
        self.size = (frame.shape[1], frame.shape[2])
        self.num_frames += 1


@contextmanager
def debug_views(folder: Path | None, inputs: AnimationInputs, pipeline: PortraitAnimationPipeline) -> Iterator[None]:
    """Write pictures of the intermediate steps of what the block makes, or nothing."""
    if folder is None:
        yield
        return
    from portraitanim.pipelines.debug_views import recorded_region_maps, write_debug_views

    write_debug_views(folder, inputs)
    with recorded_region_maps(pipeline.denoising_unet) as maps:
        yield
    maps.write(folder, inputs.portrait.image)
