"""Pictures of what happens between the files and the video, for people who want to see it (``--debug-dir``)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from portraitanim.face.drawing import PARTS, draw_landmarks
from portraitanim.media.contact_sheet import contact_sheet, spread_indices
from portraitanim.media.image import resize_image, save_image
from portraitanim.models.audio_attention import RegionalAudioAttention
from portraitanim.types import REGION_NAMES

if TYPE_CHECKING:
    from portraitanim.pipelines.animation_inputs import AnimationInputs

_SHEET_FRAMES = 12


def write_debug_views(folder: Path, inputs: AnimationInputs) -> None:
    """Write what was made of the inputs.

    ``crop.png`` is what the networks see, ``landmarks.png`` the found points on it, ``face-in-picture.png`` where it
    was cut, ``mask-REGION.png`` where each region's sound acts, ``condition.png`` the face box or some drawings.
    """
    portrait = inputs.portrait
    folder.mkdir(parents=True, exist_ok=True)
    save_image(portrait.image, folder / "crop.png")
    save_image(_with_points(portrait.image, portrait.landmarks), folder / "landmarks.png")
    outlined = portrait.crop.paste(_frame(portrait.image), portrait.original, seam_share=0.0)
    save_image(outlined, folder / "face-in-picture.png")
    for name, mask in zip(REGION_NAMES, portrait.masks, strict=True):
        save_image(_heat(portrait.image, mask.astype(np.float32) / 255), folder / f"mask-{name}.png")
    frames = spread_indices(inputs.num_frames or 1, _SHEET_FRAMES)
    maps = inputs.conditioning.condition_map(frames)
    if maps is not None:
        pictures = [(picture.numpy() * 255).round().astype(np.uint8) for picture in maps[0].expand(-1, 3, -1, -1)]
        save_image(contact_sheet(pictures), folder / "condition.png")


class RegionMaps:
    """How much each region's sound moves each place, averaged over all steps and frames (Hallo, figure 3).

    What is shown is the length of the vector that a region's audio attention adds to each position, before its mask
    and weight, at every depth.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], Tensor] = {}
        self._counts: dict[tuple[str, int], int] = {}

    def add(self, region: str, added: Tensor) -> None:
        """Take in ``(rows, tokens, channels)``."""
        key = (region, added.shape[1])
        length = added.detach().float().norm(dim=-1)
        self._sums[key] = self._sums.get(key, torch.zeros_like(length[0])) + length.sum(0)
        self._counts[key] = self._counts.get(key, 0) + len(length)

    def at(self, region: str, size_px: int) -> np.ndarray | None:
        """The map of a region, float32 ``(size, size)`` in [0, 1], or ``None`` where nothing was recorded."""
        maps = []
        for (name, num_tokens), total in self._sums.items():
            side = math.isqrt(num_tokens)
            if name == region and side * side == num_tokens:
                mean = (total / self._counts[name, num_tokens]).cpu().numpy().reshape(side, side)
                maps.append(cv2.resize(mean / max(mean.max(), 1e-12), (size_px, size_px)))
        return None if not maps else np.mean(maps, axis=0, dtype=np.float32)

    def write(self, folder: Path, picture: np.ndarray) -> None:
        """Write ``attention-REGION.png``, the maps over the portrait ``(3, size, size)``."""
        for region in REGION_NAMES:
            found = self.at(region, picture.shape[1])
            if found is not None:
                save_image(_heat(picture, found), folder / f"attention-{region}.png")


@contextmanager
def recorded_region_maps(unet: nn.Module) -> Iterator[RegionMaps]:
    """Record what the regional audio attention of a network adds while the block runs."""
    maps, handles = RegionMaps(), []
    modules = [module for module in unet.modules() if isinstance(module, RegionalAudioAttention)]
    for module in modules:
        module.may_fold = False
        for region in REGION_NAMES:
            projection = module.get_submodule(f"attn_{region}.to_out.0")
            handles.append(projection.register_forward_hook(_recorder(maps, region, module)))
    try:
        yield maps
    finally:
        for module in modules:
            module.may_fold = True
        for handle in handles:
            handle.remove()


def _recorder(maps: RegionMaps, region: str, module: nn.Module) -> Any:
    weight = module.get_parameter(f"zero_conv_{region}.weight")

    def record(projection: nn.Module, inputs: Any, output: Tensor) -> None:
        maps.add(region, nn.functional.linear(output, weight.flatten(1)))

    return record


def _with_points(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The picture at twice its size with all points, and the lines of all parts."""
    height, width = picture.shape[1] * 2, picture.shape[2] * 2
    large = resize_image(picture, height, width)
    lines = draw_landmarks(points, (picture.shape[1], picture.shape[2]), (height, width), PARTS)
    shown = np.where(lines.any(0), lines, large)
    for x, y in (points[:, :2] * 2).round().astype(int):
        if 0 <= x < width and 0 <= y < height:
            shown[:, y, x] = (255, 255, 255)
    return np.ascontiguousarray(shown)


def _frame(picture: np.ndarray) -> np.ndarray:
    """The picture with a green border."""
    framed, width = picture.copy(), max(2, picture.shape[1] // 100)
    for edge in (np.s_[:, :width], np.s_[:, -width:], np.s_[:, :, :width], np.s_[:, :, -width:]):
        framed[edge] = np.array([0, 220, 80], np.uint8)[:, None, None]
    return framed


def _heat(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map in [0, 1] over the picture: blue is 0, red is 1."""
    size = (picture.shape[2], picture.shape[1])
    level = cv2.resize(np.clip(heat, 0, 1), size)
    colours = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1].transpose(2, 0, 1)
    mixed: np.ndarray = (0.5 * picture + 0.5 * colours).round().astype(np.uint8)
    return mixed
