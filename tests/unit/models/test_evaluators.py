"""What surrounds the evaluator networks: scoring, crops, inputs; the networks themselves are in tests/parity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.audio.mfcc import mfcc, to_int16
from portraitanim.errors import InputError, ShapeError
from portraitanim.models.evaluators.inputs import FID_FLAVOURS, i3d_input, inception_input
from portraitanim.models.evaluators.reconstruction_input import cut_face, fit_face
from portraitanim.models.evaluators.s3fd import keep_distinct
from portraitanim.models.evaluators.sync_crop import cut_crop, plan_crops
from portraitanim.models.evaluators.sync_scoring import (
    confidence_over_time,
    num_windows,
    score_shifts,
    shift_distances,
)

_VECTORS = torch.randn(120, 32, generator=torch.Generator().manual_seed(0))


@given(st.integers(-15, 15))
def test_sound_that_is_late_by_k_frames_has_offset_minus_k(late: int) -> None:
    lips, sound = _VECTORS[20:100], _VECTORS[20 - late : 100 - late]
    score = score_shifts(shift_distances(lips, sound))
    assert score.offset_frames == -late
    assert score.confidence > 1
    assert score.distance < 0.01 + 8 * 15 / 80  # but for the windows that meet the padding
    assert not score.is_biased


def test_sound_of_something_else_has_no_confidence() -> None:
    matched = score_shifts(shift_distances(_VECTORS[:60], _VECTORS[:60]))
    other = score_shifts(shift_distances(_VECTORS[:60], _VECTORS[60:]))
    assert other.confidence < matched.confidence / 2
    assert len(confidence_over_time(shift_distances(_VECTORS[:60], _VECTORS[60:]))) == 60


def test_short_clips_are_marked_and_impossible_ones_refused() -> None:
    assert score_shifts(shift_distances(_VECTORS[:10], _VECTORS[:10])).is_biased
    with pytest.raises(ShapeError, match="alike"):
        shift_distances(_VECTORS[:10], _VECTORS[:11])
    assert num_windows(75, 48000) == 70
    assert num_windows(4, 48000) == 0


def test_cepstra_need_integers_and_loud_sound_has_more_energy() -> None:
    tone = np.sin(np.arange(3200) * 0.3)
    quiet, loud = (mfcc(to_int16(tone * volume)) for volume in (0.01, 0.5))
    assert quiet.shape == loud.shape == (19, 13)
    assert (loud[:, 0] > quiet[:, 0] + 7).all()
    with pytest.raises(ShapeError, match="int16"):
        mfcc(tone)


def test_silence_has_cepstra() -> None:
    assert np.isfinite(mfcc(np.zeros(1000, np.int16))).all()


def test_samples_beyond_the_range_stay_at_its_end() -> None:
    assert to_int16(np.array([-2.0, -1.0, 0.0, 2.0])).tolist() == [-32768, -32768, 0, 32767]


def test_sync_crop_of_a_face_at_the_border_is_filled_with_grey() -> None:
    boxes = np.tile([[-10.0, 20.0, 30.0, 60.0]], (20, 1))
    crops = plan_crops(boxes)
    crop = cut_crop(np.full((3, 80, 80), 200, np.uint8), crops.rectangle(10))
    assert crop.shape == (3, 224, 224)
    assert (crop[:, :, 0] == 110).all()  # left of the picture
    assert (crop[:, 100, -1] == 200).all()
    with pytest.raises(ShapeError, match="finite"):
        plan_crops(np.full((3, 4), np.nan))


@pytest.mark.parametrize("flavour", FID_FLAVOURS)
def test_a_grey_picture_stays_grey_in_every_flavour(flavour: str) -> None:
    pixels = inception_input(np.full((1, 3, 100, 60), 128, np.uint8), flavour)
    assert pixels.shape == (1, 3, 299, 299)
    assert torch.allclose(pixels, torch.zeros(()), atol=0.005)


def test_proportions_are_kept_on_the_short_side_only() -> None:
    frames = np.zeros((2, 3, 90, 180), np.uint8)
    frames[:, :, :, 45:135] = 255  # the middle, as wide as high
    assert i3d_input(frames, "short-side").mean() > 0.98
    assert abs(i3d_input(frames, "direct").mean()) < 0.02


def test_unknown_flavours_and_other_arrays_are_refused() -> None:
    frames = np.zeros((1, 3, 8, 8), np.uint8)
    with pytest.raises(InputError, match="pytorch-fid"):
        inception_input(frames, "mine")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="disco"):
        i3d_input(frames, "mine")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="uint8"):
        i3d_input(frames.astype(np.float32))


def test_a_face_fit_follows_the_picture_when_it_is_scaled_and_moved() -> None:
    points = np.array([[150.0, 200], [250, 205], [202, 262], [165, 320], [240, 322]])
    first = fit_face(points, 400, 480)
    moved = fit_face(points * 2 + (30, 10), 860, 970)
    assert moved.scale == pytest.approx(first.scale / 2)
    assert moved.x_px == pytest.approx(2 * first.x_px + 30)
    assert cut_face(np.zeros((3, 480, 400), np.uint8), first).shape == (3, 224, 224)
    with pytest.raises(ShapeError, match=r"\(5, 2\)"):
        fit_face(points[:4], 400, 480)


def test_overlapping_boxes_keep_the_better_one() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]])
    assert keep_distinct(boxes, 0.3).tolist() == [0, 2]
    assert keep_distinct(boxes, 0.9).tolist() == [0, 1, 2]
    assert keep_distinct(np.zeros((0, 4)), 0.3).tolist() == []
