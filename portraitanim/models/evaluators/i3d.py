"""I3D (Inception-v1 inflated, RGB, Kinetics-400), whose class scores FVD compares.

Parameters have the names of the ports in PyTorch. Convolutions and pools pad as TensorFlow's SAME: the odd one goes to
the end (reference/metrics.md, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_PX = 224
NUM_CLASSES = 400

_Triple = tuple[int, int, int]
# Channels in, then out of: 1×1; 1×1, 3×3; 1×1, 3×3; 1×1 after the pool.
_MIXED: dict[str, tuple[int, tuple[int, int, int, int, int, int]]] = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}


class _Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, channels: int, features: int, kernel: int, stride: int = 1, eps: float = 1e-3) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, features, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(features, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, _same_padding(x, self.conv3d.kernel_size, self.conv3d.stride))
        return F.relu(self.bn(self.conv3d(padded)))


class _Mixed(nn.Module):
    def __init__(self, channels: int, features: Sequence[int], eps: float) -> None:
        super().__init__()
        one, before, three, before_small, three_small, pooled = features
        self.b0 = _Unit(channels, one, 1, eps=eps)
        self.b1a = _Unit(channels, before, 1, eps=eps)
        self.b1b = _Unit(before, three, 3, eps=eps)
        self.b2a = _Unit(channels, before_small, 1, eps=eps)
        self.b2b = _Unit(before_small, three_small, 3, eps=eps)
        self.b3b = _Unit(channels, pooled, 1, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        pooled = _same_max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


class _Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, NUM_CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


class I3D(nn.Module):
    """From clips to the mean class scores.

    Args:
        eps: of the batch norms: 1e-3 is TensorFlow's graph and DisCo's port, 1e-5 is VideoGPT's and its many users'.
        pool_frames: steps of time that the last pool averages: 2 is the graph's, 1 is DisCo's; both give the same for
            16 frames.
    """

    def __init__(self, *, eps: float = 1e-3, pool_frames: int = 2) -> None:
        super().__init__()
        self._pool_frames = pool_frames
        # Attribute names are the published keys.
        self.add_module("Conv3d_1a_7x7", _Unit(3, 64, 7, 2, eps=eps))
        self.add_module("Conv3d_2b_1x1", _Unit(64, 64, 1, eps=eps))
        self.add_module("Conv3d_2c_3x3", _Unit(64, 192, 3, eps=eps))
        for name, (channels, features) in _MIXED.items():
            self.add_module(name, _Mixed(channels, features, eps))
        self.logits = _Scores()

    def forward(self, clips: Tensor) -> Tensor:
        """Class scores before the softmax, averaged over time.

        Args:
            clips: float ``(batch, frames, 3, 224, 224)`` RGB in [-1, 1], at least 9 frames.

        Returns:
            ``(batch, 400)``.
        """
        return self.scores(self.features(clips))

    def scores(self, features: Tensor) -> Tensor:
        """Mean class scores ``(batch, 400)`` of the last block's output."""
        pooled = F.avg_pool3d(features, (self._pool_frames, 7, 7), stride=1)
        return self.logits(pooled).mean(dim=(2, 3, 4))

    def features(self, clips: Tensor) -> Tensor:
        """The last block's output ``(batch, 1024, frames / 8, 7, 7)``."""
        x = self.get_submodule("Conv3d_1a_7x7")(clips.transpose(1, 2))
        x = _same_max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self.get_submodule("Conv3d_2c_3x3")(self.get_submodule("Conv3d_2b_1x1")(x))
        x = _same_max_pool(x, (1, 3, 3), (1, 2, 2))
        for name in _MIXED:
            if name == "Mixed_4b":
                x = _same_max_pool(x, (3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                x = _same_max_pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        return x


def _same_max_pool(x: Tensor, kernel: _Triple, stride: _Triple) -> Tensor:
    # Zeros are padded, not minus infinity: after a ReLU both give the same.
    return F.max_pool3d(F.pad(x, _same_padding(x, kernel, stride)), kernel, stride)


def _same_padding(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """TensorFlow's SAME, last axis first as `F.pad` reads it."""
    padding: list[int] = []
    for size, width, step in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max(width - (step if size % step == 0 else size % step), 0)
        padding += [total // 2, total - total // 2]
    return padding
