"""SyncNet (Chung and Zisserman 2016): five frames of a mouth and a fifth of a second of sound as two vectors.

Parameters have the published names. How its vectors become Sync-C, Sync-D and an offset is in `sync_scoring`.
"""

from __future__ import annotations

from torch import Tensor, nn

NUM_FEATURES = 1024
FRAMES_PER_WINDOW = 5
MFCC_STEPS_PER_WINDOW = 20
INPUT_PX = 224


class SyncNet(nn.Module):
    """The network of ``syncnet_v2.model``."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_conv2d(1, 64, 3, padding=1),
            nn.MaxPool2d(1),
            *_conv2d(64, 192, 3, padding=1),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_conv2d(192, 384, 3, padding=1),
            *_conv2d(384, 256, 3, padding=1),
            *_conv2d(256, 256, 3, padding=1),
            nn.MaxPool2d(3, stride=2),
            *_conv2d(256, 512, (5, 4)),
        )
        self.netcnnlip = nn.Sequential(
            *_conv3d(3, 96, (5, 7, 7), stride=2),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_conv3d(96, 256, (1, 5, 5), stride=2, padding=1),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            *_conv3d(256, 256, (1, 3, 3), padding=1),
            *_conv3d(256, 256, (1, 3, 3), padding=1),
            *_conv3d(256, 256, (1, 3, 3), padding=1),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_conv3d(256, 512, (1, 6, 6)),
        )
        self.netfcaud, self.netfclip = _head(), _head()

    def audio(self, mfcc: Tensor) -> Tensor:
        """Vectors of sound.

        Args:
            mfcc: ``(batch, 13, 20)``: coefficients by steps of 10 ms, of 16-bit integer samples.

        Returns:
            ``(batch, 1024)``.
        """
        return self.netfcaud(self.netcnnaud(mfcc[:, None]).flatten(1))

    def lips(self, frames: Tensor) -> Tensor:
        """Vectors of mouths.

        Args:
            frames: float ``(batch, 5, 3, 224, 224)``, **BGR** in 0..255, cut by `sync_crop`.

        Returns:
            ``(batch, 1024)``.
        """
        return self.netfclip(self.netcnnlip(frames.transpose(1, 2)).flatten(1))


def _conv2d(channels: int, features: int, kernel: int | tuple[int, int], padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(channels, features, kernel, padding=padding), nn.BatchNorm2d(features), nn.ReLU()]


def _conv3d(
    channels: int, features: int, kernel: tuple[int, int, int], stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    steps = (1, stride, stride)
    conv = nn.Conv3d(channels, features, kernel, stride=steps, padding=(0, padding, padding))
    return [conv, nn.BatchNorm3d(features), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, NUM_FEATURES))
