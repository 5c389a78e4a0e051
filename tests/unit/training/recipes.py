"""Recipes of small networks on small clips, for tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portraitanim.config.schema import from_dict, to_dict
from portraitanim.config.training import TrainingConfig
from portraitanim.config.yaml_files import merge
from tests.prepared_clips import write_dataset
from tests.small_networks import IMAGE_SIZE, small_preset

ENCODERS = {"tiny": "log-mel", "hallo": "wav2vec2-base-960h", "echomimic": "whisper-tiny"}


def small_dataset(root: Path, system: str, **options: Any) -> Path:
    """Clips that the small networks of ``system`` can read."""
    preset = small_preset(system, size_px=IMAGE_SIZE)
    return write_dataset(
        root,
        states={ENCODERS[system]: (2, 6)},
        identity_dim=8 if system == "hallo" else None,
        fps=preset.sampling.fps,
        size_px=IMAGE_SIZE,
        **options,
    )


def small_recipe(system: str, data: Path, /, **changes: Any) -> TrainingConfig:
    """Four steps of two clips, in fp32, from frames; ``changes`` are laid over it."""
    values: dict[str, Any] = {
        "preset": system,
        "overrides": to_dict(small_preset(system, size_px=IMAGE_SIZE)),
        "data": {
            "root": str(data),
            "num_frames": 3,
            "num_motion_frames": 0 if system == "echomimic" else 2,
            "latents": "encode",
        },
        "drops": {"reference": 0.3, "audio": 0.3, "motion": 0.3, "first_clip": 0.3},
        "engine": {
            "num_steps": 4,
            "batch_size": 2,
            "learning_rate": 1e-3,
            "mixed_precision": "fp32",
            "log_every_steps": 1,
            "trackers": [],
        },
    }
    return from_dict(TrainingConfig, merge(values, changes))
