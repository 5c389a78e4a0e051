"""Folders of small random weights, as `weights convert` and `train` write them, for tests of `animate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from portraitanim.config.schema import Preset, from_dict, to_dict
from portraitanim.config.yaml_files import merge
from portraitanim.pipelines.build import build_pipeline
from portraitanim.pipelines.weights_folder import write_preset
from tests.small_networks import randomize, small_preset

SIZE_PX = 64


def small_weights(folder: Path, system: str = "tiny", **sampling: Any) -> Preset:
    """Write small random weights of a system whose audio encoder needs no weights (log-mel)."""
    changes: dict[str, Any] = {
        "audio": {"encoder": "log-mel", "window": "centred"},
        "sampling": {"size_px": SIZE_PX, "num_inference_steps": 1, **sampling},
    }
    if system == "echomimic":
        changes["network"] = {"denoising_unet": {"cross_attention_dim": 80}}
    else:
        changes["network"] = {"audio_projection": {"window": 5, "num_layers": 4, "feature_dim": 80}}
    if system == "hallo":
        changes["network"]["identity_projection"] = {"embedding_dim": 512}
    preset: Preset = from_dict(Preset, merge(to_dict(small_preset(system)), changes))
    torch.manual_seed(0)
    pipeline = build_pipeline(preset)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            randomize(component)
    pipeline.save_pretrained(folder)
    write_preset(preset, folder)
    return preset
