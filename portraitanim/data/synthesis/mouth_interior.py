"""What is seen between open lips: a dark cavity, teeth and tongue, drawn where the skull and the jaw put them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from portraitanim.face.curves import smooth_step
from portraitanim.face.head_mesh import INNER_LIPS
from portraitanim.face.regions import polygon_coverage

_UPPER_TEETH = np.array([0.145, 0.115, 0.10, 0.075, 0.05])
_LOWER_TEETH = np.array([0.095, 0.095, 0.09, 0.07, 0.05])
"""Seen widths from the middle outwards, in mouth widths (a mouth is about 50 mm wide)."""

_RIM_PX = 0.6
"""Softness of the border between lips and cavity in a picture of 256 pixels."""


@dataclass(frozen=True, kw_only=True)
class MouthLook:
    """How the inside of one person's mouth looks; lengths in mouth widths, colours as RGB in [0, 255].

    Attributes:
        teeth: colour of the teeth in full light.
        cavity: colour of the throat.
        tongue: colour of the tongue.
        upper_teeth_drop: how far the upper teeth reach below the resting lip.
        lower_teeth_rise: how far the lower teeth reach above the lower lip; negative hides them.
        tongue_rise: how far the tongue does.
        gap: darkness of the lines between teeth, 0 for none.
    """

    teeth: tuple[float, float, float]
    cavity: tuple[float, float, float]
    tongue: tuple[float, float, float]
    upper_teeth_drop: float
    lower_teeth_rise: float
    tongue_rise: float
    gap: float

    @classmethod
    def random(cls, rng: np.random.Generator, skin: np.ndarray) -> MouthLook:
        """Draw a look that suits a face whose skin has the mean colour ``skin``, RGB."""
        light = float(np.clip(skin.mean() / 170, 0.35, 1.15))
        grey = float(np.clip(1 - (skin.max() - skin.min()) / 60, 0, 1))
        tint = skin / max(float(skin.mean()), 1.0)

        def shade(colour: tuple[float, float, float], brightness: float, share_of_tint: float) -> tuple[float, ...]:
            value = np.array(colour) * brightness * (1 + share_of_tint * (tint - 1))
            value = value + grey * (value.mean() - value)
            return tuple(np.clip(value, 0, 250).tolist())

        return cls(
            teeth=shade((236, 228, 214), light * rng.uniform(0.88, 1.06), 0.35),  # type: ignore[arg-type]
            cavity=shade((46, 16, 16), 0.5 + 0.5 * light, 0.0),  # type: ignore[arg-type]
            tongue=shade((172, 84, 84), light * rng.uniform(0.75, 1.0), 0.1),  # type: ignore[arg-type]
            upper_teeth_drop=float(rng.uniform(0.03, 0.10)),
            lower_teeth_rise=float(rng.uniform(-0.05, 0.045)),
            tongue_rise=float(rng.uniform(0.02, 0.11)),
            gap=float(rng.uniform(0.08, 0.3)),
        )


class MouthInterior:
    """Draws the inside of the mouth of one portrait.

    Args:
        landmarks: ``(478, 3)`` of the portrait, in its pixels.
        look: colours and proportions.
    """

    def __init__(self, landmarks: np.ndarray, look: MouthLook) -> None:
        self._look = look
        rest = landmarks.astype(np.float64)
        self._width = float(np.linalg.norm(rest[308, :2] - rest[78, :2]))
        # The lips' line at rest is where the teeth meet; it lies a little behind the lips.
        line = (rest[13] + rest[14]) / 2
        line = line + (rest[78] + rest[308] - 2 * line) / 2 * [0, 0.3, 0.5]
        self._line = np.append(line, 1.0)

    def draw(self, frame: np.ndarray, target: np.ndarray, head: np.ndarray) -> None:
        """Paint into a frame, in place.

        Args:
            frame: float32 RGB ``(height, width, 3)`` in [0, 255].
            target: landmarks ``(478, 2 or 3)`` of the frame.
            head: affine ``(2, 4)`` of the skull, portrait to frame.
        """
        lips = target[list(INNER_LIPS), :2]
        opening = float(np.linalg.norm(target[13, :2] - target[14, :2]))
        if opening < 0.4:
            return
        size = frame.shape[0]
        low = np.clip(np.floor(lips.min(0)) - 3, 0, size - 1).astype(int)
        high = np.clip(np.ceil(lips.max(0)) + 4, 1, size).astype(int)
        if (high - low < 2).any():
            return
        cover = _soft_polygon(lips - low, high - low)
        x, y_upper, y_lower = self._coordinates(low, high, target, head)
        inside = self._paint(x, y_upper, y_lower) * self._light(cover, opening)[..., None]
        alpha = (cover * np.clip((opening - 0.4) / 1.6, 0, 1))[..., None]
        part = frame[low[1] : high[1], low[0] : high[0]]
        part += alpha * (inside - part)

    def _coordinates(
        self, low: np.ndarray, high: np.ndarray, target: np.ndarray, head: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Each pixel's place in mouth widths: across, below the upper teeth's line, below the lower teeth's line."""
        linear = head[:, :2]
        scale = np.sqrt(abs(np.linalg.det(linear))) * self._width
        across = linear[:, 0] / np.linalg.norm(linear[:, 0])
        down = np.array([-across[1], across[0]])
        columns, rows = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        pixels = np.stack([columns, rows], axis=-1)
        upper = head @ self._line
        jaw = target[14, :2] - upper
        place = (pixels - upper) / scale
        x = place @ across - 0.6 * float(jaw @ across) / scale * np.clip(place @ down * 3, 0, 1)
        y = place @ down
        return x, y, y - float(jaw @ down) / scale

    def _paint(self, x: np.ndarray, y: np.ndarray, y_jaw: np.ndarray) -> np.ndarray:
        look = self._look
        depth = np.clip(1 - 1.2 * np.abs(x), 0.3, 1)[..., None]
        colour = np.array(look.cavity) * depth * np.ones((*x.shape, 1))
        # Tongue: a soft mound behind the lower lip, with a groove.
        mound = y_jaw + look.tongue_rise - 0.8 * x**2
        tongue = _step(mound / 0.05) * _step((0.36 - np.abs(x)) / 0.08)
        shade = np.clip(0.45 + 3.0 * mound, 0.3, 0.95) - 0.1 * np.exp(-((x / 0.02) ** 2))
        colour += tongue[..., None] * (np.array(look.tongue) * shade[..., None] - colour)
        lower = _step((y_jaw + look.lower_teeth_rise - 0.25 * x**2) / 0.02) * _step((0.34 - np.abs(x)) / 0.05)
        colour += lower[..., None] * (self._teeth(x, _LOWER_TEETH, 0.78) - colour)
        edge, nearness = _tooth_edges(x, _UPPER_TEETH)
        bottom = look.upper_teeth_drop - 0.35 * x**2 - 0.012 * nearness - edge
        upper = _step((bottom - y) / 0.022) * _step((0.44 - np.abs(x)) / 0.05)
        colour += upper[..., None] * (self._teeth(x, _UPPER_TEETH, 1.0) - colour)
        return colour

    def _teeth(self, x: np.ndarray, widths: np.ndarray, brightness: float) -> np.ndarray:
        _, nearness = _tooth_edges(x, widths)
        light = brightness * np.clip(1.05 - 2.1 * x**2, 0.35, 1) * (1 - self._look.gap * nearness)
        return np.array(self._look.teeth) * light[..., None]

    def _light(self, cover: np.ndarray, opening: float) -> np.ndarray:
        """Lips throw a shadow into the mouth, deeper the less it is open; the upper lip more than the lower."""
        reach = max(1.0, 0.07 * self._width)
        blurred = cv2.GaussianBlur(cover, (0, 0), reach)
        shift = np.array([[1, 0, 0], [0, 1, 0.8 * reach]], np.float32)
        from_above = cv2.warpAffine(blurred, shift, (cover.shape[1], cover.shape[0]))
        open_share = np.clip(opening / (0.25 * self._width), 0, 1)
        light = np.clip(0.25 + 0.5 * blurred + 0.55 * from_above, 0, 1)
        return light * (0.62 + 0.38 * open_share)


def _tooth_edges(x: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much shorter the tooth at ``x`` is than the middle ones, and how near (0..1) a gap is."""
    borders = np.concatenate([[0.0], np.cumsum(widths)])
    outward = np.abs(x)
    index = np.clip(np.searchsorted(borders, outward) - 1, 0, len(widths) - 1)
    distance = np.abs(outward[..., None] - borders).min(-1)
    shorter = np.array([0.0, 0.012, 0.0, 0.01, 0.015])[: len(widths)][index]
    return shorter, np.exp(-((distance / 0.014) ** 2))


def _soft_polygon(corners: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Coverage ``(rows, columns)`` float32 of a polygon with a soft rim."""
    return cv2.GaussianBlur(polygon_coverage(corners, size), (0, 0), _RIM_PX)


def _step(value: np.ndarray) -> np.ndarray:
    """From 0 to 1 about 0."""
    return smooth_step(value + 0.5)
