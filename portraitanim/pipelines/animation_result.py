"""What came of an animation, with units."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class AnimationResult:
    """A finished video.

    Attributes:
        output: the video.
        sidecar: the JSON file beside it, or ``None``.
        preview: the contact sheet, or ``None``.
        mode: what drove.
        weights: name or folder of the weights.
        preset: the system they belong to.
        seed: of the noise.
        num_frames: frames of the video.
        fps: frames per second.
        width_px: of the video.
        height_px: of the video.
        compute_seconds: from the first file read to the finished video, without loading weights.
        first_frame_seconds: until the first frame existed.
        num_restored_clips: clips that an interrupted run had made.
        peak_host_bytes: most memory this process has held so far.
        peak_device_bytes: most memory on the GPU, or ``None`` on a CPU.
        face: which face was taken.
        notes: what a person should know.
        drift: what the drift guard measured, or ``None`` where it was off.
    """

    output: Path
    sidecar: Path | None
    preview: Path | None
    mode: str
    weights: str
    preset: str
    seed: int
    num_frames: int
    fps: float
    width_px: int
    height_px: int
    compute_seconds: float
    first_frame_seconds: float
    num_restored_clips: int
    peak_host_bytes: int
    peak_device_bytes: int | None
    face: str
    notes: tuple[str, ...] = ()
    drift: dict[str, Any] | None = None

    @property
    def duration_seconds(self) -> float:
        """Length of the video."""
        return self.num_frames / self.fps

    @property
    def seconds_per_frame(self) -> float:
        """Time that one frame took, everything included."""
        return self.compute_seconds / self.num_frames

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
        values["duration_seconds"] = round(self.duration_seconds, 4)
        values["seconds_per_frame"] = round(self.seconds_per_frame, 5)
        return values


def peak_host_bytes() -> int:
    """Most memory that this process has held in RAM so far."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes(device: torch.device) -> int | None:
    """Most memory that torch has held on a GPU so far; ``None`` elsewhere."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
