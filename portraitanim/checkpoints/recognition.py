"""Tells from keys and shapes whose checkpoint a file is, so that an error can say which system to name instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class _Fingerprint:
    """A known file: what it is called, and what tells it from the others.

    Attributes:
        name: what to call it, with the advice.
        needs: patterns that must each match a key.
        lacks: patterns that must match none.
        sizes: (pattern, axis, size): the first matching key has that size there.
    """

    name: str
    needs: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    sizes: tuple[tuple[str, int, int], ...] = ()

    def fits(self, shapes: Shapes) -> bool:
        return (
            all(_first(pattern, shapes) is not None for pattern in self.needs)
            and all(_first(pattern, shapes) is None for pattern in self.lacks)
            and all(self._has_size(shapes, *size) for size in self.sizes)
        )

    @staticmethod
    def _has_size(shapes: Shapes, pattern: str, axis: int, size: int) -> bool:
        key = _first(pattern, shapes)
        return key is not None and len(shapes[key]) > axis and shapes[key][axis] == size


_UNET = r"^down_blocks\.0\.resnets\.0\.conv1\.weight$"
_CROSS = r"attn2\.to_k\.weight$"
_LOCATOR = (r"^conv_in\.weight$", r"^blocks\.0\.weight$", r"^conv_out\.weight$")

# The first that fits is named, so the special ones come before the general ones.
_KNOWN = (
    _Fingerprint(
        name="Hallo's net.pth; use --system hallo",
        needs=(r"^reference_unet\.", r"^denoising_unet\.", r"^imageproj\.", r"^audioproj\."),
    ),
    _Fingerprint(
        name="a Stable Diffusion checkpoint in one file, which holds no portrait animation",
        needs=(r"^model\.diffusion_model\.",),
    ),
    _Fingerprint(name="wav2vec2; use --system wav2vec2-base-960h", needs=(r"(^|\.)feature_extractor\.conv_layers\.",)),
    _Fingerprint(
        name="OpenAI's Whisper; use --system whisper-tiny",
        needs=(r"^encoder\.positional_embedding$", r"^encoder\.blocks\."),
    ),
    _Fingerprint(
        name="Whisper from the Hugging Face hub; use --system whisper-tiny",
        needs=(r"encoder\.embed_positions\.weight$",),
    ),
    _Fingerprint(
        name="a Stable Diffusion autoencoder; use --system sd-vae-ft-mse",
        needs=(r"^encoder\.down_blocks\.", r"^decoder\.up_blocks\."),
    ),
    _Fingerprint(name="a part of Hallo's denoising UNet", needs=(_UNET, r"\.audio_modules\.")),
    _Fingerprint(
        name="a motion module file alone (EchoMimic's motion_module.pth, or AnimateDiff's); it belongs beside "
        "denoising_unet.pth in --system echomimic, or to --motion-module",
        needs=(r"\.motion_modules\.",),
        lacks=(_UNET,),
    ),
    _Fingerprint(
        name="EchoMimic's denoising_unet.pth; use --system echomimic",
        needs=(_UNET,),
        sizes=((_CROSS, 1, 384),),
    ),
    _Fingerprint(
        name="EchoMimic's denoising_unet.pth with its motion modules; use --system echomimic",
        needs=(_UNET, r"\.motion_modules\.", _CROSS),
    ),
    _Fingerprint(
        name="EchoMimic's reference_unet.pth; use --system echomimic",
        needs=(_UNET,),
        lacks=(r"attn2\.", r"^conv_out\."),
    ),
    _Fingerprint(
        name="a UNet of Stable Diffusion 1.5, which holds no portrait animation; --from-base begins training with it",
        needs=(_UNET, _CROSS, r"^conv_out\."),
        sizes=((_CROSS, 1, 768),),
    ),
    _Fingerprint(
        name="EchoMimic's face_locator.pth (face box); use --system echomimic",
        needs=_LOCATOR,
        sizes=((_LOCATOR[0], 1, 1),),
    ),
    _Fingerprint(
        name="EchoMimic's face_locator_pose.pth (landmarks); use --system echomimic-pose",
        needs=_LOCATOR,
        sizes=((_LOCATOR[0], 1, 3),),
    ),
)


def recognize(shapes: Shapes) -> str | None:
    """Name a known checkpoint, with the option that reads it, or ``None``.

    Args:
        shapes: published keys and shapes.
    """
    return next((known.name for known in _KNOWN if known.fits(shapes)), None)


def _first(pattern: str, shapes: Shapes) -> str | None:
    search = re.compile(pattern).search
    return next((key for key in shapes if search(key)), None)
