from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.errors import InputError, ShapeError
from portraitanim.face.alignment import FaceCrop
from portraitanim.types import NUM_LANDMARKS


def face(x: float, y: float, size: float) -> np.ndarray:
    """A cloud of landmarks whose box is a square of ``size`` around (x, y)."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (NUM_LANDMARKS, 3))
    points[:2, :2] = ((-0.5, -0.5), (0.5, 0.5))
    return (points * size + (x, y, 0)).astype(np.float32)


def picture(height: int = 240, width: int = 320) -> np.ndarray:
    """Smooth colours, so that resampling loses little."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(7 * x + 2 * y), np.cos(5 * y), np.sin(4 * x * y + 1)]
    return np.stack([(127.5 + 120 * wave) for wave in waves]).astype(np.uint8)


@given(x=st.floats(-20, 340), y=st.floats(-20, 260), size=st.floats(20, 300), share=st.floats(0.3, 1.0))
def test_face_is_in_the_middle_of_the_crop_and_has_its_share(x: float, y: float, size: float, share: float) -> None:
    points = face(x, y, size)
    inside = FaceCrop.around(points, 128, share).points(points)
    low, high = inside[:, :2].min(0), inside[:, :2].max(0)
    np.testing.assert_allclose((low + high) / 2, (64, 64), atol=0.05)
    assert (high - low).max() == pytest.approx(128 * share, rel=1e-3)


@given(x=st.floats(0, 320), y=st.floats(0, 240), size=st.floats(30, 200))
def test_background_outside_the_crop_is_untouched(x: float, y: float, size: float) -> None:
    original = picture()
    crop = FaceCrop.around(face(x, y, size), 64)
    pasted = crop.paste(np.full((3, 64, 64), 255, np.uint8), original)
    half = size / 0.6 / 2 + 1
    rows, columns = np.mgrid[0:240, 0:320] + 0.5
    outside = (np.abs(columns - x) > half) | (np.abs(rows - y) > half)
    assert np.array_equal(pasted[:, outside], original[:, outside])


def test_crop_pasted_back_is_the_picture() -> None:
    original = picture()
    crop = FaceCrop.around(face(160, 120, 90), 256)
    difference = np.abs(crop.paste(crop.apply(original), original).astype(int) - original)
    # Resampled twice: smooth colours come back to a level or two.
    assert difference.max() <= 2


def test_seam_is_soft_and_the_middle_is_the_frame() -> None:
    original = np.zeros((3, 240, 320), np.uint8)
    crop = FaceCrop.around(face(160, 120, 96), 160)
    pasted = crop.paste(np.full((3, 160, 160), 200, np.uint8), original)[0].astype(int)
    assert pasted[120, 160] == 200
    assert np.abs(np.diff(pasted[120])).max() < 60
    assert pasted[120, 78] == 0


def test_crop_beyond_the_border_continues_the_edge() -> None:
    original = np.zeros((3, 100, 100), np.uint8)
    original[:, :, 0] = 180
    crop = FaceCrop.around(face(0, 50, 40), 64)
    assert (crop.apply(original)[:, :, 0] == 180).all()


def test_crop_of_a_clip_holds_all_frames() -> None:
    clip = np.stack([face(100, 100, 60), face(140, 110, 60)])
    crop = FaceCrop.around(clip, 128, face_share=1.0)
    inside = crop.points(clip)[..., :2]
    assert inside.min() >= -0.01
    assert inside.max() <= 128.01


def test_impossible_crops_are_refused() -> None:
    with pytest.raises(InputError, match="one place"):
        FaceCrop.around(np.zeros((NUM_LANDMARKS, 3), np.float32), 64)
    with pytest.raises(InputError, match="share"):
        FaceCrop.around(face(0, 0, 10), 64, 1.5)
    with pytest.raises(ShapeError, match="64 by 64"):
        FaceCrop.around(face(0, 0, 10), 64).paste(np.zeros((3, 32, 32), np.uint8), picture())
