"""Where lip, expression and pose are in a picture, from face landmarks (Hallo, section 3.2).

Regions are rectangles around groups of landmarks, blurred on a coarse 64×64 grid that is stretched over the
whole picture. The lip region is cut out of the expression region; pose is everything that is not the face.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image

from portraitanim.errors import InputError, ShapeError
from portraitanim.face.landmark_groups import FACE_SILHOUETTE, LIPS_OUTLINE
from portraitanim.types import NUM_LANDMARKS, RegionMasks

MASK_GRID = 64
"""Side of the grid on which the published masks are blurred and stored."""

FACE_EXPAND, LIP_EXPAND = 1.2, 2.0
"""How much the boxes grow for animation; training uses the boxes as they are."""

FACE_BLUR_KERNEL, LIP_BLUR_KERNEL = 51, 31
LATENT_STRIDE = 8

_FINER = 4
"""Polygons are painted on a grid so many times finer, and averaged."""
_FRACTION_BITS = 4


class PixelBox(NamedTuple):
    """A rectangle of pixels, ends exclusive."""

    top: int
    bottom: int
    left: int
    right: int


def face_box(points_px: np.ndarray, height: int, width: int, expand: float = FACE_EXPAND) -> PixelBox:
    """Box around the face silhouette, grown about its middle and kept inside the picture.

    Args:
        points_px: ``(478, 2 or more)`` in pixels.
        height: of the picture.
        width: of the picture.
        expand: factor on both sides of the box.
    """
    return _group_box(points_px, FACE_SILHOUETTE, height, width, expand)


def lip_box(points_px: np.ndarray, height: int, width: int, expand: float = LIP_EXPAND) -> PixelBox:
    """Box around the outer border of the lips; arguments as in `face_box`."""
    return _group_box(points_px, LIPS_OUTLINE, height, width, expand)


def union_box(boxes: Sequence[PixelBox]) -> PixelBox:
    """The smallest box that holds all boxes, for clips in which the face moves."""
    if not boxes:
        raise InputError("The union of no boxes is undefined; give at least one frame with a face.")
    tops, bottoms, lefts, rights = zip(*boxes, strict=True)
    return PixelBox(min(tops), max(bottoms), min(lefts), max(rights))


def fill_box(box: PixelBox, height: int, width: int) -> np.ndarray:
    """A uint8 picture ``(height, width)``: 255 inside the box, 0 outside."""
    mask = np.zeros((height, width), np.uint8)
    mask[max(box.top, 0) : max(box.bottom, 0), max(box.left, 0) : max(box.right, 0)] = 255
    return mask


def polygon_coverage(corners: np.ndarray, size: np.ndarray) -> np.ndarray:
    """How much of each pixel a polygon covers: float32 ``(height, width)`` in [0, 1].

    Args:
        corners: ``(points, 2)`` in pixels, ``(x, y)``.
        size: of the result, ``(width, height)``.
    """
    width, height = int(size[0]), int(size[1])
    canvas = np.zeros((height * _FINER, width * _FINER), np.uint8)
    fixed_point = np.rint((corners * _FINER - 0.5) * 2**_FRACTION_BITS).astype(np.int32)
    cv2.fillPoly(canvas, [fixed_point], 255, shift=_FRACTION_BITS)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def region_masks(points_px: np.ndarray, height: int, width: int) -> np.ndarray:
    """Masks that say where each region's audio attention acts while animating.

    Args:
        points_px: landmarks of the portrait, ``(478, 2 or more)`` in pixels.
        height: of the picture the landmarks belong to.
        width: of that picture.

    Returns:
        uint8 ``(3, 64, 64)``: pose, expression, lip (the order of `portraitanim.types.REGION_NAMES`).
    """
    face = soft_mask(face_box(points_px, height, width), height, width, FACE_BLUR_KERNEL)
    lip = soft_mask(lip_box(points_px, height, width), height, width, LIP_BLUR_KERNEL)
    # Truncated as published: the product may fall one level below 255 - face.
    pose = ((1 - face / 255) * 255).astype(np.uint8)
    return np.stack([pose, cv2.subtract(face, lip), lip])


def training_region_masks(frames_points_px: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Masks for a whole training clip: boxes over all frames, not grown (Hallo's data preparation).

    Args:
        frames_points_px: landmarks of each frame, ``(478, 2 or more)`` in pixels.
        height: of the frames.
        width: of the frames.

    Returns:
        uint8 ``(3, 64, 64)`` as `region_masks`; pose is exactly 255 minus the blurred face.
    """
    face_union = union_box([face_box(points, height, width, 1.0) for points in frames_points_px])
    lip_union = union_box([lip_box(points, height, width, 1.0) for points in frames_points_px])
    face = soft_mask(face_union, height, width, FACE_BLUR_KERNEL)
    lip = soft_mask(lip_union, height, width, LIP_BLUR_KERNEL)
    return np.stack([255 - face, cv2.subtract(face, lip), lip])


