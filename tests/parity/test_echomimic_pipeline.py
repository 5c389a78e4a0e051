"""EchoMimic's pipelines, of each kind of weights, against the numbers of the published code."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from portraitanim.audio.frame_windows import whisper_windows
from portraitanim.config.presets import load_preset
from portraitanim.diffusion.guidance import Guidance
from portraitanim.diffusion.windows import overlapping_windows
from portraitanim.models.portrait_network import ReferenceFeatures
from portraitanim.pipelines.sampling_run import SamplingRun
from portraitanim.types import Branch, PortraitConditioning
from tests.goldens import Golden, load_json
from tests.parity import systems
from tests.parity.compare import assert_close, outputs_of
from tests.parity.test_hallo_networks import frames_first

# Preset, guidance scale, and what differs from the preset; goldens/echomimic/README.md names the runs.
RUNS: dict[str, tuple[str, float, dict[str, bool]]] = {
    "audio": ("echomimic", 2.5, {}),
    "audio_short": ("echomimic", 2.5, {}),
    "audio_acc": ("echomimic-acc", 1.0, {}),
    "audio_acc_cfg": ("echomimic-acc", 2.5, {}),
    "audio_nocfg_bug": ("echomimic", 1.0, {"sum_overlaps_without_guidance": True}),
    "pose": ("echomimic-pose", 2.5, {}),
    "pose_acc": ("echomimic-pose-acc", 1.0, {}),
}
VIDEO = 1e-4  # goldens/echomimic/README.md
# A latent is up to seven times a pixel, and guidance multiplies differences by 2.5 in each step.
LATENTS = {"bank32": 1e-4, "bank16": 3e-4}


def golden_run(name: str) -> Golden:
    return Golden("echomimic", f"g_pipe_{name}.safetensors")


@lru_cache(maxsize=2 * len(RUNS))
def animate(name: str, bank: str) -> tuple[Tensor, list[Tensor]]:
    """Frames, and latents after each step, of our pipeline on the goldens' inputs."""
    preset, scale, quirks = RUNS[name]
    sampling = load_preset(preset).sampling
    inputs, golden = Golden("echomimic", "g_pipe_inputs.safetensors"), golden_run(name)
    noise = frames_first(golden["noise_raw"])
    num_frames = noise.shape[1]
    fps = load_json("echomimic", "small_config.json")["fps"]
    landmarks = "pose" in name
    condition = inputs["pose_u8"][:, :, :num_frames] / 255 if landmarks else inputs["face_mask"]
    conditioning = PortraitConditioning(
        reference_image=inputs["ref_image"].permute(2, 0, 1)[None] / 127.5 - 1,
        audio_windows=whisper_windows(inputs["whisper_feature"], fps)[None, :num_frames],
        condition_map=frames_first(condition),
    )
    steps: list[Tensor] = []

    def note(pipe: Any, step: int, timestep: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        steps.append(frames_first(values["latents"]))
        return {}

    pipe = systems.echomimic("pose" if landmarks else "mask").pipeline(rounded=bank == "bank16", **quirks)
    frames = pipe(
        conditioning,
        num_inference_steps=len(golden["timesteps"]),
        guidance_scale=scale,
        latents=noise,
        callback_on_step_end=note,
        noise_clamp=sampling.noise_clamp,
        window_shift_per_step=sampling.window_shift_per_step,
    ).frames
    return frames, steps


@pytest.mark.parametrize("name", list(RUNS))
def test_schedule_and_windows(name: str) -> None:
    golden = golden_run(name)
    sampling = load_preset(RUNS[name][0]).sampling
    scheduler = systems.echomimic("mask").pipeline(rounded=False).scheduler
    scheduler.set_timesteps(len(golden["timesteps"]))
    assert torch.equal(scheduler.timesteps, golden["timesteps"])
    assert_close(scheduler.alphas_cumprod, golden["alphas_cumprod"], 1e-6)
    for step, expected in enumerate(golden["windows_per_step"]):
        windows = overlapping_windows(
            golden["noise_raw"].shape[2],
            sampling.num_frames_per_clip,
            sampling.num_overlap_frames,
            shift=sampling.window_shift_per_step * step,
        )
        assert [list(window) for window in windows] == expected.tolist()


@pytest.mark.parametrize("name", list(RUNS))
def test_start(name: str) -> None:
    golden, inputs = golden_run(name), Golden("echomimic", "g_pipe_inputs.safetensors")
    pipe = systems.echomimic("mask").pipeline(rounded=False)
    latents = pipe._encode(inputs["ref_image"].permute(2, 0, 1)[None] / 127.5 - 1)
    assert_close(latents, golden["ref_latent_mean_scaled"], 1e-5)
    clamp = load_preset(RUNS[name][0]).sampling.noise_clamp
    noise = golden["noise_raw"]
    assert torch.equal(noise if clamp is None else noise.clamp(-clamp, clamp), golden["latent_init"])


@pytest.mark.parametrize("name", list(RUNS))
def test_seed_gives_the_published_noise(name: str) -> None:
    noise = golden_run(name)["noise_raw"]
    seed = load_json("echomimic", "small_config.json").get("seed", load_preset(RUNS[name][0]).sampling.seed)
    batch, channels, frames, height, width = noise.shape
    pipe = systems.echomimic("mask").pipeline(rounded=False)
    run = SamplingRun(
        network=pipe.network,
        sampling=replace(systems.echomimic("mask").preset.sampling, noise_clamp=None),
        guidance=Guidance.from_scales(1.0),
        branches=(Branch.FULL,),
        conditioning=PortraitConditioning(
            reference_image=torch.zeros(batch, 3, 8 * height, 8 * width),
            audio_windows=torch.zeros(batch, frames, 1, 1, 1),
        ),
        portrait_latents=torch.zeros(batch, channels, height, width),
        identity=None,
        reference=ReferenceFeatures(),
        generator=torch.Generator().manual_seed(seed),
        latents=None,
        encode=pipe._encode,
    )
    assert torch.equal(frames_first(run.initial_latents(0, frames)), noise)


@pytest.mark.parametrize("name", list(RUNS))
def test_velocity_of_the_first_step(name: str) -> None:
    golden = golden_run(name)
    _, steps = animate(name, "bank32")
    # In the first step, at zero signal-to-noise ratio, x0 = -v, and DDIM gives √ᾱ x0 + √(1-ᾱ) x.
    num_train, num_steps = len(golden["alphas_cumprod"]), len(golden["timesteps"])
    alpha = golden["alphas_cumprod"][golden["timesteps"][0] - num_train // num_steps]
    velocity = ((1 - alpha).sqrt() * golden["latent_init"] - steps[0]) / alpha.sqrt()
    # The division by √ᾱ magnifies.
    assert_close(velocity, golden["bank32/guided_pred_0"], 1e-5 / alpha.sqrt().item() + 2e-5)


def with_banks() -> list[Any]:
    """Every run with the reference as it is; with it rounded to half precision, one of each kind, the others slowly."""
    always = {(name, "bank32") for name in RUNS} | {(name, "bank16") for name in ("audio", "audio_short", "pose")}
    slow = {name: (pytest.mark.slow, pytest.mark.reads(f"echomimic/g_pipe_{name}.safetensors")) for name in RUNS}
    cases = [(name, bank) for name in RUNS for bank in LATENTS]
    return [pytest.param(*case, marks=() if case in always else slow[case[0]]) for case in cases]


@pytest.mark.parametrize(("name", "bank"), with_banks())
def test_latents_after_steps(name: str, bank: str) -> None:
    golden = golden_run(name)
    _, steps = animate(name, bank)
    for match in golden.matching(rf"{bank}/latent_after_(\d+)"):
        assert_close(steps[int(match[1])], golden[match.string], LATENTS[bank])


def decoded() -> list[tuple[str, str]]:
    """Runs of which the goldens hold decoded frames."""
    files = {name: f"g_pipe_{name}.safetensors" for name in RUNS}
    names = {name: outputs_of("echomimic", file, "bank(16|32)/video_frames") for name, file in files.items()}
    return [(name, output.split("/")[0]) for name, outputs in names.items() for output in outputs]


@pytest.mark.parametrize(("name", "bank"), decoded())
def test_decoded_frames(name: str, bank: str) -> None:
    golden = golden_run(name)
    expected = golden[f"{bank}/video_frames"]
    frames, _ = animate(name, bank)
    assert_close(frames_first(frames[:, golden[f"{bank}/video_frame_index"]]), expected, VIDEO)
