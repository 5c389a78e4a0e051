"""Thousands of people from tens of portraits: morphs, mirror images, other colours, framings and backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from portraitanim.data.synthesis.morphing import can_mix, morph
from portraitanim.data.synthesis.portrait_bank import BankPortrait, background_plate, person_colours
from portraitanim.errors import InputError
from portraitanim.face.mesh_topology import mirror_points
from portraitanim.face.triangle_map import sample
from portraitanim.face.warping import invert, square_transform, transform_points


@dataclass(frozen=True, kw_only=True)
class VariantOdds:
    """How often and how far portraits are changed; shares in [0, 1].

    Attributes:
        single: of people who are taken as they are; of the rest two thirds mix two, one third three.
        flip: of mirror images.
        new_background: of people before another background; half of the others see theirs blurred.
        max_tilt_degrees: largest tilt of the whole picture.
        faded: of pictures with little contrast, as of old paintings, whose lips hardly differ from the skin.
        face_shares: range of the face's longer side in sides of the picture.
    """

    single: float = 0.2
    flip: float = 0.5
    new_background: float = 0.5
    max_tilt_degrees: float = 4.0
    faded: float = 0.15
    face_shares: tuple[float, float] = (0.52, 0.62)


def portrait_variants(
    bank: Sequence[BankPortrait], rng: np.random.Generator, size_px: int, odds: VariantOdds | None = None
) -> BankPortrait:
    """Draw one new portrait.

    Args:
        bank: portraits to draw from, larger framed than `VariantOdds.face_shares`.
        rng: decides everything; the same state gives the same portrait.
        size_px: side of the result.
        odds: how often and how far things change.

    Returns:
        A portrait whose name says who it was made of: ``a+b`` for a mixture of a and b, ``a`` for a alone.

    Raises:
        InputError: the bank is empty.
    """
    if not bank:
        raise InputError("The portrait bank is empty; nothing can be drawn from it.")
    odds = odds or VariantOdds()
    portrait = _person(bank, rng, odds)
    if rng.random() < odds.flip:
        portrait = _mirrored(portrait)
    portrait = _reframed(portrait, rng, size_px, odds)
    portrait = _other_background(portrait, rng, bank, odds)
    return _other_colours(portrait, rng, odds)


def _person(bank: Sequence[BankPortrait], rng: np.random.Generator, odds: VariantOdds) -> BankPortrait:
    base = bank[rng.integers(len(bank))]
    partners = [other for other in bank if other is not base and can_mix(base, other)]
    if not partners or rng.random() < odds.single:
        return base
    count = min(len(partners), 1 if rng.random() < 2 / 3 else 2)
    chosen = [base, *(partners[index] for index in rng.choice(len(partners), count, replace=False))]
    shape, texture = (rng.dirichlet(np.full(len(chosen), 2.0)) for _ in range(2))
    return morph(chosen, shape.tolist(), texture.tolist(), "+".join(portrait.name for portrait in chosen))


def _mirrored(portrait: BankPortrait) -> BankPortrait:
    return replace(
        portrait,
        image=np.ascontiguousarray(portrait.image[..., ::-1]),
        person=np.ascontiguousarray(portrait.person[:, ::-1]),
        points=mirror_points(portrait.points, portrait.size_px),
    )


def _reframed(portrait: BankPortrait, rng: np.random.Generator, size_px: int, odds: VariantOdds) -> BankPortrait:
    """Another place, size, width and tilt of the face in the picture."""
    low, high = portrait.points[:, :2].min(0), portrait.points[:, :2].max(0)
    face = float((high - low).max())
    side = face / rng.uniform(*odds.face_shares)
    angle = np.radians(rng.uniform(-1, 1) * odds.max_tilt_degrees)
    centre = (low + high) / 2 + rng.uniform(-0.035, 0.035, 2) * side
    transform = square_transform((float(centre[0]), float(centre[1])), side, size_px, angle)
    wider = rng.uniform(0.93, 1.07)
    stretch = np.array([[wider, 0, (1 - wider) * size_px / 2], [0, 1 / wider, (1 - 1 / wider) * size_px / 2]])
    transform = stretch @ np.vstack([transform, [0, 0, 1]])
    back = invert(transform).astype(np.float32)
    middle = np.arange(size_px, dtype=np.float32) + 0.5
    x, y = np.meshgrid(middle, middle)
    places = np.stack([back[0, 0] * x + back[0, 1] * y + back[0, 2], back[1, 0] * x + back[1, 1] * y + back[1, 2]], -1)
    layers = sample(np.dstack([portrait.image.transpose(1, 2, 0).astype(np.float32), portrait.person]), places)
    image = np.rint(np.clip(layers[..., :3], 0, 255)).astype(np.uint8).transpose(2, 0, 1)
    return replace(
        portrait,
        image=np.ascontiguousarray(image),
        person=np.clip(layers[..., 3], 0, 1),
        points=transform_points(portrait.points, transform),
    )


def _other_background(
    portrait: BankPortrait, rng: np.random.Generator, bank: Sequence[BankPortrait], odds: VariantOdds
) -> BankPortrait:
    pixels = portrait.image.transpose(1, 2, 0).astype(np.float32)
    choice = rng.random()
    if choice < odds.new_background:
        plate = _made_up_background(rng, bank, portrait.size_px)
    elif choice < odds.new_background + (1 - odds.new_background) / 2:
        return portrait
    else:
        plate = cv2.GaussianBlur(background_plate(pixels, portrait.person), (0, 0), rng.uniform(2, 12))
    person = person_colours(pixels, portrait.person)
    mixed = plate + portrait.person[..., None] * (person - plate)
    image = np.rint(np.clip(mixed, 0, 255)).astype(np.uint8).transpose(2, 0, 1)
    return replace(portrait, image=np.ascontiguousarray(image))


def _made_up_background(rng: np.random.Generator, bank: Sequence[BankPortrait], size_px: int) -> np.ndarray:
    """A plain wall, a gradient, soft blobs of colour, or the background of another portrait."""
    kind = rng.choice(4, p=[0.2, 0.2, 0.2, 0.4])
    first, second = (_muted(rng.uniform(0, 255, 3), rng) for _ in range(2))
    if kind == 0:
        plate = np.broadcast_to(first + rng.normal(0, 3), (size_px, size_px, 3)).astype(np.float32)
    elif kind == 1:
        angle = rng.uniform(0, 2 * np.pi)
        x, y = np.meshgrid(np.linspace(-0.5, 0.5, size_px), np.linspace(-0.5, 0.5, size_px))
        ramp = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)[..., None]
        plate = (first + ramp * (second - first)).astype(np.float32)
    elif kind == 2:
        cells = int(rng.integers(3, 12))
        light, tint = rng.normal(0, 35, (cells, cells, 1)), rng.normal(0, rng.uniform(2, 30), (cells, cells, 3))
        coarse = (first + light + tint).astype(np.float32)
        plate = cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    else:
        other = bank[rng.integers(len(bank))]
        plate = background_plate(other.image.transpose(1, 2, 0).astype(np.float32), other.person)
        plate = cv2.resize(plate, (size_px, size_px), interpolation=cv2.INTER_AREA)
        plate = cv2.GaussianBlur(plate[:, :: rng.choice([-1, 1])], (0, 0), rng.uniform(0.5, 8))
    grain = rng.normal(0, rng.uniform(0, 4), (size_px, size_px, 1))
    return np.clip(plate + grain, 0, 255).astype(np.float32)


def _muted(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rooms are rarely painted in pure colours."""
    return colour.mean() + rng.uniform(0, 1) ** 1.5 * (colour - colour.mean())


def _other_colours(portrait: BankPortrait, rng: np.random.Generator, odds: VariantOdds) -> BankPortrait:
    """Another light: exposure, contrast, gamma, saturation, warmth, sometimes grey."""
    pixels = portrait.image.transpose(1, 2, 0).astype(np.float32) / 255
    pixels = np.clip(pixels, 0, 1) ** rng.uniform(0.75, 1.3)
    contrast = rng.uniform(0.45, 0.85) if rng.random() < odds.faded else rng.uniform(0.85, 1.15)
    pixels = (pixels - 0.5) * contrast + 0.5 + rng.uniform(-0.08, 0.08)
    grey = pixels.mean(-1, keepdims=True)
    saturation = 0.0 if rng.random() < 0.03 else rng.uniform(0.7, 1.25)
    pixels = grey + saturation * (pixels - grey)
    pixels = pixels * rng.uniform(0.92, 1.08, 3).astype(np.float32)
    image = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(2, 0, 1)
    return replace(portrait, image=np.ascontiguousarray(image))
