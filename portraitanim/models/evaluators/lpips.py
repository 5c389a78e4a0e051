"""LPIPS (Zhang et al. 2018), version 0.1: distance of two pictures in the features of a classifier.

Trunk and heads have their published names: ``features.N`` of torchvision's AlexNet or VGG-16, ``linN.model.1.weight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LpipsTrunk = Literal["alex", "vgg"]

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_NORM_EPS = 1e-10


class _Conv(NamedTuple):
    """A convolution of the trunk; ``pool`` before it, ``tap`` after its ReLU."""

    number: int
    channels: int
    features: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0
    tap: bool = False


# ``pool`` is the window of the max pool before the convolution; its stride is 2.
_TRUNKS: Mapping[LpipsTrunk, tuple[_Conv, ...]] = {
    "alex": (
        _Conv(0, 3, 64, 11, 4, 2, tap=True),
        _Conv(3, 64, 192, 5, 1, 2, pool=3, tap=True),
        _Conv(6, 192, 384, pool=3, tap=True),
        _Conv(8, 384, 256, tap=True),
        _Conv(10, 256, 256, tap=True),
    ),
    "vgg": (
        _Conv(0, 3, 64),
        _Conv(2, 64, 64, tap=True),
        _Conv(5, 64, 128, pool=2),
        _Conv(7, 128, 128, tap=True),
        _Conv(10, 128, 256, pool=2),
        _Conv(12, 256, 256),
        _Conv(14, 256, 256, tap=True),
        _Conv(17, 256, 512, pool=2),
        _Conv(19, 512, 512),
        _Conv(21, 512, 512, tap=True),
        _Conv(24, 512, 512, pool=2),
        _Conv(26, 512, 512),
        _Conv(28, 512, 512, tap=True),
    ),
}


class Lpips(nn.Module):
    """The distance; differentiable, so that it can also be a loss.

    Args:
        trunk: ``alex`` (the usual choice for comparing) or ``vgg`` (the usual choice for training).
    """

    def __init__(self, trunk: LpipsTrunk = "alex") -> None:
        super().__init__()
        self._convs = _TRUNKS[trunk]
        self.features = nn.ModuleDict(
            {str(c.number): nn.Conv2d(c.channels, c.features, c.kernel, c.stride, c.padding) for c in self._convs}
        )
        for number, features in enumerate(c.features for c in self._convs if c.tap):
            # Published under "model.1": a dropout stands before it in training.
            head = nn.Sequential(nn.Identity(), nn.Conv2d(features, 1, 1, bias=False))
            self.add_module(f"lin{number}", nn.ModuleDict({"model": head}))
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None], persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances ``(batch,)``, 0 for equal pictures.

        Args:
            first: ``(batch, 3, height, width)`` RGB in **[-1, 1]**.
            second: likewise.
        """
        return torch.stack(self.per_layer(first, second)).sum(dim=0)

    def per_layer(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """What each of the five layers adds to the distance, ``(batch,)`` each."""
        distances = []
        for number, (ours, theirs) in enumerate(zip(self._taps(first), self._taps(second), strict=True)):
            head = self.get_submodule(f"lin{number}.model.1")
            distances.append(head((ours - theirs) ** 2).mean(dim=(1, 2, 3)))
        return distances

    def _taps(self, pictures: Tensor) -> list[Tensor]:
        x = (pictures - self.get_buffer("shift")) / self.get_buffer("scale")
        taps = []
        for conv in self._convs:
            if conv.pool:
                x = F.max_pool2d(x, conv.pool, stride=2)
            x = F.relu(self.features[str(conv.number)](x))
            if conv.tap:
                # The root is not differentiable at 0, hence no eps inside as in F.normalize: as published.
                taps.append(x / (x.pow(2).sum(dim=1, keepdim=True).sqrt() + _NORM_EPS))
        return taps
