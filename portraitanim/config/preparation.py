"""How raw videos become training clips: sizes, and the limits that a clip must keep. No heavy library here."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from portraitanim.config.checks import require
from portraitanim.config.schema import from_dict
from portraitanim.config.yaml_files import merge, read_yaml
from portraitanim.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """The square picture of a clip, the same box for all its frames.

    ``face_share`` is the longer side of the face (over all frames) in sides of the box: Hallo asks for 50 to 70
    per cent. Where the picture has less room around the face, the box shrinks with the picture and the face's
    share grows; it never reaches beyond the picture.
    """

    size_px: int = 512
    face_share: float = 0.6
    crf: int = 16

    def __post_init__(self) -> None:
        require(self.size_px >= 64 and self.size_px % 8 == 0, "crop.size_px", "a multiple of 8 from 64", self.size_px)
        require(0.2 <= self.face_share <= 1.0, "crop.face_share", "from 0.2 to 1", self.face_share)
        require(0 <= self.crf <= 51, "crop.crf", "from 0 to 51", self.crf)


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Where videos are cut into candidates.

    ``cut_ratio`` and ``min_content_change`` are the two thresholds of PySceneDetect's adaptive detector. Frames
    next to a cut are left out: they may be blended by compression. Scenes longer than ``max_seconds`` are cut into
    equal parts.
    """

    cut_ratio: float = 3.0
    min_content_change: float = 15.0
    num_frames_beside_cut: int = 2
    max_seconds: float = 10.0

    def __post_init__(self) -> None:
        require(self.cut_ratio > 0, "scenes.cut_ratio", "above 0", self.cut_ratio)
        require(self.num_frames_beside_cut >= 0, "scenes.num_frames_beside_cut", ">= 0", self.num_frames_beside_cut)
        require(self.max_seconds >= 1, "scenes.max_seconds", "at least 1", self.max_seconds)


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Limits of the measured scores; a clip beyond any of them is dropped. ``None`` switches a limit off.

    What each score measures is said in `portraitanim.data.preparation.filters.RULES`. The defaults were set on real
    talking videos and on clips spoilt on purpose, but for SyncNet's confidence, whose weights were not at hand: 3 is
    the limit that LatentSync's data pipeline is known for.
    """

    min_face_tracked_fraction: float | None = 0.8
    min_seconds: float | None = 2.0
    max_second_face_share: float | None = 0.4
    max_track_jump: float | None = 0.5
    min_face_px: float | None = 160.0
    max_face_share: float | None = 0.9
    min_sharpness: float | None = 0.18
    max_yaw_degrees: float | None = 45.0
    max_head_speed: float | None = 3.0
    max_head_travel: float | None = 1.0
    max_content_change: float | None = 30.0
    max_camera_speed: float | None = 0.06
    min_mouth_motion: float | None = 0.005
    min_speech_fraction: float | None = 0.3
    min_sync_correlation: float | None = 0.2
    max_sync_offset_frames: float | None = 3.0
    min_sync_confidence: float | None = 3.0
    min_copy_distance: float | None = 0.1


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """What is held out for tests; the same seed holds out the same. A share of 1 holds out all.

    ``test_share`` is of identities, and of clips where all show one, see `portraitanim.data.preparation.clip_split`.
    """

    test_share: float = 0.1
    seed: int = 0
    same_identity_cosine: float = 0.5
    """Source videos whose mean embeddings agree more than this show one person."""

    def __post_init__(self) -> None:
        require(0.0 <= self.test_share <= 1.0, "split.test_share", "from 0 to 1", self.test_share)


@dataclass(frozen=True, kw_only=True)
class PreparationConfig:
    """Everything that decides what `prep` writes.

    ``sound`` is ``required`` for networks driven by sound; with ``optional``, clips without a sound track are kept as
    well, and the limits on speech hold where there is sound.
    """

    fps: float = 25.0
    sound: Literal["required", "optional"] = "required"
    crop: CropConfig = field(default_factory=CropConfig)
    scenes: SceneConfig = field(default_factory=SceneConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        require(0 < self.fps <= 120, "fps", "above 0 and at most 120", self.fps)
        shortest = self.filters.min_seconds
        require(
            shortest is None or shortest <= self.scenes.max_seconds,
            "filters.min_seconds",
            f"at most scenes.max_seconds = {self.scenes.max_seconds:g}",
            shortest,
        )


def load_preparation(path: str | Path | None = None, *overrides: dict[str, Any]) -> PreparationConfig:
    """The defaults, with a YAML file and then each override laid over them.

    Args:
        path: a YAML mapping with the fields of `PreparationConfig`; ``None`` for the defaults.
        overrides: nested dicts; the last wins (``--set`` and named flags).

    Raises:
        ConfigError: the file cannot be read, an unknown key, or a value out of range or of the wrong type.
    """
    values: dict[str, Any] = {}
    for override in (_read(Path(path)) if path is not None else {}, *overrides):
        values = merge(values, override)
    config: PreparationConfig = from_dict(PreparationConfig, values)
    return config


def limits(filters: FilterConfig) -> dict[str, float]:
    """The limits that are on, by field name."""
    values = {f.name: getattr(filters, f.name) for f in fields(filters)}
    return {name: value for name, value in values.items() if value is not None}


def _read(path: Path) -> dict[str, Any]:
    values = read_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of config keys.")
    return values