def mask_pyramid(masks: np.ndarray, image_size: tuple[int, int], num_levels: int = 4) -> RegionMasks:
    """Bring region masks to the feature map of every UNet depth.

    The grid covers the picture from border to border, so for a picture that is not square it is stretched
    like the picture. A stride-2 convolution rounds odd sizes up, and so do the levels.

    Args:
        masks: uint8 ``(3, rows, columns)`` from `region_masks` or `training_region_masks`.
        image_size: height and width of the generated video in pixels.
        num_levels: depths of the UNet, 4 in Stable Diffusion.

    Returns:
        Levels ``(1, 1, 3, tokens)``, float32 in [0, 1]; level 0 has an eighth of the image size.

    Raises:
        ShapeError: the masks are not uint8 ``(3, rows, columns)``, or an image side is below 8 pixels.
    """
    if masks.ndim != 3 or masks.shape[0] != 3 or masks.dtype != np.uint8:
        raise ShapeError(f"Region masks must be uint8 (3, rows, columns), got {masks.dtype} {masks.shape}.")
    rows, columns = (side // LATENT_STRIDE for side in image_size)
    if min(rows, columns) < 1 or num_levels < 1:
        raise ShapeError(
            f"Masks need an image of at least {LATENT_STRIDE} pixels a side and one level, "
            f"got {image_size} and {num_levels}."
        )
    levels = []
    for _ in range(num_levels):
        resized = [_resize_pil(mask, rows, columns) for mask in masks]
        level = np.stack(resized).reshape(1, 1, 3, rows * columns).astype(np.float32) / 255
        levels.append(torch.from_numpy(level))
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    return RegionMasks(levels=tuple(levels))


def face_region_map(box: PixelBox, height: int, width: int, output_size: tuple[int, int]) -> np.ndarray:
    """Hallo's condition map: the filled face box, not blurred, resized with antialiasing.

    Args:
        box: from `face_box`, or `union_box` for a training clip.
        height: of the picture the box belongs to.
        width: of that picture.
        output_size: height and width of the generated video.

    Returns:
        uint8 ``(3, height, width)``, three equal channels; the network reads it divided by 255.
    """
    mask = _resize_pil(fill_box(box, height, width), *output_size)
    return np.repeat(mask[None], 3, axis=0)


def soft_mask(box: PixelBox, height: int, width: int, kernel: int) -> np.ndarray:
    """Fill a box, shrink the picture to 64×64, blur it and stretch its range to 0..255.

    Returns:
        uint8 ``(64, 64)``.
    """
    coarse = cv2.resize(fill_box(box, height, width), (MASK_GRID, MASK_GRID), interpolation=cv2.INTER_LINEAR)
    if not coarse.any():
        # A face of a few pixels falls between the samples of the coarse grid; published: an empty mask.
        row = min((box.top + box.bottom) * MASK_GRID // (2 * height), MASK_GRID - 1)
        column = min((box.left + box.right) * MASK_GRID // (2 * width), MASK_GRID - 1)
        coarse[row, column] = 255
    blurred = cv2.GaussianBlur(coarse, (kernel, kernel), 0)
    if blurred.min() == blurred.max():
        # A face that fills the picture. Published: normalising a constant turns it into an empty mask.
        return np.full_like(blurred, 255)
    normalized: np.ndarray = cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX)
    return normalized


def _group_box(points_px: np.ndarray, group: tuple[int, ...], height: int, width: int, expand: float) -> PixelBox:
    if points_px.ndim != 2 or points_px.shape[0] != NUM_LANDMARKS or points_px.shape[1] < 2:
        raise ShapeError(f"Landmarks of one face must be ({NUM_LANDMARKS}, 2 or more), got {points_px.shape}.")
    points = points_px[list(group), :2].astype(np.float64)
    if not np.isfinite(points).all():
        raise InputError("Landmarks hold values that are not finite; detect the face again.")
    if not expand > 0 or min(height, width) < 1:
        raise InputError(f"A box needs expand > 0 and a picture, got expand {expand} and {height}x{width}.")
    left, right = _expand_span(points[:, 0].min(), points[:, 0].max(), width, expand)
    top, bottom = _expand_span(points[:, 1].min(), points[:, 1].max(), height, expand)
    return PixelBox(top, bottom, left, right)


def _expand_span(low: float, high: float, size: int, expand: float) -> tuple[int, int]:
    """Grow one side of a box and push it into the picture, with the roundings of the published code."""
    low, high = np.round(low), np.round(high)  # halves go to the even number
    middle = (low + high) // 2
    half = (high - low) * expand // 2
    low, high = middle - half, middle + half
    if low < 0:
        low, high = 0, high - low
    if high > size:
        low, high = low - (high - size), size
    # Published: a box larger than the picture starts at a negative number here, which Python reads as counted
    # from the far side, so that the mask is empty. We clamp, and never return a box without a pixel.
    low = min(max(round(low), 0), size - 1)
    return low, max(round(high), low + 1)


def _resize_pil(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize((columns, rows), Image.Resampling.BILINEAR))
