"""S3FD (Zhang et al. 2017), the face detector of SyncNet's published pipeline, with the names of ``sfd_face.pth``.

It looks at a picture at a quarter of its size; its boxes fix how much of a face SyncNet sees.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 0.25
_MIN_SCORE = 0.9  # of SyncNet's pipeline
_CANDIDATE_SCORE, _CANDIDATE_OVERLAP, _MAX_CANDIDATES = 0.05, 0.3, 5000
_FINAL_OVERLAP = 0.1
_MEAN_RGB = (123.0, 117.0, 104.0)
_VARIANCES = (0.1, 0.2)
_STRIDES = (4, 8, 16, 32, 64, 128)
_BOX_SIDES = (16, 32, 64, 128, 256, 512)
# Index of each convolution in the published list → channels in and out; a max pool stands before those in _POOLED.
_VGG = {
    **{0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)},
    **{17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)},
}
_POOLED = (5, 10, 17, 24)
_CEIL_POOL = 17
_TAPS = {14: ("L2Norm3_3", 256), 21: ("L2Norm4_3", 512), 28: ("L2Norm5_3", 512)}
_SOURCES = (256, 512, 512, 1024, 512, 256)


class RawDetections(NamedTuple):
    """What the network gives for a batch.

    Attributes:
        offsets: ``(batch, boxes, 4)``, of centre and size.
        scores: of background and face, ``(batch, boxes, 2)``.
        priors: what the offsets refer to: centre and size in shares of the picture, ``(boxes, 4)``.
    """

    offsets: Tensor
    scores: Tensor
    priors: Tensor


class S3FD(nn.Module):
    """The detector. `detect_faces` prepares its input and reads its output."""

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {
            str(index): nn.Conv2d(channels, features, 3, padding=1) for index, (channels, features) in _VGG.items()
        }
        layers["31"] = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
        layers["33"] = nn.Conv2d(1024, 1024, 1)
        self.vgg = nn.ModuleDict(layers)
        for name, channels in _TAPS.values():
            self.add_module(name, _L2Norm(channels))
        self.extras = nn.ModuleList(
            [
                nn.Conv2d(1024, 256, 1),
                nn.Conv2d(256, 512, 3, stride=2, padding=1),
                nn.Conv2d(512, 128, 1),
                nn.Conv2d(128, 256, 3, stride=2, padding=1),
            ]
        )
        self.loc = nn.ModuleList([nn.Conv2d(channels, 4, 3, padding=1) for channels in _SOURCES])
        # The finest level has three background scores, of which the largest counts.
        outputs = (4, 2, 2, 2, 2, 2)
        self.conf = nn.ModuleList(
            [nn.Conv2d(channels, size, 3, padding=1) for channels, size in zip(_SOURCES, outputs, strict=True)]
        )

    def forward(self, pictures: Tensor) -> RawDetections:
        """Detect.

        Args:
            pictures: ``(batch, 3, height, width)`` RGB, 0..255 with the mean subtracted, see `detector_input`.
        """
        offsets, scores, priors = [], [], []
        size = (pictures.shape[3], pictures.shape[2])
        for level, source in enumerate(self._sources(pictures)):
            offsets.append(self.loc[level](source).permute(0, 2, 3, 1).flatten(1, 2))
            raw = self.conf[level](source)
            if level == 0:
                raw = torch.cat([raw[:, :3].amax(dim=1, keepdim=True), raw[:, 3:]], dim=1)
            scores.append(raw.permute(0, 2, 3, 1).flatten(1, 2))
            priors.append(_priors(source.shape[2], source.shape[3], _STRIDES[level], _BOX_SIDES[level], size))
        where = pictures.device
        return RawDetections(
            torch.cat(offsets, dim=1), torch.cat(scores, dim=1).softmax(dim=-1), torch.cat(priors).to(where)
        )

    def _sources(self, x: Tensor) -> list[Tensor]:
        sources = []
        for index in _VGG:
            if index in _POOLED:
                x = F.max_pool2d(x, 2, ceil_mode=index == _CEIL_POOL)
            x = F.relu(self.vgg[str(index)](x))
            if index in _TAPS:
                sources.append(self.get_submodule(_TAPS[index][0])(x))
        x = F.max_pool2d(x, 2)
        x = F.relu(self.vgg["33"](F.relu(self.vgg["31"](x))))
        sources.append(x)
        for number, layer in enumerate(self.extras):
            x = F.relu(layer(x))
            if number % 2:
                sources.append(x)
        return sources


class _L2Norm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10
        return self.weight[:, None, None] * (x / norm)


def detector_input(image: np.ndarray) -> Tensor:
    """A picture as the network reads it: ``(3, height / 4, width / 4)``.

    Args:
        image: uint8 RGB ``(3, height, width)``.
    """
    import cv2

    small = cv2.resize(
        np.ascontiguousarray(image.transpose(1, 2, 0)), None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR
    )
    return torch.from_numpy(small.astype(np.float32) - np.array(_MEAN_RGB, np.float32)).permute(2, 0, 1)


def detect_faces(network: S3FD, image: np.ndarray) -> np.ndarray:
    """Faces of one picture: float64 ``(faces, 5)``: x0, y0, x1, y1 in pixels and the score, best first.

    Args:
        network: on any device.
        image: uint8 RGB ``(3, height, width)``.
    """
    device = next(network.parameters()).device
    raw = network(detector_input(image)[None].to(device))
    boxes = decode_boxes(raw.offsets[0], raw.priors).cpu().numpy().astype(np.float64)
    scores = raw.scores[0, :, 1].cpu().numpy().astype(np.float64)
    candidates = np.flatnonzero(scores > _CANDIDATE_SCORE)
    candidates = candidates[np.argsort(-scores[candidates], kind="stable")][:_MAX_CANDIDATES]
    kept = candidates[keep_distinct(boxes[candidates], _CANDIDATE_OVERLAP)]
    kept = kept[scores[kept] > _MIN_SCORE]
    height, width = image.shape[1:]
    faces = np.concatenate([boxes[kept] * (width, height, width, height), scores[kept, None]], axis=1)
    return faces[keep_distinct(faces[:, :4], _FINAL_OVERLAP)]


def decode_boxes(offsets: Tensor, priors: Tensor) -> Tensor:
    """Boxes ``(n, 4)`` as x0, y0, x1, y1 in shares of the picture."""
    centre = priors[:, :2] + offsets[:, :2] * _VARIANCES[0] * priors[:, 2:]
    size = priors[:, 2:] * torch.exp(offsets[:, 2:] * _VARIANCES[1])
    low = centre - size / 2
    return torch.cat([low, low + size], dim=1)


def keep_distinct(boxes: np.ndarray, max_overlap: float) -> np.ndarray:
    """Indices of boxes, given best first, that do not overlap a better one by more than ``max_overlap``."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = np.arange(len(boxes))
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:4], boxes[left, 2:4])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        left = left[shared / (areas[best] + areas[left] - shared) <= max_overlap]
    return np.array(kept, dtype=int)


def _priors(rows: int, columns: int, stride: int, side: int, size: tuple[int, int]) -> Tensor:
    width, height = size
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centre = torch.stack([(x + 0.5) * stride / width, (y + 0.5) * stride / height], dim=-1).reshape(-1, 2)
    return torch.cat([centre, torch.tensor([side / width, side / height]).expand(len(centre), 2)], dim=1)
