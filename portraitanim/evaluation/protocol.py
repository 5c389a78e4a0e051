"""How a number was measured, and the fingerprint by which numbers can be compared or not. No torch here."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from portraitanim.errors import InputError
from portraitanim.evaluation.catalogue import METRICS, chosen_metrics
from portraitanim.evaluation.clip_list import ClipList

_LIBRARIES = ("portraitanim", "torch", "numpy", "scipy", "opencv-contrib-python", "pillow", "av", "mediapipe", "soxr")
_FID_FLAVOURS = ("pytorch-fid", "torch-fidelity", "clean-fid")
_FVD_FLAVOURS = ("direct", "short-side", "disco")
_KERNELS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_MIN_I3D_FRAMES = 9
"""I3D's average pool needs two steps of the eightfold reduced time."""


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """Everything that changes a number.

    Attributes:
        metrics: what is measured, see `portraitanim.evaluation.catalogue`.
        fps: both videos are resampled to this rate. SyncNet always reads 25.
        size_px: shorter side to which both are scaled; ``None`` compares them as they are, and refuses to where their
            sizes differ.
        resize_kernel: how they are scaled.
        crop: what of the picture is compared: all of it.
        max_frames: of each clip; ``None`` reads to the end of the shorter one.
        fid_flavour: whose resize and range before Inception.
        fvd_flavour: likewise before I3D. It also says the epsilon of its batch norms and the length of its last pool.
        fvd_frames: frames of one sample of FVD.
        fvd_stride: frames between the starts of two.
        ssim_window: ``gaussian`` (Wang et al. 2004) or ``uniform`` (7 pixels).
        ssim_grey: SSIM of the luma instead of the mean over colours.
        lpips_trunk: ``alex`` or ``vgg``.
        sync_boxes: where SyncNet's crops come from: ``mesh`` (bounds of the landmarks) or ``s3fd`` (as published).
        identity_stride: CSIM looks at every so many frames.
        num_resamples: draws for the intervals of means; 0 leaves the intervals out.
        num_set_resamples: likewise for distances between sets, where a draw takes seconds.
        seed: of the draws.
    """

    metrics: tuple[str, ...] = tuple(METRICS)
    fps: float = 25.0
    size_px: int | None = None
    resize_kernel: str = "lanczos"
    crop: Literal["none"] = "none"
    max_frames: int | None = None
    fid_flavour: str = "pytorch-fid"
    fvd_flavour: str = "direct"
    fvd_frames: int = 16
    fvd_stride: int = 16
    ssim_window: str = "gaussian"
    ssim_grey: bool = False
    lpips_trunk: str = "alex"
    sync_boxes: str = "mesh"
    identity_stride: int = 1
    num_resamples: int = 1000
    num_set_resamples: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", chosen_metrics(self.metrics))
        for name, known in (
            ("fid_flavour", _FID_FLAVOURS),
            ("fvd_flavour", _FVD_FLAVOURS),
            ("resize_kernel", _KERNELS),
            ("ssim_window", ("gaussian", "uniform")),
            ("lpips_trunk", ("alex", "vgg")),
            ("sync_boxes", ("mesh", "s3fd")),
            ("crop", ("none",)),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        for name, least in (
            ("size_px", 32),
            ("max_frames", 2),
            ("fvd_frames", _MIN_I3D_FRAMES),
            ("fvd_stride", 1),
            ("identity_stride", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least}, got {value}.")
        for name in ("num_resamples", "num_set_resamples"):
            if getattr(self, name) == 1 or getattr(self, name) < 0:
                raise InputError(f"{name} must be 0 or at least 2, got {getattr(self, name)}.")
        if not 0 < self.fps <= 240:
            raise InputError(f"fps must lie above 0 and at most at 240, got {self.fps}.")

    @property
    def i3d_eps(self) -> float:
        """Epsilon of I3D's batch norms: 1e-5 for VideoGPT's port and its users, 1e-3 for DisCo's."""
        return 1e-3 if self.fvd_flavour == "disco" else 1e-5

    @property
    def i3d_pool_frames(self) -> int:
        """Steps of time that I3D's last pool takes."""
        return 1 if self.fvd_flavour == "disco" else 2

    def weights_of(self, metric: str) -> tuple[str, ...]:
        """Names of the weights that a metric needs under this protocol."""
        if metric == "lpips":
            return (f"lpips-{self.lpips_trunk}",)
        needed = METRICS[metric].weights
        return (*needed, "s3fd") if metric.startswith("sync_") and self.sync_boxes == "s3fd" else needed

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "metrics": list(self.metrics)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationProtocol:
        """Read what `to_dict` gave.

        Raises:
            InputError: an unknown field, or a value out of range.
        """
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise InputError(f"Unknown field {sorted(unknown)[0]!r} in an evaluation protocol.")
        return cls(**{**values, "metrics": tuple(values.get("metrics", METRICS))})


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What must be equal for two results to stand in one table.

    Attributes:
        protocol: see `EvaluationProtocol`.
        clips: hash of the list of clips: names, and content of the true videos.
        num_clips: how many.
        num_frames: frames that were compared.
        weights: name → sha256 of the files that were used.
        versions: of the libraries that compute.
        clip_list: where the clips come from, for clips of a dataset. It is no part of the comparison: ``clips`` says
            whether they are the same.
    """

    protocol: EvaluationProtocol
    clips: str
    num_clips: int
    num_frames: int
    weights: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=lambda: library_versions())
    clip_list: ClipList | None = None

    @property
    def short(self) -> str:
        """Twelve hexadecimal digits that differ where anything differs that is compared."""
        text = json.dumps(self._compared(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**self._compared(), "clip_list": None if self.clip_list is None else self.clip_list.to_dict()}

    def _compared(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol.to_dict(),
            "clips": self.clips,
            "num_clips": self.num_clips,
            "num_frames": self.num_frames,
            "weights": dict(sorted(self.weights.items())),
            "versions": dict(sorted(self.versions.items())),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fingerprint:
        """Read what `to_dict` gave; the list of clips may be absent."""
        listed = values.get("clip_list")
        return cls(
            **{
                **values,
                "protocol": EvaluationProtocol.from_dict(values["protocol"]),
                "clip_list": None if listed is None else ClipList.from_dict(listed),
            }
        )

    def differences(self, other: Fingerprint) -> list[str]:
        """What differs, as ``name: this | other``; a metric that only one of them has makes no difference."""
        ours, theirs = _flat(self._compared()), _flat(other._compared())
        names = {name for name in ours.keys() | theirs.keys() if not name.startswith("weights.")}
        names |= {name for name in ours.keys() & theirs.keys() if name.startswith("weights.")}
        return [
            f"{name}: {ours.get(name)} | {theirs.get(name)}"
            for name in sorted(names - {"protocol.metrics"})
            if ours.get(name) != theirs.get(name)
        ]


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries whose numbers enter ours."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
