"""Steps that leave the deep stages out read what an earlier step made."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from portraitanim.errors import ConfigError, InputError
from portraitanim.models.deep_features import DeepFeatures
from portraitanim.pipelines import sampling_run
from portraitanim.types import BatchLayout
from tests.small_networks import conditioning, small_pipeline


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("system", ["hallo", "echomimic", "tiny"])
def test_call_that_keeps_or_reads_its_own_features_is_the_plain_call(system: str) -> None:
    pipe, given = small_pipeline(system), conditioning(system, 4)
    network = pipe.network
    with torch.no_grad():
        identity = network.identity_tokens(given.identity_embedding)
        latents = pipe._encode(given.reference_image)
        context = network.prepare(
            BatchLayout(num_portraits=1),
            reference=network.project_reference(network.encode_reference(latents, identity), identity, latents),
            audio_tokens=network.audio_tokens(given.audio_windows),
            condition=network.condition_encoder(given.condition_map),
            masks=given.region_masks,
        )
        sample, deep = torch.randn(1, 4, 4, 4, 4, generator=seed()), DeepFeatures()
        plain = network.denoise(sample, torch.tensor(500), context)
        assert torch.equal(network.denoise(sample, torch.tensor(500), context, deep), plain)
        assert torch.equal(network.denoise(sample, torch.tensor(500), context, deep), plain)
        # Of another sample, only the shallow part follows: the answer changes, and is not that of the full call.
        other = sample + 0.5
        reused = network.denoise(other, torch.tensor(500), context, deep)
        assert not torch.allclose(reused, plain, atol=1e-4)
        assert not torch.allclose(reused, network.denoise(other, torch.tensor(500), context), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "deep_steps"),
    [
        ({"deep_every_steps": 1}, [0, 1, 2, 3, 4, 5]),
        ({"deep_every_steps": 3}, [0, 3]),
        # Steps without guidance read the rows of the full branch.
        ({"deep_every_steps": 3, "guidance_scale": 2.0, "guidance_interval": (0.0, 0.5)}, [0, 3]),
        # Guidance that begins later needs rows that nobody kept.
        ({"deep_every_steps": 3, "guidance_scale": 2.0, "guidance_interval": (0.2, 1.0)}, [0, 2, 3]),
    ],
)
@pytest.mark.parametrize("system", ["hallo", "echomimic"])
def test_deep_stages_run_in_every_nth_step_and_where_rows_are_missing(
    system: str, options: dict[str, Any], deep_steps: list[int]
) -> None:
    pipe = small_pipeline(system, num_inference_steps=6, **options)
    events: list[str] = []
    pipe.denoising_unet.conv_in.register_forward_hook(lambda module, inputs, output: events.append("step"))
    pipe.denoising_unet.mid_block.register_forward_hook(lambda module, inputs, output: events.append("deep"))
    frames = pipe(conditioning(system, 4), generator=seed()).frames
    assert [i for i, step in enumerate(" ".join(events).split("step")[1:]) if "deep" in step] == deep_steps
    assert frames.isfinite().all()


def test_windows_stay_while_their_features_are_read() -> None:
    pipe = small_pipeline("echomimic", num_inference_steps=4, window_shift_per_step=1, deep_every_steps=2)
    moved: list[int] = []
    windows = sampling_run.overlapping_windows

    def noted(*args: Any, shift: int = 0) -> Any:
        moved.append(shift)
        return windows(*args, shift=shift)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling_run, "overlapping_windows", noted)
        pipe(conditioning("echomimic", 9), generator=seed())
    assert moved == [0, 0, 2, 2]


def test_features_of_too_long_a_video_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling_run, "_MAX_FRAMES_PROJECTED_AT_ONCE", 5)
    pipe = small_pipeline("echomimic", deep_every_steps=2)
    with pytest.raises(InputError, match="at most 5 frames, got 9"):
        pipe(conditioning("echomimic", 9))


def test_number_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="deep_every_steps"):
        small_pipeline("tiny")(conditioning("tiny", 4), deep_every_steps=0)
