from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.config.preparation import SceneConfig
from portraitanim.data.preparation.scenes import Candidate, SceneCutter, cut_into_candidates


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (3, 6, 8))
    return np.repeat(np.repeat(coarse, 20, axis=1), 20, axis=2).astype(np.uint8)


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    return np.clip(image + np.random.default_rng(seed).normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def test_cut_between_two_shots_is_found_and_frames_beside_it_are_left_out() -> None:
    cutter = SceneCutter(25, SceneConfig(num_frames_beside_cut=2))
    for number in range(60):
        cutter.add(noisy(picture(1 if number < 35 else 2), number))
    first, second = cutter.candidates()
    assert (first.start_frame, first.num_frames) == (0, 33)
    assert (second.start_frame, second.num_frames) == (37, 23)
    assert max(first.content_change, second.content_change) < 10


def test_shot_without_a_cut_stays_whole() -> None:
    cutter = SceneCutter(25, SceneConfig())
    for number in range(40):
        cutter.add(noisy(picture(1), number))
    assert [(c.start_frame, c.num_frames) for c in cutter.candidates()] == [(0, 40)]


def test_flash_inside_a_scene_is_its_change() -> None:
    changes = [0.0, 1.0, 2.0, 60.0, 3.0]
    (candidate,) = cut_into_candidates(changes, [], 25, SceneConfig())
    assert candidate == Candidate(index=0, start_frame=0, num_frames=5, content_change=60.0)


@given(
    num_frames=st.integers(0, 400),
    cuts=st.lists(st.integers(-5, 500), max_size=12),
    beside=st.integers(0, 4),
    fps=st.sampled_from([5.0, 25.0]),
)
def test_candidates_are_apart_short_enough_and_away_from_cuts(
    num_frames: int, cuts: list[int], beside: int, fps: float
) -> None:
    config = SceneConfig(num_frames_beside_cut=beside, max_seconds=2.0)
    found = cut_into_candidates([0.0] * num_frames, cuts, fps, config)
    used = [frame for c in found for frame in range(c.start_frame, c.start_frame + c.num_frames)]
    inner = [cut for cut in cuts if 0 < cut < num_frames]
    expected = [f for f in range(num_frames) if not any(cut - beside <= f < cut + beside for cut in inner)]
    assert used == expected
    assert all(0 < c.num_frames <= 2.0 * fps for c in found)
    assert [c.index for c in found] == list(range(len(found)))
