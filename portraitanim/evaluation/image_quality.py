"""How near one picture is to another, pixel by pixel: SSIM and PSNR, with the settings of the references."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from portraitanim.errors import ShapeError

SsimWindow = Literal["gaussian", "uniform"]

DATA_RANGE = 255.0
_K1, _K2 = 0.01, 0.03
_GAUSSIAN_SIGMA, _GAUSSIAN_RADIUS = 1.5, 5
_UNIFORM_SIZE = 7


@dataclass(frozen=True, kw_only=True)
class SsimSettings:
    """Which SSIM is meant: published numbers differ in it by hundredths.

    Attributes:
        window: ``gaussian`` (11 pixels, sigma 1.5, population covariance) is Wang et al. 2004; ``uniform`` (7 pixels,
            sample covariance) is scikit-image's default.
        grey: compare luma instead of the mean over red, green and blue.
    """

    window: SsimWindow = "gaussian"
    grey: bool = False

    @property
    def min_size_px(self) -> int:
        """Side of the smallest picture that can be compared."""
        return 2 * _GAUSSIAN_RADIUS + 1 if self.window == "gaussian" else _UNIFORM_SIZE


def ssim(first: np.ndarray, second: np.ndarray, settings: SsimSettings | None = None) -> float:
    """Structural similarity of two pictures (Wang et al. 2004, equation 13); 1 for equal ones.

    The border that the window does not cover whole is left out of the mean, as scikit-image does.

    Args:
        first: uint8 RGB ``(3, height, width)``.
        second: a picture of the same shape.
        settings: which SSIM; the default is that of Wang et al. on colour.

    Raises:
        ShapeError: the shapes differ, or a side is shorter than the window.
    """
    chosen = settings or SsimSettings()
    _require_pair(first, second, chosen.min_size_px)
    pair = [_planes(picture, chosen.grey) for picture in (first, second)]
    return float(np.mean([_plane_ssim(x, y, chosen.window) for x, y in zip(*pair, strict=True)]))


def mean_squared_error(first: np.ndarray, second: np.ndarray) -> float:
    """Mean squared difference of two pictures of one shape, 0 to 255².

    Raises:
        ShapeError: the shapes differ.
    """
    _require_pair(first, second, 1)
    return float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures.

    Raises:
        ShapeError: the shapes differ.
    """
    return psnr_of_error(mean_squared_error(first, second))


def psnr_of_error(squared_error: float) -> float:
    """PSNR in dB of a mean squared error on the scale 0 to 255²."""
    return math.inf if squared_error == 0 else 10 * math.log10(DATA_RANGE**2 / squared_error)


def _planes(picture: np.ndarray, grey: bool) -> np.ndarray:
    if not grey:
        return picture.astype(np.float64)
    # OpenCV's integer luma, which the published grey SSIM was computed on.
    luma = cv2.cvtColor(np.ascontiguousarray(picture.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    return np.asarray(luma, dtype=np.float64)[None]


def _plane_ssim(x: np.ndarray, y: np.ndarray, window: SsimWindow) -> float:
    if window == "gaussian":
        offsets = np.arange(-_GAUSSIAN_RADIUS, _GAUSSIAN_RADIUS + 1)
        weights = np.exp(-0.5 * (offsets / _GAUSSIAN_SIGMA) ** 2)
        weights /= weights.sum()
        sample_factor = 1.0
    else:
        weights = np.full(_UNIFORM_SIZE, 1 / _UNIFORM_SIZE)
        sample_factor = _UNIFORM_SIZE**2 / (_UNIFORM_SIZE**2 - 1)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (_local_mean(plane, weights) for plane in (x, y, x * x, y * y, x * y))
    variance_x = sample_factor * (mean_xx - mean_x**2)
    variance_y = sample_factor * (mean_yy - mean_y**2)
    covariance = sample_factor * (mean_xy - mean_x * mean_y)
    c1, c2 = (_K1 * DATA_RANGE) ** 2, (_K2 * DATA_RANGE) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    likeness /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    border = len(weights) // 2
    return float(likeness[border:-border, border:-border].mean())


def _local_mean(plane: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # Four times as fast as scipy's, and equal to it but for the border, which is cut off.
    return np.asarray(cv2.sepFilter2D(plane, cv2.CV_64F, weights, weights))


def _require_pair(first: np.ndarray, second: np.ndarray, min_size_px: int) -> None:
    if first.shape != second.shape or first.ndim != 3 or first.shape[0] != 3:
        raise ShapeError(
            f"Two pictures (3, height, width) of one shape are compared, got {first.shape}, {second.shape}."
        )
    if min(first.shape[1:]) < min_size_px:
        raise ShapeError(f"Pictures must be at least {min_size_px} pixels on each side, got {first.shape[1:]}.")
