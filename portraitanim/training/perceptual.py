"""LPIPS for training: how different two pictures look to a network (Zhang et al. 2018, arXiv 1801.03924)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from portraitanim.errors import MissingWeightsError

_WIDTHS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_TRUNK, _HEADS = "vgg16.pth", "lpips_v0.1_vgg.pth"
_MEAN, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """The first layers of VGG-16 and the published weights of their differences.

    Parameter names are those of the published files: ``features.N`` of VGG-16, ``linK.model.1`` of LPIPS 0.1.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = 3
        for stage, (width, count) in enumerate(_WIDTHS):
            layers += [nn.MaxPool2d(2)] if stage else []
            for _ in range(count):
                layers += [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU()]
                inside = width
        self.features = nn.Sequential(*layers)
        self.heads = nn.ParameterList(torch.ones(width) / width for width, _ in _WIDTHS)

    @classmethod
    def load(cls, folder: str | Path | None) -> Lpips:
        """Read trunk and heads from a folder.

        Raises:
            MissingWeightsError: there is no such folder, or a file is missing from it.
        """
        missing = [name for name in (_TRUNK, _HEADS) if folder is None or not (Path(folder) / name).is_file()]
        if folder is None or missing:
            raise MissingWeightsError(
                f"The perceptual term of the spatial loss needs {' and '.join(missing)} in objective.lpips_weights "
                f"(got {folder}): torchvision's VGG-16 weights (vgg16-397923af.pth, saved as {_TRUNK}) and LPIPS 0.1's "
                f"{_HEADS}. Get them, or set objective.lpips_weight=0."
            )
        model = cls()
        trunk = torch.load(Path(folder) / _TRUNK, map_location="cpu", weights_only=True)
        heads = torch.load(Path(folder) / _HEADS, map_location="cpu", weights_only=True)
        model.features.load_state_dict(
            {key.removeprefix("features."): value for key, value in trunk.items() if key.startswith("features.")}
        )
        with torch.no_grad():
            for number, head in enumerate(model.heads):
                head.copy_(heads[f"lin{number}.model.1.weight"].flatten())
        return model.eval()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance ``(batch,)`` of pictures ``(batch, 3, height, width)`` in [-1, 1]."""
        total = first.new_zeros(len(first))
        for head, one, other in zip(self.heads, self._depths(first), self._depths(second), strict=True):
            difference = (_unit(one) - _unit(other)).square()
            total = total + (difference * head[:, None, None]).sum(dim=1).mean(dim=(1, 2))
        return total

    def _depths(self, pictures: Tensor) -> Iterator[Tensor]:
        mean, scale = (pictures.new_tensor(values)[:, None, None] for values in (_MEAN, _SCALE))
        hidden = (pictures - mean) / scale
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                yield hidden
            hidden = layer(hidden)
        yield hidden


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
