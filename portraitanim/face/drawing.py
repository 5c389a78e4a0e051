"""Draw face landmarks as the coloured line drawing that a landmark-driven network reads.

The groups, colours and paint order are EchoMimic's; ``outline`` is ours.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import cv2
import numpy as np

from portraitanim.errors import InputError, ShapeError
from portraitanim.face import landmark_groups as groups
from portraitanim.types import NUM_LANDMARKS

PUBLISHED_CANVAS_PX = 512
"""EchoMimic draws on a canvas of this size, whatever size is asked for."""

PUBLISHED_PARTS = ("eyes", "eyebrows", "pupils", "nose")
"""What EchoMimic draws when it animates."""

LINE_THICKNESS_PX = 2
DOT_HALF_WIDTH_PX = 3

Colour = tuple[int, int, int]


class _Lines(NamedTuple):
    part: str
    edges: groups.Edges
    colour: Colour


class _Dot(NamedTuple):
    part: str
    point: int
    colour: Colour


_LINES = (
    # Under everything else, so that it never hides a part the published networks know.
    _Lines("outline", groups.OUTLINE_EDGES, (200, 20, 120)),
    _Lines("eyes", groups.LEFT_EYE_EDGES, (180, 200, 10)),
    _Lines("eyes", groups.RIGHT_EYE_EDGES, (10, 200, 180)),
    _Lines("eyebrows", groups.LEFT_EYEBROW_EDGES, (180, 220, 10)),
    _Lines("eyebrows", groups.RIGHT_EYEBROW_EDGES, (10, 220, 180)),
    _Lines("irises", groups.LEFT_IRIS_EDGES, (250, 200, 10)),
    _Lines("irises", groups.RIGHT_IRIS_EDGES, (10, 200, 250)),
    _Lines("mouth", groups.LOWER_OUTER_LIP_RIGHT_EDGES, (10, 180, 20)),
    _Lines("mouth", groups.LOWER_OUTER_LIP_LEFT_EDGES, (20, 10, 180)),
    _Lines("mouth", groups.LOWER_INNER_LIP_RIGHT_EDGES, (100, 100, 30)),
    _Lines("mouth", groups.LOWER_INNER_LIP_LEFT_EDGES, (100, 150, 50)),
    _Lines("mouth", groups.UPPER_OUTER_LIP_RIGHT_EDGES, (20, 80, 100)),
    _Lines("mouth", groups.UPPER_OUTER_LIP_LEFT_EDGES, (80, 100, 20)),
    _Lines("mouth", groups.UPPER_INNER_LIP_RIGHT_EDGES, (120, 100, 200)),
    _Lines("mouth", groups.UPPER_INNER_LIP_LEFT_EDGES, (150, 120, 100)),
)
_DOTS = (
    _Dot("pupils", groups.RIGHT_PUPIL, (10, 200, 250)),
    _Dot("pupils", groups.LEFT_PUPIL, (250, 200, 10)),
    _Dot("nose", groups.NOSE_TIP_POINT, (200, 200, 200)),
)

PARTS = tuple(dict.fromkeys(item.part for item in (*_LINES, *_DOTS)))
"""Every part that can be drawn. The six of the command line are these without ``irises`` (rings)."""


def draw_landmarks(
    points_px: np.ndarray,
    canvas_size: tuple[int, int],
    output_size: tuple[int, int],
    parts: Collection[str] = PUBLISHED_PARTS,
    *,
    published: bool = False,
) -> np.ndarray:
    """Draw the landmarks of one face.

    By default the points are scaled from their own canvas to the output and drawn there with crisp lines
    whose width follows the output size; lines that leave the picture are cut at its border. At 512×512 a
    face inside the picture gives the published drawing, pixel for pixel.

    Args:
        points_px: ``(478, 2 or more)``, x and y in pixels of the canvas.
        canvas_size: height and width of the picture the points belong to.
        output_size: height and width of the drawing.
        parts: names from `PARTS`; EchoMimic draws `PUBLISHED_PARTS`, and ``mouth`` on request.
        published: do exactly what EchoMimic's code does: read the points as pixels of the *output* (so points of
            another canvas land elsewhere), leave out lines with an end outside the picture, draw on 512×512
            and resize, which makes colours faint at other sizes. ``outline`` keeps our colour.

    Returns:
        uint8 ``(3, height, width)``, black where nothing is drawn.

    Raises:
        InputError: a part has no such name, or a size is not positive.
        ShapeError: the points are not ``(478, 2 or more)``.

    Source: EchoMimic, landmark encoder input; reference facts in section 5 of its notes.
    """
    _check(points_px, canvas_size, output_size, parts)
    height, width = output_size
    if published:
        normalized = points_px[:, :2] / (width, height)
        canvas = _draw_published(normalized, parts)
        drawing = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        scale = (width / canvas_size[1], height / canvas_size[0])
        drawing = _draw_crisp(points_px[:, :2] * scale, (height, width), parts)
    return np.ascontiguousarray(drawing.transpose(2, 0, 1))


def _draw_published(normalized: np.ndarray, parts: Collection[str]) -> np.ndarray:
    size = PUBLISHED_CANVAS_PX
    canvas = np.zeros((size, size, 3), np.uint8)
    inside = [_is_unit(x) and _is_unit(y) for x, y in normalized]
    pixels = np.zeros((len(normalized), 2), np.int64)
    pixels[inside] = np.minimum(np.floor(normalized[inside] * size), size - 1)
    for lines in _LINES:
        if lines.part in parts:
            for start, end in lines.edges:
                if inside[start] and inside[end]:
                    cv2.line(canvas, pixels[start].tolist(), pixels[end].tolist(), lines.colour, LINE_THICKNESS_PX)
    for dot in _DOTS:
        if dot.part in parts and inside[dot.point]:
            _paint_dot(canvas, pixels[dot.point], DOT_HALF_WIDTH_PX, dot.colour)
    return canvas


def _draw_crisp(points: np.ndarray, size: tuple[int, int], parts: Collection[str]) -> np.ndarray:
    canvas = np.zeros((*size, 3), np.uint8)
    scale = min(size) / PUBLISHED_CANVAS_PX
    thickness = max(1, round(LINE_THICKNESS_PX * scale))
    half_width = max(1, round(DOT_HALF_WIDTH_PX * scale))
    # Far points would overflow OpenCV's fixed-point lines; ten pictures away nothing they join is visible.
    limit = 10 * max(size)
    drawable = np.isfinite(points).all(1) & (np.abs(points) < limit).all(1)
    pixels = np.floor(np.where(drawable[:, None], points, 0.0)).astype(np.int64)
    on_far_edge = points == (size[1], size[0])
    pixels -= on_far_edge  # A point exactly on the border belongs to the last pixel, as in MediaPipe.
    for lines in _LINES:
        if lines.part in parts:
            for start, end in lines.edges:
                if drawable[start] and drawable[end]:
                    cv2.line(canvas, pixels[start].tolist(), pixels[end].tolist(), lines.colour, thickness)
    for dot in _DOTS:
        if dot.part in parts and drawable[dot.point]:
            _paint_dot(canvas, pixels[dot.point], half_width, dot.colour)
    return canvas


def _paint_dot(canvas: np.ndarray, centre: np.ndarray, half_width: int, colour: Colour) -> None:
    # Rows and columns centre-3 .. centre+2 at 512; a negative start would wrap around to the far side.
    left, top = np.maximum(centre - half_width, 0)
    right, bottom = np.maximum(centre + half_width, 0)
    canvas[top:bottom, left:right] = colour


def _is_unit(value: float) -> bool:
    """MediaPipe's test that a coordinate is in the picture, borders included."""
    return (value > 0 or math.isclose(0, value)) and (value < 1 or math.isclose(1, value))


def _check(
    points_px: np.ndarray, canvas_size: tuple[int, int], output_size: tuple[int, int], parts: Collection[str]
) -> None:
    if points_px.ndim != 2 or points_px.shape[0] != NUM_LANDMARKS or points_px.shape[1] < 2:
        raise ShapeError(f"Landmarks of one face must be ({NUM_LANDMARKS}, 2 or more), got {points_px.shape}.")
    if min(*canvas_size, *output_size) < 1:
        raise InputError(f"Sizes must be positive, got canvas {canvas_size} and output {output_size}.")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise InputError(f"Unknown face part {unknown[0]!r}. Choose from: {', '.join(PARTS)}.")
