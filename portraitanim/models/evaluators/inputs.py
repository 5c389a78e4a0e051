"""How pictures are scaled before Inception and I3D: the published libraries disagree, and so do their numbers.

Which one was used belongs to the name of a result (reference/metrics.md, sections 2 and 3).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from portraitanim.errors import InputError, ShapeError
from portraitanim.models.evaluators import i3d, inception

FidFlavour = Literal["pytorch-fid", "torch-fidelity", "clean-fid"]
"""How frames become 299×299:

- ``pytorch-fid``: bilinear, half-pixel centres, no antialiasing, on [0, 1]; then 2x - 1;
- ``torch-fidelity``: bilinear of TensorFlow 1, corners aligned, no antialiasing, on 0..255; then (x - 128) / 128;
- ``clean-fid``: bicubic with antialiasing (Pillow), on 0..255, clipped; then (x - 128) / 128.
"""

FvdFlavour = Literal["direct", "short-side", "disco"]
"""How frames become 224×224:

- ``direct``: bilinear, no antialiasing; then x / 127.5 - 1;
- ``short-side``: the shorter side to 224, bilinear, no antialiasing, the middle cut out; then x / 127.5 - 1;
- ``disco``: bicubic with antialiasing (Pillow), clipped; then x / 127.5 - 1.
"""

FID_FLAVOURS: tuple[FidFlavour, ...] = get_args(FidFlavour)
FVD_FLAVOURS: tuple[FvdFlavour, ...] = get_args(FvdFlavour)


def inception_input(frames: np.ndarray, flavour: FidFlavour = "pytorch-fid") -> Tensor:
    """Pictures as Inception reads them; their proportions are not kept.

    Args:
        frames: uint8 RGB ``(batch, 3, height, width)``.
        flavour: one of `FID_FLAVOURS`.

    Returns:
        float32 ``(batch, 3, 299, 299)``.

    Raises:
        InputError: unknown flavour.
        ShapeError: not pictures.
    """
    if flavour == "pytorch-fid":
        return 2 * _unit_bilinear(frames, inception.INPUT_PX, inception.INPUT_PX) - 1
    return (resized_for_inception(frames, flavour) - 128) / 128


def resized_for_inception(frames: np.ndarray, flavour: FidFlavour) -> Tensor:
    """The scaled pictures on 0..255, before the range is changed."""
    _require_frames(frames)
    size = inception.INPUT_PX
    if flavour == "pytorch-fid":
        return _unit_bilinear(frames, size, size) * 255
    if flavour == "torch-fidelity":
        return _tensorflow_bilinear(_contiguous(frames), size, size)
    if flavour == "clean-fid":
        return _pillow_bicubic(frames, size)
    raise InputError(f"Unknown FID flavour {flavour!r}. Use one of {', '.join(FID_FLAVOURS)}.")


def i3d_input(frames: np.ndarray, flavour: FvdFlavour = "direct") -> Tensor:
    """A clip as I3D reads it.

    Args:
        frames: uint8 RGB ``(frames, 3, height, width)``.
        flavour: one of `FVD_FLAVOURS`.

    Returns:
        float32 ``(frames, 3, 224, 224)`` in [-1, 1].

    Raises:
        InputError: unknown flavour.
        ShapeError: not pictures.
    """
    _require_frames(frames)
    size = i3d.INPUT_PX
    if flavour == "direct":
        return 2 * _unit_bilinear(frames, size, size) - 1
    if flavour == "short-side":
        height, width = frames.shape[2:]
        scale = size / min(height, width)
        # The longer side is rounded up, as the published code does.
        high, wide = (size if side == min(height, width) else -int(-side * scale // 1) for side in (height, width))
        pixels = _unit_bilinear(frames, high, wide)
        top, left = (high - size) // 2, (wide - size) // 2
        return 2 * pixels[:, :, top : top + size, left : left + size] - 1
    if flavour == "disco":
        return _pillow_bicubic(frames, size) / 127.5 - 1
    raise InputError(f"Unknown FVD flavour {flavour!r}. Use one of {', '.join(FVD_FLAVOURS)}.")


def _unit_bilinear(frames: np.ndarray, height: int, width: int) -> Tensor:
    """Scaled pictures in [0, 1]."""
    _require_frames(frames)
    pixels = _contiguous(frames) / 255
    if pixels.shape[2:] == (height, width):
        return pixels
    return F.interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False, antialias=False)


def _tensorflow_bilinear(pixels: Tensor, height: int, width: int) -> Tensor:
    """Bilinear where target i looks at source i · in / out: shifted by half a pixel against all others."""
    (above, below, down), (left, right, across) = (_taps(pixels.shape[2], height), _taps(pixels.shape[3], width))
    top, bottom = pixels[:, :, above], pixels[:, :, below]
    top, bottom = (row[..., left] + (row[..., right] - row[..., left]) * across for row in (top, bottom))
    return top + (bottom - top) * down[:, None]


def _taps(length: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    source = torch.arange(size, dtype=torch.float32) * (length / size)
    low = source.floor().long()
    return low, (low + 1).clamp(max=length - 1), source - low


def _pillow_bicubic(frames: np.ndarray, size: int) -> Tensor:
    """In float, plane by plane, so that nothing is rounded between; what overshoots is clipped."""
    planes = [
        [
            np.asarray(Image.fromarray(plane.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))
            for plane in frame
        ]
        for frame in frames
    ]
    return torch.from_numpy(np.stack([np.stack(channels) for channels in planes])).clamp(0, 255)


def _contiguous(frames: np.ndarray) -> Tensor:
    # Convolutions sum in another order where channels lie last: results must not depend on how frames came to be.
    return torch.from_numpy(np.ascontiguousarray(frames)).float()


def _require_frames(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ShapeError(f"Pictures must be uint8 (frames, 3, height, width), got {frames.dtype} {frames.shape}.")
