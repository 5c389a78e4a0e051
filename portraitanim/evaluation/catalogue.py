"""Every metric by name: what it is called in tables, which way is better, and what it needs. No torch here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from portraitanim.errors import InputError

Better = Literal["higher", "lower", "true", "zero"]
"""Which way is better; ``true`` is "as the true video has it", ``zero`` is "near 0 on either side"."""

Scope = Literal["set", "pair", "clip"]
"""What is compared: all clips of both sides at once, frame with frame, or a generated clip by itself."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: in files and on the command line.
        label: in tables.
        better: which way.
        scope: what is compared.
        about: what it is, in a few words.
        unit: of the value; empty without one.
        weights: names in the registry without which it cannot be measured.
        num_digits: after the point, in tables.
    """

    name: str
    label: str
    better: Better
    scope: Scope
    about: str
    unit: str = ""
    weights: tuple[str, ...] = ()
    num_digits: int = 3

    @property
    def arrow(self) -> str:
        """What papers put behind the name."""
        return {"higher": "↑", "lower": "↓", "true": "≈", "zero": "→0"}[self.better]


_INCEPTION, _I3D, _SYNCNET = ("inception-2015",), ("i3d-kinetics-400",), ("syncnet-v2",)

_METRICS = (
    Metric(
        name="fid", label="FID", better="lower", scope="set", weights=_INCEPTION, num_digits=2,
        about="Fréchet distance of Inception features of all frames",
    ),
    Metric(
        name="fvd", label="FVD", better="lower", scope="set", weights=_I3D, num_digits=1,
        about="Fréchet distance of I3D scores of short clips",
    ),
    Metric(
        name="e_fid", label="E-FID", better="lower", scope="set", weights=("deep3d-recon",),
        about="Fréchet distance of 64 expression coefficients (Deep3DFaceRecon) of all frames",
    ),
    Metric(
        name="sync_c", label="Sync-C", better="higher", scope="clip", weights=_SYNCNET,
        about="SyncNet's confidence that mouth and sound belong together",
    ),
    Metric(
        name="sync_d", label="Sync-D", better="lower", scope="clip", weights=_SYNCNET,
        about="SyncNet's smallest distance between mouth and sound",
    ),
    Metric(
        name="sync_offset", label="Sync offset", better="zero", scope="clip", weights=_SYNCNET, unit="frames",
        num_digits=1, about="shift at which mouth and sound agree best; negative when the sound is late",
    ),
    Metric(name="ssim", label="SSIM", better="higher", scope="pair", about="structural similarity of the frames"),
    Metric(
        name="psnr", label="PSNR", better="higher", scope="pair", unit="dB", num_digits=2,
        about="signal-to-noise ratio of the frames, mean over those that are not equal",
    ),
    Metric(
        name="lpips", label="LPIPS", better="lower", scope="pair", weights=("lpips-alex",),
        about="distance of the frames in the features of a classifier",
    ),
    Metric(
        name="csim", label="CSIM", better="higher", scope="pair", weights=("antelopev2",),
        about="cosine of ArcFace embeddings: frames against the true clip's first",
    ),
    Metric(
        name="lmd_mouth", label="LMD mouth", better="lower", scope="pair", unit="% of eye distance", num_digits=2,
        about="landmark distance of the lips",
    ),
    Metric(
        name="lmd_face", label="LMD face", better="lower", scope="pair", unit="% of eye distance", num_digits=2,
        about="landmark distance of 68 points of the face",
    ),
    Metric(
        name="mouth_correlation", label="Mouth corr.", better="higher", scope="pair",
        about="correlation of the mouth's opening with the true one, frame by frame",
    ),
    Metric(
        name="mouth_best_correlation", label="Mouth corr. at lag", better="higher", scope="pair",
        about="the same at the lag where it is largest",
    ),
    Metric(
        name="mouth_lag", label="Mouth lag", better="zero", scope="pair", unit="s",
        about="that lag; positive when the generated mouth is late",
    ),
    Metric(
        name="upper_face_ssim", label="SSIM upper face", better="higher", scope="pair",
        about="structural similarity of the aligned upper faces",
    ),
    Metric(
        name="blinks", label="Blinks", better="true", scope="clip", unit="per minute", num_digits=1,
        about="how often both eyes shut for a moment",
    ),
    Metric(
        name="head_pose", label="Pose diversity", better="true", scope="clip", unit="degrees", num_digits=2,
        about="root mean square angle between the head's pose and its mean",
    ),
    Metric(
        name="expression", label="Expr. diversity", better="true", scope="clip", unit="% of eye distance",
        num_digits=2, about="root mean square distance of the points from their mean place on the head",
    ),
    Metric(
        name="flicker", label="Flicker", better="true", scope="clip", num_digits=2,
        about="mean absolute second difference over time of the aligned upper face, pixels 0 to 255",
    ),
    Metric(
        name="drift_colour", label="Colour drift", better="true", scope="clip", num_digits=2,
        about="distance of the mean colour of the last second from the first, aligned upper face, RGB 0 to 255",
    ),
    Metric(
        name="drift_sharpness", label="Sharpness kept", better="true", scope="clip",
        about="sharpness of the last second over that of the first, aligned upper face",
    ),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}
"""Every metric, in the order of tables."""

FACE_METRICS = frozenset(
    {
        *("e_fid", "sync_c", "sync_d", "sync_offset", "csim", "lmd_mouth", "lmd_face", "mouth_correlation"),
        *("mouth_best_correlation", "mouth_lag", "upper_face_ssim", "blinks", "head_pose", "expression", "flicker"),
        *("drift_colour", "drift_sharpness"),
    }
)
"""Metrics that look at the face, and so need one."""


def chosen_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Check names of metrics and put them in the order of tables; ``all`` stands for every one.

    Raises:
        InputError: an unknown name; the nearest is named.
    """
    wanted = set(names)
    if "all" in wanted:
        return tuple(METRICS)
    for name in sorted(wanted - set(METRICS)):
        near = difflib.get_close_matches(name, METRICS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"There is no metric {name!r}.{hint} Known: all, {', '.join(METRICS)}.")
    if not wanted:
        raise InputError(f"No metric is chosen. Use all, or some of {', '.join(METRICS)}.")
    return tuple(name for name in METRICS if name in wanted)
