"""Between decoded video frames and upright RGB arrays, with the right colours both ways."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

# Rounds instead of truncating and computes colour for every pixel; without these flags swscale shifts all colours by
# about one level of 255.
_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

_UNSPECIFIED = (0, 2)
_HD_LINES = 720  # untagged video is bt709 from here on and bt601 below, as players take it
_YUV = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
BT709 = 1
"""Number of bt709 in the tags for primaries, transfer and matrix (ITU-T H.273)."""


def display_size(frame: Any, aspect: Any) -> tuple[int, int]:
    """Width and height with square pixels, before rotation; ``aspect`` is that of a stored pixel."""
    if not aspect or aspect == 1 or not 0.1 < aspect < 10:
        return frame.width, frame.height
    return max(1, round(frame.width * aspect)), frame.height


class PixelConverter:
    """Converts frames of one video; it keeps the scaler's tables, which cost more than a small frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: Any, width: int, height: int) -> np.ndarray:
        """Convert a decoded frame.

        Args:
            frame: a PyAV video frame of any pixel format.
            width: of the result, before rotation.
            height: of the result, before rotation.

        Returns:
            uint8 ``(height, width, 3)``, full range.
        """
        matrix = int(frame.colorspace)
        source = _YUV.get(matrix)
        if source is None or matrix in _UNSPECIFIED:
            source = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
        converted = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=source,
            dst_color_range=ColorRange.JPEG,
            interpolation=_ACCURATE,
        )
        return converted.to_ndarray()

    def from_rgb(self, pixels: np.ndarray, pixel_format: str) -> Any:
        """Convert an RGB picture to a frame for a video encoder: bt709, limited range.

        Args:
            pixels: uint8 ``(height, width, 3)``.
            pixel_format: a YUV format, such as ``yuv420p``.
        """
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(pixels, format="rgb24"),
            format=pixel_format,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_ACCURATE,
        )


def display_matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """Signs ``(a, b, c, d)`` of the turn and mirror that a file asks of players, or ``None`` for none.

    A point ``(x, y)`` of the stored picture is shown at ``(a x + c y, b x + d y)`` (ISO/IEC 14496-12, 6.2.2).
    Turns by other than quarter circles are rounded to the nearest.
    """
    for item in frame.side_data or ():
        if item.type.name == "DISPLAYMATRIX" and len(bytes(item)) >= 20:
            values = np.frombuffer(bytes(item), np.int32)
            a, b, c, d = (int(value) for value in values[[0, 1, 3, 4]])
            swapped = abs(b) > abs(a)
            signs = (0, _sign(b), _sign(c), 0) if swapped else (_sign(a), 0, 0, _sign(d))
            return None if signs == (1, 0, 0, 1) else signs
    return None


def upright(pixels: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """Apply `display_matrix` to ``(height, width, 3)`` pixels."""
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    if a == 0:
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _sign(value: int) -> int:
    return -1 if value < 0 else 1
