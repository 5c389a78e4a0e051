"""Pictures to train an autoencoder on: files of folders, frames of prepared datasets, cut and changed at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from portraitanim.data.records import MANIFEST, read_manifest
from portraitanim.errors import InputError
from portraitanim.media.image import load_image
from portraitanim.media.video import iter_video

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_BRIGHTNESS, _CONTRAST, _COLOUR = 0.15, 0.2, 0.05


@dataclass(frozen=True, kw_only=True)
class _Picture:
    path: Path
    seconds: float | None = None


class PictureDataset:
    """Square cuts of pictures, in an order and with changes that depend on the seed and the sample's number alone.

    Args:
        sources: folders of pictures, searched to the bottom, and folders of prepared datasets.
        size_px: pictures are brought to this size (shorter side) before they are cut.
        crop_px: side of the cut.
        seed: of order and changes.

    Raises:
        InputError: a folder holds no picture.
    """

    def __init__(self, sources: Sequence[str | Path], size_px: int, crop_px: int, seed: int = 0) -> None:
        self.size_px, self.crop_px, self.seed = size_px, crop_px, seed
        self.pictures = [picture for source in sources for picture in _find(Path(source))]
        if not self.pictures:
            raise InputError("No folder of pictures is named: set pictures to a list of folders.")

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, number: int) -> Tensor:
        """Picture ``(3, crop_px, crop_px)`` in [-1, 1]; every picture comes once before one comes again."""
        epoch, place = divmod(number, len(self.pictures))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.pictures))
        random = np.random.default_rng((self.seed, 1, number))
        return _changed(self._read(self.pictures[order[place]]), self.size_px, self.crop_px, random)

    def whole(self, index: int) -> Tensor:
        """Picture ``(3, size_px, size_px)`` in [-1, 1], unchanged but for its size."""
        return _changed(self._read(self.pictures[index]), self.size_px, self.size_px, None)

    @staticmethod
    def _read(picture: _Picture) -> Image.Image:
        if picture.seconds is None:
            pixels = load_image(picture.path)
        else:
            pixels = next(iter_video(picture.path, start_seconds=picture.seconds)).image
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _find(root: Path) -> list[_Picture]:
    if (root / MANIFEST).is_file():
        return [
            _Picture(path=root / record.video, seconds=frame / record.fps)
            for record in read_manifest(root)
            if record.split == "train"
            for frame in range(0, record.num_frames, 5)
        ]
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES) if root.is_dir() else []
    if not found:
        raise InputError(f"{root} holds no picture ({', '.join(SUFFIXES)}) and is no prepared dataset.")
    return [_Picture(path=path) for path in found]


def _changed(image: Image.Image, size_px: int, crop_px: int, random: np.random.Generator | None) -> Tensor:
    scale = size_px / min(image.size)
    if random is not None:
        scale *= random.uniform(1.0, 1.3)
    size = (max(round(image.width * scale), crop_px), max(round(image.height * scale), crop_px))
    image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    free = (size[0] - crop_px, size[1] - crop_px)
    left, top = (side // 2 if random is None else int(random.integers(side + 1)) for side in free)
    pixels = np.asarray(image.crop((left, top, left + crop_px, top + crop_px)), np.float32) / 127.5 - 1
    if random is not None:
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        contrast = random.uniform(1 - _CONTRAST, 1 + _CONTRAST)
        shift = random.uniform(-_BRIGHTNESS, _BRIGHTNESS) + random.uniform(-_COLOUR, _COLOUR, 3)
        pixels = np.clip(pixels * contrast + shift, -1, 1).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
