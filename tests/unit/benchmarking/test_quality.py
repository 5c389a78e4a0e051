"""How much faster videos differ: nothing for the same, something for others, on real small networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from portraitanim.benchmarking.quality import MAX_PSNR_DB, QualityMeters, QualityReport, _lip_distance, measure_quality
from portraitanim.benchmarking.random_weights import random_animator
from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.config.schema import Preset
from portraitanim.errors import InputError
from portraitanim.evaluation.image_quality import psnr, ssim
from portraitanim.face.landmarks import FaceMesh
from portraitanim.media.image import load_image
from portraitanim.pipelines.animator import Animator
from tests.examples import PORTRAIT, SPEECH
from tests.small_weights import small_weights


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    return small_weights(tmp_path_factory.mktemp("weights"), num_inference_steps=4)


def measured(preset: Preset, *scenarios: Scenario) -> QualityReport:
    def open_animator(scenario: Scenario) -> Animator:
        return random_animator(preset, torch.device("cpu"), torch.float32)

    meters = QualityMeters(psnr=psnr, ssim=ssim, lpips=lambda first, second: (first - second).abs().mean())
    return measure_quality(scenarios, open_animator, PORTRAIT, SPEECH, meters)


def small(speed: str = "exact", variant: str = "") -> Scenario:
    return Scenario(num_frames=6, weights="random", speed=speed, variant=variant)  # type: ignore[arg-type]


def test_same_video_differs_by_nothing_and_faster_ones_by_something(preset: Preset) -> None:
    same, faster = measured(preset, small(), small(variant="plain"), small("fast")).differences
    assert (same.psnr_db, same.ssim, same.lpips) == (MAX_PSNR_DB, pytest.approx(1.0), 0.0)
    assert same.latent_drift == (0.0, 0.0), "two clips"
    assert faster.psnr_db < 60
    assert faster.ssim < 1
    assert faster.lpips is not None
    assert faster.lpips > 0
    assert all(share > 0.001 for share in faster.latent_drift)
    # Random weights show no face.
    assert (faster.lip_distance, faster.num_faces, faster.num_frames) == (None, 0, 6)
    assert faster.notes == ("--speed fast: 2 steps instead of 4.",)
    assert faster.baseline == small().label


def test_exact_video_is_made_where_it_was_not_asked_for(preset: Preset) -> None:
    (difference,) = measured(preset, small("balanced")).differences
    assert (difference.baseline, difference.label) == (small().label, small("balanced").label)


def test_one_exact_video_cannot_be_compared(preset: Preset) -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        measured(preset, small())


def test_lip_distance_is_that_of_the_mouth_in_face_widths() -> None:
    picture = load_image(Path(PORTRAIT))
    with FaceMesh(thorough=False) as mesh:
        (face, *_) = mesh.search(picture).faces
        width = float(np.ptp(face.points[:, 0]))
        assert _lip_distance(mesh, picture, picture) == 0.0
        moved = np.roll(picture, 16, axis=2)
        assert _lip_distance(mesh, picture, moved) == pytest.approx(16 / width, rel=0.1)
        assert _lip_distance(mesh, picture, np.zeros_like(picture)) is None
