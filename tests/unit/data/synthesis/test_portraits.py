from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from portraitanim.data.synthesis.morphing import morph
from portraitanim.data.synthesis.portrait_bank import BankPortrait, background_plate, load_bank, person_colours
from portraitanim.data.synthesis.portrait_variants import VariantOdds, portrait_variants
from portraitanim.errors import InputError
from portraitanim.face.landmarks import FaceMesh
from portraitanim.media.image import save_image
from tests.examples import PORTRAIT, media, needs_media


def landmarks_agree(portrait: BankPortrait, max_share: float) -> bool:
    """Whether the mesh finds the face where the portrait says that its points are."""
    with FaceMesh() as mesh:
        (face,) = mesh.search(portrait.image).require(portrait.name)
    error = np.linalg.norm(face.points[:, :2] - portrait.points[:, :2], axis=1).mean()
    return bool(error / face.side_px < max_share)


def test_bank_leaves_out_held_out_portraits_and_faceless_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(PORTRAIT, tmp_path / "someone.jpg")
    shutil.copy(PORTRAIT, tmp_path / "tester.jpg")
    save_image(np.full((3, 80, 80), 128, np.uint8), tmp_path / "wall.png")
    (only,) = load_bank(tmp_path, 96, 0.5, without=("tester",))
    assert only.name == "someone"
    assert "wall" in caplog.text


def test_bank_without_a_face_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        load_bank(tmp_path)


def test_person_is_the_middle_and_the_plate_covers_it(portrait: BankPortrait) -> None:
    nose = portrait.points[4, :2].astype(int)
    assert portrait.person[nose[1], nose[0]] > 0.99
    picture = portrait.image.transpose(1, 2, 0)
    plate = background_plate(picture, portrait.person)
    assert np.abs(plate[nose[1], nose[0]] - picture[nose[1], nose[0]]).max() > 10
    colours = person_colours(picture, portrait.person)
    np.testing.assert_allclose(colours[nose[1], nose[0]], picture[nose[1], nose[0]], atol=1)


def test_variants_repeat_with_the_seed_and_differ_without(portrait: BankPortrait) -> None:
    first, again, other = (portrait_variants([portrait], np.random.default_rng(seed), 128) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image, again.image)
    assert np.abs(first.image.astype(int) - other.image).mean() > 5


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_landmarks_follow_framing_and_mirror(portrait: BankPortrait, flip: float) -> None:
    odds = VariantOdds(flip=flip, new_background=1.0)
    variant = portrait_variants([portrait], np.random.default_rng(3), 192, odds)
    assert landmarks_agree(variant, 0.02)


@needs_media
def test_faded_pictures_have_less_contrast(portrait: BankPortrait) -> None:
    def contrast(faded: float) -> float:
        odds = VariantOdds(single=1.0, new_background=0.0, faded=faded)
        drawn = [portrait_variants([portrait], np.random.default_rng(seed), 64, odds) for seed in range(4)]
        return float(np.mean([variant.image.std() for variant in drawn]))

    assert contrast(1.0) < 0.85 * contrast(0.0)


def test_morph_is_a_face_between_its_parents() -> None:
    folder = media("portraits")
    one, two = load_bank(folder, 192, 0.5, without=(), only=("echomimic2_0140", "sadtalker_happy1"))
    mixed = morph([one, two], [0.5, 0.5], [0.5, 0.5], "both")
    assert landmarks_agree(mixed, 0.025)
    mouth_width = [float(np.linalg.norm(p.points[61] - p.points[291])) for p in (one, mixed, two)]
    assert min(mouth_width[0], mouth_width[2]) < mouth_width[1] < max(mouth_width[0], mouth_width[2])
    border = (slice(None), slice(0, 12))
    assert np.abs(mixed.image[border].astype(int) - one.image[border]).mean() < 6  # hair and wall of the first


def test_morph_weights_must_add_up(portrait: BankPortrait) -> None:
    with pytest.raises(InputError, match="add up to 1"):
        morph([portrait, portrait], [0.5, 0.2], [0.5, 0.5], "wrong")
