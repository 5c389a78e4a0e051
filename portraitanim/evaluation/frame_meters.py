"""What takes two videos frame by frame and keeps numbers only: pixels, and features for Fréchet distances."""

from __future__ import annotations

import math
from typing import Protocol, cast

import numpy as np
import torch

from portraitanim.errors import ShapeError
from portraitanim.evaluation.clip_result import SIDES
from portraitanim.evaluation.image_quality import SsimSettings, SsimWindow, mean_squared_error, psnr_of_error, ssim
from portraitanim.evaluation.judges import Judges
from portraitanim.evaluation.protocol import EvaluationProtocol
from portraitanim.models.evaluators.inputs import FidFlavour, FvdFlavour, i3d_input, inception_input

_BATCH_FRAMES = 16

Values = dict[str, float | None]


class FrameMeter(Protocol):
    """Measures while frames pass by."""

    def add(self, generated: np.ndarray, true: np.ndarray) -> None:
        """Take the next frame of both, uint8 RGB ``(3, height, width)``."""

    def values(self) -> tuple[Values, Values]:
        """Metrics of the generated clip, and of the true one where they exist for it; ``None`` has no value."""

    def features(self) -> dict[str, np.ndarray]:
        """Features for distances between sets, float32, by ``metric.side``."""

    def notes(self) -> list[str]:
        """What should be known about the values."""


class PixelMeter:
    """SSIM, PSNR and LPIPS.

    Args:
        protocol: which of them, and how.
        judges: has LPIPS.
    """

    def __init__(self, protocol: EvaluationProtocol, judges: Judges) -> None:
        self._wanted = protocol.metrics
        self._settings = SsimSettings(window=cast("SsimWindow", protocol.ssim_window), grey=protocol.ssim_grey)
        self._judges = judges
        self._ssim: list[float] = []
        self._psnr: list[float] = []
        self._lpips: list[float] = []
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, generated: np.ndarray, true: np.ndarray) -> None:
        """See `FrameMeter`.

        Raises:
            ShapeError: the frames have different sizes.
        """
        if generated.shape != true.shape:
            raise ShapeError(
                f"The generated video is {_size(generated)} and the true one {_size(true)}: nothing is scaled without "
                "being asked. Use --size to compare both at one size."
            )
        if "ssim" in self._wanted:
            self._ssim.append(ssim(generated, true, self._settings))
        if "psnr" in self._wanted:
            self._psnr.append(psnr_of_error(mean_squared_error(generated, true)))
        if "lpips" in self._wanted:
            self._waiting.append((generated, true))
            if len(self._waiting) == _BATCH_FRAMES:
                self._measure_waiting()

    def values(self) -> tuple[Values, Values]:
        """See `FrameMeter`. PSNR is the mean over frames that differ; where none does, it has no value."""
        self._measure_waiting()
        finite = [value for value in self._psnr if math.isfinite(value)]
        found: Values = {"ssim": _mean(self._ssim), "psnr": _mean(finite), "lpips": _mean(self._lpips)}
        return {name: value for name, value in found.items() if name in self._wanted}, {}

    def features(self) -> dict[str, np.ndarray]:
        """None."""
        return {}

    def notes(self) -> list[str]:
        """How many frames are equal, since their PSNR is infinite."""
        num_equal = sum(math.isinf(value) for value in self._psnr)
        if not num_equal:
            return []
        return [f"{num_equal} of {len(self._psnr)} frames equal the true ones; their PSNR is infinite and left out"]

    def _measure_waiting(self) -> None:
        if not self._waiting:
            return
        ours, theirs = (
            torch.from_numpy(np.stack(side)).to(self._judges.device).float() / 127.5 - 1
            for side in zip(*self._waiting, strict=True)
        )
        self._lpips += self._judges.lpips(ours, theirs).cpu().tolist()
        self._waiting.clear()


class InceptionMeter:
    """Features of every frame for FID, 2048 numbers each."""

    def __init__(self, protocol: EvaluationProtocol, judges: Judges) -> None:
        self._flavour = cast("FidFlavour", protocol.fid_flavour)
        self._judges = judges
        self._waiting: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
        self._done: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}

    def add(self, generated: np.ndarray, true: np.ndarray) -> None:
        """See `FrameMeter`."""
        for side, frame in zip(SIDES, (generated, true), strict=True):
            self._waiting[side].append(frame)
            if len(self._waiting[side]) == _BATCH_FRAMES:
                self._measure_waiting(side)

    def values(self) -> tuple[Values, Values]:
        """None: FID is of the whole set."""
        return {}, {}

    def features(self) -> dict[str, np.ndarray]:
        """See `FrameMeter`."""
        for side in SIDES:
            self._measure_waiting(side)
        return {f"fid.{side}": np.concatenate(self._done[side]) for side in SIDES if self._done[side]}

    def notes(self) -> list[str]:
        """None."""
        return []

    def _measure_waiting(self, side: str) -> None:
        if not self._waiting[side]:
            return
        pixels = inception_input(np.stack(self._waiting[side]), self._flavour).to(self._judges.device)
        self._done[side].append(self._judges.inception(pixels).cpu().numpy())
        self._waiting[side].clear()


class I3DMeter:
    """Class scores of short clips for FVD, 400 numbers each."""

    def __init__(self, protocol: EvaluationProtocol, judges: Judges) -> None:
        self._flavour = cast("FvdFlavour", protocol.fvd_flavour)
        self._length, self._stride = protocol.fvd_frames, protocol.fvd_stride
        self._judges = judges
        self._window: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
        self._done: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
        self._num_frames = 0

    def add(self, generated: np.ndarray, true: np.ndarray) -> None:
        """See `FrameMeter`."""
        self._num_frames += 1
        # Frames between the end of a window and the start of a later one are in none.
        start = (self._num_frames - 1) % self._stride
        for side, frame in zip(SIDES, (generated, true), strict=True):
            if self._stride > self._length and start >= self._length:
                continue
            self._window[side].append(frame)
            if len(self._window[side]) == self._length:
                clip = i3d_input(np.stack(self._window[side]), self._flavour)[None].to(self._judges.device)
                self._done[side].append(self._judges.i3d(clip).cpu().numpy())
                del self._window[side][: self._stride]

    def values(self) -> tuple[Values, Values]:
        """None: FVD is of the whole set."""
        return {}, {}

    def features(self) -> dict[str, np.ndarray]:
        """See `FrameMeter`."""
        return {f"fvd.{side}": np.concatenate(self._done[side]) for side in SIDES if self._done[side]}

    def notes(self) -> list[str]:
        """Whether the clip was too short."""
        if self._done["generated"]:
            return []
        return [f"{self._num_frames} frames are fewer than the {self._length} of an FVD sample; not in FVD"]


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _size(frame: np.ndarray) -> str:
    return f"{frame.shape[2]}x{frame.shape[1]}"
