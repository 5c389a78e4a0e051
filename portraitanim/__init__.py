"""portraitanim: make a still portrait speak.

Public names are loaded on first use, so that ``import portraitanim`` costs nothing and ``--help`` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("portraitanim")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+unknown"

_PUBLIC = {
    "AnimationOptions": "portraitanim.config.animation",
    "AnimationResult": "portraitanim.pipelines.animation_result",
    "Animator": "portraitanim.pipelines.animator",
    "AudioProjection": "portraitanim.models.embedders",
    "ConditionEncoder": "portraitanim.models.embedders",
    "DenoisingUNet": "portraitanim.models.denoising_unet",
    "IdentityProjection": "portraitanim.models.embedders",
    "PortraitAnimError": "portraitanim.errors",
    "PortraitAnimationPipeline": "portraitanim.pipelines.portrait_animation",
    "PortraitConditioning": "portraitanim.types",
    "PortraitNetwork": "portraitanim.models.portrait_network",
    "ReferenceUNet": "portraitanim.models.reference_unet",
    "RegionMasks": "portraitanim.types",
    "RegionWeights": "portraitanim.types",
    "build_pipeline": "portraitanim.pipelines.build",
    "check_inputs": "portraitanim.pipelines.input_check",
    "load_preset": "portraitanim.config.presets",
    "open_animator": "portraitanim.checkpoints.animators",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
