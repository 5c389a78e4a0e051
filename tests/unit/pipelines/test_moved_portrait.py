"""Networks that see the portrait where the landmarks say that it is, and noise of less than unit strength."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from portraitanim.config.presets import load_preset
from portraitanim.errors import ConfigError
from portraitanim.training.trainer import make_task
from tests.small_networks import IMAGE_SIZE, conditioning, small_pipeline, small_preset
from tests.unit.training.recipes import small_dataset, small_recipe


def frames(moved: Tensor | None = None, seed: int = 0, **sampling: float) -> Tensor:
    """Six frames of the small network; ``moved`` is what it sees of the portrait."""
    pipe = small_pipeline("tiny")
    given = replace(conditioning("tiny", 6), moved_portrait=moved)
    return pipe(given, generator=torch.Generator().manual_seed(seed), output_type="latent", **sampling).frames


def test_a_portrait_that_has_not_moved_is_the_portrait() -> None:
    still = conditioning("tiny", 6).reference_image[:, None].expand(-1, 6, -1, -1, -1)
    torch.testing.assert_close(frames(still), frames(), atol=1e-5, rtol=0)


def test_each_frame_sees_its_own_moved_portrait() -> None:
    """A picture that is moved in the last clip changes that clip and none before."""
    still = conditioning("tiny", 6).reference_image[:, None].repeat(1, 6, 1, 1, 1)
    moved = still.clone()
    moved[:, 4:] = still[:, 4:].roll(8, dims=-1)
    before, after = frames(still), frames(moved)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().max() > 1e-2


def test_without_noise_the_seed_says_nothing() -> None:
    torch.testing.assert_close(frames(seed=1, noise_scale=0.0), frames(seed=2, noise_scale=0.0))
    assert (frames(seed=1, noise_scale=0.5) - frames(seed=2, noise_scale=0.5)).abs().max() > 1e-2


def test_shared_noise_makes_frames_alike_in_all_clips() -> None:
    """With everything else the same in each frame, only the noise tells them apart."""
    still = conditioning("tiny", 6).reference_image[:, None].repeat(1, 6, 1, 1, 1)

    def unlike(shared: float) -> torch.Tensor:
        made = frames(still, seed=1, noise_scale=1.0, shared_noise=shared)
        return (made[:, 5] - made[:, 1]).abs().mean()

    assert unlike(1.0) < 0.5 * unlike(0.0)


def test_training_draws_the_noise_of_inference_or_its_own(tmp_path: Path) -> None:
    data = small_dataset(tmp_path, "tiny")

    def drawn(own: float | None = None, **sampling: float) -> torch.Tensor:
        preset = small_preset("tiny", size_px=IMAGE_SIZE, **sampling)
        recipe = small_recipe("tiny", data, objective={"noise_scale": own})
        noise: torch.Tensor = make_task(recipe, preset).sample(3)["noise"]
        return noise

    full = drawn(noise_scale=1.0, shared_noise=0.0)
    torch.testing.assert_close(drawn(noise_scale=0.5, shared_noise=0.0), 0.5 * full)
    torch.testing.assert_close(drawn(own=0.25, noise_scale=0.5, shared_noise=0.0), 0.25 * full)
    same = drawn(noise_scale=1.0, shared_noise=1.0)
    torch.testing.assert_close(same, same[:1].expand_as(same))


def test_training_shows_the_portrait_moved_to_the_frames(tmp_path: Path) -> None:
    task = make_task(small_recipe("tiny", small_dataset(tmp_path, "tiny")), small_preset("tiny", size_px=IMAGE_SIZE))
    sample = task.sample(3)
    assert sample["moved_pictures"].shape == sample["pictures"].shape
    assert sample["moved_pictures"].dtype == torch.uint8


def test_only_landmark_networks_that_add_latents_can_see_it_moved() -> None:
    with pytest.raises(ConfigError, match="moves_portrait"):
        load_preset("hallo", {"moves_portrait": True})
    with pytest.raises(ConfigError, match="noise_scale"):
        load_preset("tiny", {"sampling": {"noise_scale": 1.5}})
