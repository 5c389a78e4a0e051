"""What a person can choose when a portrait is animated. No torch here: the command line reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from portraitanim.config.speeds import SPEEDS, Speed
from portraitanim.errors import ConfigError

Mode = Literal["auto", "audio", "landmarks", "audio+landmarks"]
Parts = tuple[str, ...]

FACE_PARTS: Parts = ("eyes", "eyebrows", "pupils", "nose", "mouth", "outline")
"""The parts of a face whose landmarks can drive."""

PARTS_BESIDE_AUDIO: Parts = ("eyes", "eyebrows", "pupils", "nose")
"""What landmarks drive by default where sound drives the mouth (EchoMimic)."""


@dataclass(frozen=True, kw_only=True)
class AnimationOptions:
    """How one video is made. ``None`` leaves a choice to the weights.

    Attributes:
        mode: what drives; ``auto`` takes what is given.
        parts: face parts that driving landmarks move.
        face: which face of the portrait: ``largest``, ``left``, ``right``, ``center``, a number or ``x,y``.
        driving_face: the same for the driving video.
        face_threshold: score a face must reach, in (0, 1).
        crop: ``face`` cuts the square that the weights expect; ``whole`` takes the whole picture as it is.
        paste_back: put the moving face back into the original picture.
        lip_weight: strength of the audio's effect on the lips, 1 as trained.
        expression_weight: the same for the rest of the face.
        pose_weight: the same for head and background.
        guidance: one scale for portrait and sound.
        audio_guidance: scale for the sound alone.
        image_guidance: scale for the portrait alone.
        speed: ``exact``, or faster and nearly the same: ``balanced`` or ``fast`` (`portraitanim.config.speeds`).
        steps: denoising steps.
        scheduler: solver that walks the noise schedule.
        seed: of the noise.
        size_px: side of the square that is generated.
        fps: frames per second of the video.
        start_seconds: where in sound and driving video to start.
        duration_seconds: length of the video; ``None`` to the end of what drives.
        look_ahead_seconds: where sound still arrives: how much behind a frame is heard, and waited for, by encoders
            that are made for whole files (wav2vec 2.0, Whisper).
        idle_motion: blinks and small turns of the head where sound drives alone, for weights that read landmarks; and
            the mouth, where they can read it from the sound.
        motion_sync: ``paper`` carries the driver's motion to the portrait's own proportions; ``published`` does as
            EchoMimic's code; ``none`` draws the landmarks as they are.
        smoothing: how jitter is taken out of driving landmarks.
        on_missing: what happens to driving frames without a face.
        drift_guard: watch each clip and re-anchor a drifting video on earlier frames.
        separate_vocals: take music and noise out of the sound before it is read.
        provenance: where the video says that it is synthetic: ``sidecar`` is metadata and a JSON file beside it.
        overrides: dotted keys of the preset and their values (``--set``).
    """

    mode: Mode = "auto"
    parts: Parts | None = None
    face: str = "largest"
    driving_face: str = "largest"
    face_threshold: float | None = None
    crop: Literal["face", "whole"] = "face"
    paste_back: bool = False
    lip_weight: float | None = None
    expression_weight: float | None = None
    pose_weight: float | None = None
    guidance: float | None = None
    audio_guidance: float | None = None
    image_guidance: float | None = None
    speed: Speed = "exact"
    steps: int | None = None
    scheduler: str | None = None
    seed: int | None = None
    size_px: int | None = None
    fps: float | None = None
    start_seconds: float = 0.0
    duration_seconds: float | None = None
    look_ahead_seconds: float | None = None
    idle_motion: bool | None = None
    motion_sync: Literal["paper", "published", "none"] | None = None
    smoothing: Literal["savgol", "one-euro", "none"] | None = None
    on_missing: Literal["hold", "skip", "error"] | None = None
    drift_guard: bool = True
    separate_vocals: bool = False
    provenance: Literal["none", "metadata", "sidecar"] = "sidecar"
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("lip_weight", "expression_weight", "pose_weight"):
            _check_number(name, getattr(self, name), 0.0, 10.0)
        for name in ("guidance", "audio_guidance", "image_guidance"):
            _check_number(name, getattr(self, name), 0.0, 100.0)
        if self.guidance is not None and (self.audio_guidance is not None or self.image_guidance is not None):
            raise ConfigError("--guidance sets both scales: leave it out, or --audio-guidance and --image-guidance.")
        if self.speed not in SPEEDS:
            raise ConfigError(f"--speed must be one of {', '.join(SPEEDS)}, got {self.speed!r}.")
        _check_number("steps", self.steps, 1, 1000)
        _check_number("fps", self.fps, 1.0, 120.0)
        _check_number("start", self.start_seconds, 0.0, 1e6)
        _check_number("duration", self.duration_seconds, 0.01, 1e6)
        _check_number("size", self.size_px, 64, 2048)
        _check_number("look_ahead", self.look_ahead_seconds, 0.0, 60.0)
        _check_number("face_threshold", self.face_threshold, 0.01, 0.99)
        _check_number("seed", self.seed, 0, 2**63 - 1)
        if self.size_px is not None and self.size_px % 8:
            below = self.size_px // 8 * 8
            raise ConfigError(f"--size must be a multiple of 8, got {self.size_px}. Use {below} or {below + 8}.")
        if self.parts is not None:
            unknown = [part for part in self.parts if part not in FACE_PARTS]
            if unknown or not self.parts:
                raise ConfigError(
                    f"Unknown face part {(unknown or [''])[0]!r}. Use --parts with a list of {', '.join(FACE_PARTS)}."
                )


def _check_number(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"--{name.replace('_', '-')} must be from {low:g} to {high:g}, got {value:g}.")
