"""How much a faster video differs from the first of several, on the same seed, portrait and sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from portraitanim.benchmarking.report import SCHEMA_VERSION
from portraitanim.benchmarking.runner import OpenAnimator, long_sound
from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.errors import InputError
from portraitanim.face.landmark_groups import MOUTH
from portraitanim.face.landmarks import FaceMesh
from portraitanim.progress import ProgressTask

PictureMeter = Callable[[np.ndarray, np.ndarray], float]
"""Compares two uint8 pictures ``(3, height, width)``."""

MAX_PSNR_DB = 100.0
"""Stands for equal pictures, whose PSNR is infinite."""


@dataclass(frozen=True, kw_only=True)
class QualityMeters:
    """What compares pictures; given from outside, as measuring is not this package's business.

    Attributes:
        psnr: in dB.
        ssim: 1 for equal pictures.
        lpips: distance of pictures ``(batch, 3, height, width)`` in [-1, 1], or ``None`` where it is not installed.
    """

    psnr: PictureMeter
    ssim: PictureMeter
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One video against the first.

    Attributes:
        label: of its scenario.
        baseline: label of the first scenario of the same system, size and length.
        psnr_db: mean over the frames.
        ssim: mean over the frames.
        lpips: mean over the frames, or ``None`` where it is not installed.
        lip_distance: mean distance of the mouth's landmarks in face widths, over frames that show a face in both
            videos; ``None`` where there is none.
        num_faces: such frames.
        num_frames: frames of the video.
        latent_drift: for each clip, distance of the latents in units of the first video's: whether it grows with time.
        notes: what the speed changes.
    """

    label: str
    baseline: str
    psnr_db: float
    ssim: float
    lpips: float | None
    lip_distance: float | None
    num_faces: int
    num_frames: int
    latent_drift: tuple[float, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """The differences of a run of ``bench --quality``, in the order of its scenarios."""

    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"schema_version": SCHEMA_VERSION, "differences": [asdict(item) for item in self.differences]}


@dataclass
class _Video:
    """The frames of a video ``(frames, 3, height, width)`` and the latents of its clips. A `ClipStore`."""

    frames: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, 1, 1), np.uint8))
    latents: list[Tensor] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def load(self, number: int) -> None:
        del number

    def save(self, number: int, latents: Tensor, generator_state: Tensor | None) -> None:
        del number, generator_state
        self.latents.append(latents.float().cpu())

    def load_step(self, number: int) -> None:
        del number

    def save_step(self, number: int, num_steps_done: int, latents: Tensor) -> None:
        del number, num_steps_done, latents


def measure_quality(
    scenarios: Sequence[Scenario],
    open_animator: OpenAnimator,
    portrait: Path,
    audio: Path,
    meters: QualityMeters,
    task: ProgressTask | None = None,
) -> QualityReport:
    """Make a video of each scenario, and compare those of one system, size and length with the first of them.

    Where the first is at another speed than ``exact``, the exact one is made before it.

    Args:
        scenarios: at least two that can be compared.
        open_animator: makes the animator of a scenario.
        portrait: a picture with a face.
        audio: a sound, which is repeated until it is long enough.
        meters: what compares.
        task: told each video.

    Raises:
        InputError: there is nothing to compare with.
    """
    groups: dict[tuple[object, ...], list[Scenario]] = {}
    for scenario in scenarios:
        groups.setdefault((scenario.preset, scenario.size_px, scenario.num_frames), []).append(scenario)
    for group in groups.values():
        if group[0].speed != "exact":
            group.insert(0, replace(group[0], speed="exact"))
        if len(group) < 2:
            raise InputError(f"--quality has nothing to compare {group[0].label} with. Give --speed balanced, or two.")
    found: list[Difference] = []
    with FaceMesh(thorough=False) as mesh:
        for group in groups.values():
            first: _Video | None = None
            for scenario in group:
                video = _make(scenario, open_animator, portrait, audio)
                if first is None:
                    first = video
                else:
                    found.append(_difference(group[0].label, scenario.label, first, video, meters, mesh))
                if task is not None:
                    task.advance()
    return QualityReport(differences=tuple(found))


def _make(scenario: Scenario, open_animator: OpenAnimator, portrait: Path, audio: Path) -> _Video:
    animator = open_animator(scenario)
    plan = animator.plan(audio, None, scenario.animation_options(25.0))
    options = replace(scenario.animation_options(plan.sampling.fps), drift_guard=False)  # it would act in one alone
    video = _Video(notes=plan.notes)
    with TemporaryDirectory(prefix="portraitanim-bench-") as folder:
        sound = long_sound(audio, scenario.num_frames / plan.sampling.fps, Path(folder))
        video.frames = np.stack(list(animator.stream(portrait, sound, options=options, clip_store=video)))
    return video


def _difference(
    baseline: str, label: str, first: _Video, second: _Video, meters: QualityMeters, mesh: FaceMesh
) -> Difference:
    pairs = list(zip(first.frames, second.frames, strict=True))
    lips = [distance for distance in (_lip_distance(mesh, *pair) for pair in pairs) if distance is not None]
    return Difference(
        label=label,
        baseline=baseline,
        psnr_db=mean(min(meters.psnr(*pair), MAX_PSNR_DB) for pair in pairs),
        ssim=mean(meters.ssim(*pair) for pair in pairs),
        lpips=None if meters.lpips is None else mean(_lpips(meters.lpips, *pair) for pair in pairs),
        lip_distance=mean(lips) if lips else None,
        num_faces=len(lips),
        num_frames=len(pairs),
        latent_drift=tuple(_relative(*pair) for pair in zip(first.latents, second.latents, strict=True)),
        notes=second.notes,
    )


def _relative(first: Tensor, second: Tensor) -> float:
    return float((second - first).norm() / first.norm().clamp_min(1e-12))


def _lpips(distance: Callable[[Tensor, Tensor], Tensor], first: np.ndarray, second: np.ndarray) -> float:
    ours, theirs = (torch.from_numpy(picture)[None].float() / 127.5 - 1 for picture in (first, second))
    with torch.no_grad():
        return float(distance(ours, theirs))


def _lip_distance(mesh: FaceMesh, first: np.ndarray, second: np.ndarray) -> float | None:
    """Mean distance of the mouth's points in widths of the first face, or ``None`` where one shows no face."""
    found = [mesh.search(picture).faces for picture in (first, second)]
    if not all(found):
        return None
    ours, theirs = (faces[0].points[:, :2] for faces in found)
    width = float(np.ptp(ours[:, 0]))
    mouth = list(MOUTH)
    return float(np.linalg.norm(ours[mouth] - theirs[mouth], axis=1).mean() / width)
