"""What is computed from pictures, features and vectors, against the published code and its reference libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from portraitanim.audio.mfcc import mfcc
from portraitanim.evaluation.frechet import frechet_distance, statistics_of
from portraitanim.evaluation.identity_similarity import cosine_similarity
from portraitanim.evaluation.image_quality import SsimSettings, mean_squared_error, psnr, psnr_of_error, ssim
from portraitanim.models.evaluators.sync_crop import cut_crop, plan_crops
from portraitanim.models.evaluators.sync_scoring import (
    confidence_over_time,
    num_windows,
    score_shifts,
    shift_distances,
)
from tests.goldens import Golden, load, load_json

_FRECHET_CASES = (
    *("n500_n400_d64", "n120_n90_d16", "n40_n40_d64_rankdef", "n60_n50_d400_rankdef"),
    *("n24_n16_d2048_rankdef", "same_d32", "n1000_n1000_d8", "n2_n2_d5"),
)
_SCORING = {
    **{f"cc_roll{shift}": (f"cc_roll{shift}", 60, 15) for shift in (-7, -1, 0, 3, 15)},
    "short10": ("cc_roll0", 10, 15),
    "vshift10": ("cc_roll3", 60, 10),
}


@pytest.mark.parametrize("case", _FRECHET_CASES)
def test_frechet_distance(case: str) -> None:
    inputs = Golden("metrics", "frechet_inputs.safetensors")
    ours, theirs = (statistics_of(inputs[f"{case}.{side}"].numpy()) for side in "xy")
    expected = load_json("metrics", "frechet_expected.json")[case]["exact_nuclear"]
    assert frechet_distance(ours, theirs) == pytest.approx(max(expected, 0), rel=1e-13, abs=1e-12)


def test_the_list_of_frechet_cases_is_whole() -> None:
    assert set(load_json("metrics", "frechet_expected.json")) == set(_FRECHET_CASES)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (SsimSettings(), "ssim_rgb_gauss11"),
        (SsimSettings(), "ssim_cmvq_valid_gauss11"),
        (SsimSettings(window="uniform"), "ssim_rgb_uniform7"),
        (SsimSettings(grey=True), "ssim_gray_gauss11"),
        (SsimSettings(window="uniform", grey=True), "ssim_gray_uniform7_uint8"),
    ],
)
def test_ssim(settings: SsimSettings, name: str) -> None:
    frames, expected = load("metrics", "ssim_psnr_frames.npz"), load_json("metrics", "ssim_psnr_expected.json")
    for first, second, values in zip(frames["a"], frames["b"], expected["frames"], strict=True):
        ours = ssim(first.transpose(2, 0, 1), second.transpose(2, 0, 1), settings)
        assert ours == pytest.approx(values[name], abs=1e-14)


def test_psnr() -> None:
    frames, expected = load("metrics", "ssim_psnr_frames.npz"), load_json("metrics", "ssim_psnr_expected.json")
    pairs = [(a.transpose(2, 0, 1), b.transpose(2, 0, 1)) for a, b in zip(frames["a"], frames["b"], strict=True)]
    ours = [psnr(*pair) for pair in pairs]
    errors = [mean_squared_error(*pair) for pair in pairs]
    assert ours == [values["psnr"] for values in expected["frames"]]
    assert errors == [values["mse"] for values in expected["frames"]]
    assert psnr_of_error(float(np.mean(errors))) == pytest.approx(expected["pooled"]["psnr_from_mean_mse"])
    finite = [value for value in ours if math.isfinite(value)]
    assert np.mean(finite) == pytest.approx(expected["pooled"]["psnr_mean_over_frames_excl_inf"])


def test_mfcc() -> None:
    golden = Golden("metrics", "syncnet_expected.safetensors")["mfcc"].numpy()
    ours = mfcc(Golden("metrics", "syncnet_clip.npz")["audio_i16"])
    assert ours.shape == golden.shape
    assert np.abs(ours - golden).max() < 1e-12


@pytest.mark.parametrize("case", _SCORING)
def test_sync_scoring(case: str) -> None:
    name, length, max_shift = _SCORING[case]
    vectors = Golden("metrics", "syncnet_scoring.safetensors")
    expected = load_json("metrics", "syncnet.json")["results"]["scoring"][case]
    _assert_scores(vectors["base"][:length], vectors[name][:length], expected, max_shift)


def test_sync_scores_of_a_whole_clip_and_of_cut_ones() -> None:
    vectors = Golden("metrics", "syncnet_expected.safetensors")
    lips, sound = vectors["lip_feat"], vectors["aud_feat"]
    results = load_json("metrics", "syncnet.json")["results"]
    _assert_scores(lips, sound, results["full"], 15)
    for case in ("audio_short", "video_short"):
        length = results[case]["n_windows"]
        _assert_scores(lips[:length], sound[:length], results[case], 15)


def _assert_scores(
    lips: torch.Tensor, sound: torch.Tensor, expected: dict, max_shift: int, tolerance: float = 1e-6
) -> None:
    distances = shift_distances(lips, sound, max_shift)
    score = score_shifts(distances)
    assert score.offset_frames == expected["offset"]
    assert score.confidence == pytest.approx(expected["conf"], abs=tolerance)
    assert score.distance == pytest.approx(expected["min_dist"], abs=tolerance)
    assert score.num_windows == len(lips)
    mean = torch.tensor(expected["mdist"])
    assert (distances.mean(dim=1) - mean).abs().max() <= tolerance
    assert confidence_over_time(distances) == pytest.approx(expected["frame_conf_medfilt9"], abs=tolerance)


def test_number_of_windows() -> None:
    results = load_json("metrics", "syncnet.json")["results"]
    assert num_windows(75, 48000) == 70
    assert num_windows(75, 40000) == results["audio_short"]["n_windows"]
    assert num_windows(50, 48000) == results["video_short"]["n_windows"]
    assert num_windows(3, 48000) == 0


def test_sync_crops() -> None:
    golden = Golden("metrics", "syncnet_crop.npz")
    crops = plan_crops(golden["bbox"])
    for ours, name in ((crops.half_side_px, "s"), (crops.x_px, "x"), (crops.y_px, "y")):
        assert np.array_equal(ours, golden[name])
    rectangles = [crops.rectangle(frame) for frame in range(40)]
    assert np.array_equal(rectangles, golden["rect_pad_y0_y1_x0_x1"])
    for number, frame in enumerate((0, 20)):
        cut = cut_crop(golden["frames_0_20"][number].transpose(2, 0, 1), rectangles[frame])
        assert np.array_equal(cut, golden["crops_0_20"][number].transpose(2, 0, 1))


def test_cosine_of_embeddings() -> None:
    golden = Golden("metrics", "csim.npz")
    ours = cosine_similarity(golden["e1"], golden["e2"])
    assert np.abs(ours - golden["cos"]).max() < 2e-5
