from __future__ import annotations

import numpy as np
import pytest

from portraitanim.errors import ShapeError
from portraitanim.face.person_mask import PersonMask
from portraitanim.media.image import load_image
from tests.examples import PORTRAIT


def test_person_is_found_and_the_same_each_time() -> None:
    image = load_image(PORTRAIT)
    with PersonMask() as person_mask:
        first = person_mask.find(image)
        person_mask.find(image[..., ::-1].copy())
        again = person_mask.find(image)
    np.testing.assert_array_equal(first, again)
    height, width = image.shape[1:]
    assert first.shape == (height, width)
    assert first[height // 3 : height // 2, 2 * width // 5 : width // 2].mean() > 0.95
    assert 0.3 < first.mean() < 0.95


def test_other_pictures_are_rejected() -> None:
    with PersonMask() as person_mask, pytest.raises(ShapeError, match="uint8"):
        person_mask.find(np.zeros((64, 64, 3), np.float32))
