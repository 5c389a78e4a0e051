"""The network of Deep3DFaceRecon (Deng et al. 2019): 257 coefficients of a 3-D face model from one aligned picture.

E-FID compares its 64 expression coefficients. They need no face model, and so none of its licence-gated data
(reference/metrics.md, section 7).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_PX = 224
NUM_COEFFICIENTS = 257
EXPRESSION = slice(80, 144)
"""Where the 64 expression coefficients are; before them identity, after them texture, pose, light and place."""

_HEADS = (80, 64, 80, 3, 27, 2, 1)
_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
_EXPANSION = 4


class FaceReconstruction(nn.Module):
    """ResNet-50 without its classifier, then one 1×1 convolution per group of coefficients.

    The forward takes ``(batch, 3, 224, 224)`` RGB in [0, 1], without further normalization, and gives ``(batch, 257)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _ResNet50()
        self.final_layers = nn.ModuleList([nn.Conv2d(512 * _EXPANSION, size, 1) for size in _HEADS])

    def forward(self, pictures: Tensor) -> Tensor:
        pooled = self.backbone(pictures)
        return torch.cat([head(pooled) for head in self.final_layers], dim=1).flatten(1)


class _ResNet50(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for number, (width, num_blocks) in enumerate(_STAGES, 1):
            blocks = []
            for block in range(num_blocks):
                stride = 2 if block == 0 and number > 1 else 1
                blocks.append(_Bottleneck(channels, width, stride))
                channels = width * _EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return F.adaptive_avg_pool2d(x, 1)


class _Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 around a shortcut; the 3×3 takes the stride (version 1.5)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * _EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(x))
