"""Inception-v3 of TensorFlow's 2015-12-05 graph, whose 2048 pooled features FID compares.

It differs from later Inceptions: pooling branches average without the padding, the last block's takes the maximum,
there is no auxiliary head (reference/metrics.md, section 2). Parameters have their published names.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_PX = 299
NUM_FEATURES = 2048

_BATCH_NORM_EPS = 1e-3
_Kernel = int | tuple[int, int]
# Name → (channels in, channels out, kernel, stride); stride 1 keeps the size.
_Convs = Mapping[str, tuple[int, int, _Kernel, int]]
# What is concatenated: each path is a chain of convolutions and pools.
_Paths = tuple[tuple[str, ...], ...]


class _NormedConv(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, channels: int, features: int, kernel: _Kernel, stride: int, padding: int | tuple[int, int]
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, features, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(features, eps=_BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Parallel paths over one input, concatenated; a beginning that paths share is computed once."""

    def __init__(self, convs: _Convs, paths: _Paths) -> None:
        super().__init__()
        self._paths = paths
        for name, (channels, features, kernel, stride) in convs.items():
            height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
            padding = (height // 2, width // 2) if stride == 1 else (0, 0)
            self.add_module(name, _NormedConv(channels, features, kernel, stride, padding))

    def forward(self, x: Tensor) -> Tensor:
        done: dict[tuple[str, ...], Tensor] = {(): x}
        for path in self._paths:
            for length, name in enumerate(path):
                if path[: length + 1] not in done:
                    done[path[: length + 1]] = self._step(name, done[path[:length]])
        return torch.cat([done[path] for path in self._paths], dim=1)

    def _step(self, name: str, x: Tensor) -> Tensor:
        if name == "mean pool":
            return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        if name == "max pool":
            return F.max_pool2d(x, 3, stride=1, padding=1)
        if name == "halve":
            return F.max_pool2d(x, 3, stride=2)
        return self.get_submodule(name)(x)


class InceptionV3(nn.Module):
    """From pictures to pooled features.

    The forward takes float ``(batch, 3, 299, 299)`` RGB in [-1, 1] and gives ``(batch, 2048)``.
    """

    def __init__(self) -> None:
        super().__init__()
        first = (("1a_3x3", 3, 32, 3, 2, 0), ("2a_3x3", 32, 32, 3, 1, 0), ("2b_3x3", 32, 64, 3, 1, 1))
        second = (("3b_1x1", 64, 80, 1, 1, 0), ("4a_3x3", 80, 192, 3, 1, 0))
        self._stem = (first, second)
        for name, *sizes in (*first, *second):
            self.add_module(f"Conv2d_{name}", _NormedConv(*sizes))
        self._blocks = tuple(_BLOCKS)
        for name, (convs, paths) in _BLOCKS.items():
            self.add_module(name, _Mixed(convs, paths))

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures
        for part in self._stem:
            for name, *_ in part:
                x = self.get_submodule(f"Conv2d_{name}")(x)
            x = F.max_pool2d(x, 3, stride=2)
        for name in self._blocks:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))


def _block_35(channels: int, pooled: int) -> tuple[_Convs, _Paths]:
    convs: _Convs = {
        "branch1x1": (channels, 64, 1, 1),
        "branch5x5_1": (channels, 48, 1, 1),
        "branch5x5_2": (48, 64, 5, 1),
        "branch3x3dbl_1": (channels, 64, 1, 1),
        "branch3x3dbl_2": (64, 96, 3, 1),
        "branch3x3dbl_3": (96, 96, 3, 1),
        "branch_pool": (channels, pooled, 1, 1),
    }
    double = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    return convs, (("branch1x1",), ("branch5x5_1", "branch5x5_2"), double, ("mean pool", "branch_pool"))


def _block_17(width: int) -> tuple[_Convs, _Paths]:
    convs: _Convs = {
        "branch1x1": (768, 192, 1, 1),
        "branch7x7_1": (768, width, 1, 1),
        "branch7x7_2": (width, width, (1, 7), 1),
        "branch7x7_3": (width, 192, (7, 1), 1),
        "branch7x7dbl_1": (768, width, 1, 1),
        "branch7x7dbl_2": (width, width, (7, 1), 1),
        "branch7x7dbl_3": (width, width, (1, 7), 1),
        "branch7x7dbl_4": (width, width, (7, 1), 1),
        "branch7x7dbl_5": (width, 192, (1, 7), 1),
        "branch_pool": (768, 192, 1, 1),
    }
    single = tuple(f"branch7x7_{step}" for step in range(1, 4))
    double = tuple(f"branch7x7dbl_{step}" for step in range(1, 6))
    return convs, (("branch1x1",), single, double, ("mean pool", "branch_pool"))


def _block_8(channels: int, pool: str) -> tuple[_Convs, _Paths]:
    convs: _Convs = {
        "branch1x1": (channels, 320, 1, 1),
        "branch3x3_1": (channels, 384, 1, 1),
        "branch3x3_2a": (384, 384, (1, 3), 1),
        "branch3x3_2b": (384, 384, (3, 1), 1),
        "branch3x3dbl_1": (channels, 448, 1, 1),
        "branch3x3dbl_2": (448, 384, 3, 1),
        "branch3x3dbl_3a": (384, 384, (1, 3), 1),
        "branch3x3dbl_3b": (384, 384, (3, 1), 1),
        "branch_pool": (channels, 192, 1, 1),
    }
    single = tuple(("branch3x3_1", f"branch3x3_2{side}") for side in "ab")
    double = tuple(("branch3x3dbl_1", "branch3x3dbl_2", f"branch3x3dbl_3{side}") for side in "ab")
    return convs, (("branch1x1",), *single, *double, (pool, "branch_pool"))


_HALVE_35: tuple[_Convs, _Paths] = (
    {
        "branch3x3": (288, 384, 3, 2),
        "branch3x3dbl_1": (288, 64, 1, 1),
        "branch3x3dbl_2": (64, 96, 3, 1),
        "branch3x3dbl_3": (96, 96, 3, 2),
    },
    (("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"), ("halve",)),
)
_HALVE_17: tuple[_Convs, _Paths] = (
    {
        "branch3x3_1": (768, 192, 1, 1),
        "branch3x3_2": (192, 320, 3, 2),
        "branch7x7x3_1": (768, 192, 1, 1),
        "branch7x7x3_2": (192, 192, (1, 7), 1),
        "branch7x7x3_3": (192, 192, (7, 1), 1),
        "branch7x7x3_4": (192, 192, 3, 2),
    },
    (("branch3x3_1", "branch3x3_2"), tuple(f"branch7x7x3_{step}" for step in range(1, 5)), ("halve",)),
)
_BLOCKS: Mapping[str, tuple[_Convs, _Paths]] = {
    "Mixed_5b": _block_35(192, 32),
    "Mixed_5c": _block_35(256, 64),
    "Mixed_5d": _block_35(288, 64),
    "Mixed_6a": _HALVE_35,
    "Mixed_6b": _block_17(128),
    "Mixed_6c": _block_17(160),
    "Mixed_6d": _block_17(160),
    "Mixed_6e": _block_17(192),
    "Mixed_7a": _HALVE_17,
    "Mixed_7b": _block_8(1280, "mean pool"),
    "Mixed_7c": _block_8(2048, "max pool"),
}
