"""From Stable Diffusion 1.5 and AnimateDiff to a start for training: every tensor has its place, or a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from portraitanim.checkpoints.base_model import motion_tensors, unet_tensors
from portraitanim.checkpoints.component import shapes_of
from portraitanim.checkpoints.convert import ConversionResult, convert
from portraitanim.checkpoints.keys import base_unet_keys
from portraitanim.checkpoints.manifest import read_manifest
from portraitanim.checkpoints.store import WEIGHTS_VARIABLE
from portraitanim.config.presets import load_preset
from portraitanim.errors import CheckpointError, InputError
from portraitanim.models.motion_module import sinusoidal_positions
from portraitanim.pipelines.build import build_networks
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from portraitanim.training.trainer import starting_pipeline
from tests import base_folders
from tests.goldens import load_json
from tests.small_networks import small_preset
from tests.unit.training.recipes import small_recipe

FULL_SIZE = ("hallo", "echomimic", "echomimic-pose")


@pytest.fixture(autouse=True)
def _empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "store"))


@pytest.fixture(scope="module")
def full_unet() -> dict[str, Tensor]:
    """Stable Diffusion 1.5's UNet by name and shape: its config is diffusers' default but for the width."""
    with torch.device("meta"):
        return UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8).state_dict()


def start(tmp_path: Path, system: str, motion: dict[str, Tensor] | None = None) -> ConversionResult:
    preset = small_preset(system)
    source = base_folders.write_base(tmp_path / "sd15", preset)
    path = None if motion is None else tmp_path / "mm.ckpt"
    if path is not None:
        torch.save(motion, path)
    return convert(system, source, tmp_path / "out", preset=preset, from_base=True, motion_module=path)


def opened(tmp_path: Path) -> PortraitAnimationPipeline:
    return PortraitAnimationPipeline.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize("system", FULL_SIZE)
def test_every_tensor_of_the_full_size_unet_has_its_place_or_a_reason(
    system: str, full_unet: dict[str, Tensor]
) -> None:
    assert len(full_unet) == 686
    preset = load_preset(system)
    networks = build_networks(preset, "meta")
    for name in ("reference_unet", "denoising_unet"):
        taken = unet_tensors(name, full_unet, 768, preset, shapes_of(networks[name]))
        left = full_unet.keys() - taken.keys()
        if name == "denoising_unet":  # EchoMimic's reads Whisper's states, which are 384 wide
            pattern = r"\.attn2\.to_[kv]\.weight$"
            assert len(left) == (0 if system == "hallo" else 32)
            assert all(re.search(pattern, key) for key in left)
        else:
            table = base_unet_keys(name, preset)
            # The 20 tensors after the last recording and the 4 of the output; for EchoMimic also the second attention
            # (7 tensors) of the 15 other blocks.
            assert len(left) == (24 if system == "hallo" else 24 + 7 * 15)
            assert all(table.reason_unused(key) for key in left)


@pytest.mark.parametrize("system", FULL_SIZE)
def test_every_tensor_of_the_full_size_animatediff_2_has_its_place(system: str) -> None:
    preset = load_preset(system)
    published: dict[str, Tensor] = {
        key: sinusoidal_positions(*shape[1:]) if key.endswith(".pe") else torch.empty(shape, device="meta")
        for key, shape in load_json("hallo", "keys_motion_module_full.json").items()
    }
    expected = shapes_of(build_networks(preset, "meta", only=("denoising_unet",))["denoising_unet"])
    taken = motion_tensors(published, preset, expected)
    assert taken.keys() == {key for key in expected if ".motion_modules." in key}


def test_tensors_of_stable_diffusion_arrive_in_both_networks(tmp_path: Path) -> None:
    start(tmp_path, "hallo")
    pipe, unet = opened(tmp_path), base_folders.small_unet().state_dict()
    for network in (pipe.reference_unet, pipe.denoising_unet):
        state = network.state_dict()
        shared = unet.keys() & state.keys()
        assert len(shared) > 100
        assert all(torch.equal(state[key], unet[key]) for key in shared)
    assert unet.keys() <= pipe.denoising_unet.state_dict().keys()


@pytest.mark.parametrize("wrapped", [False, True])
def test_motion_modules_of_animatediff_arrive(tmp_path: Path, wrapped: bool) -> None:
    motion = base_folders.motion_module(small_preset("hallo"))
    saved = {f"module.{key}": tensor for key, tensor in motion.items()} if wrapped else motion
    result = start(tmp_path, "hallo", {"epoch": 1, "state_dict": saved} if wrapped else saved)  # type: ignore[dict-item]
    state = opened(tmp_path).denoising_unet.state_dict()
    keys = [key for key in state if ".motion_modules." in key]
    assert all(torch.equal(state[key], motion[base_folders.published_name(key)]) for key in keys)
    assert "motion modules" not in result.notes[0]
    assert "mm.ckpt" in {record.path for record in read_manifest(tmp_path / "out").sources}


def test_motion_modules_without_a_middle_leave_ours_fresh_by_name(tmp_path: Path) -> None:
    motion = base_folders.motion_module(small_preset("hallo"), with_middle=False)
    result = start(tmp_path, "hallo", motion)
    assert "motion module of the middle block" in result.notes[0]
    assert "motion modules" not in result.notes[0]


def test_fresh_parts_are_named(tmp_path: Path) -> None:
    note = start(tmp_path, "hallo").notes[0]
    for part in ("audio modules", "motion modules", "condition encoder", "identity projection", "audio projection"):
        assert part in note
    assert "second attentions" not in note


def test_second_attentions_of_another_width_keep_queries_and_begin_with_fresh_keys(tmp_path: Path) -> None:
    note = start(tmp_path, "echomimic").notes[0]
    state, unet = opened(tmp_path).denoising_unet.state_dict(), base_folders.small_unet().state_dict()
    block = "mid_block.attentions.0.transformer_blocks.0.attn2"
    assert torch.equal(state[f"{block}.to_q.weight"], unet[f"{block}.to_q.weight"])
    assert state[f"{block}.to_k.weight"].shape[1] == 6
    assert "keys and values of the second attentions" in note


def test_fresh_parts_are_the_same_every_time_and_leave_the_callers_random_numbers(tmp_path: Path) -> None:
    preset = small_preset("hallo")
    source = base_folders.write_base(tmp_path / "sd15", preset)
    before = torch.get_rng_state()
    states = []
    for name in ("one", "two"):
        convert("hallo", source, tmp_path / name, preset=preset, from_base=True)
        states.append(PortraitAnimationPipeline.from_pretrained(tmp_path / name).audio_projection.state_dict())
        torch.set_rng_state(before)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_training_starts_from_the_folder(tmp_path: Path) -> None:
    start(tmp_path, "hallo", base_folders.motion_module(small_preset("hallo")))
    config = small_recipe("hallo", tmp_path, start=str(tmp_path / "out"))
    pipe = starting_pipeline(config, load_preset(config.preset, config.overrides))
    assert torch.equal(pipe.denoising_unet.conv_in.weight, base_folders.small_unet().conv_in.weight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("extra", "1 not known: conv_in.extra 3"),
        ("missing", "1 missing: conv_in.bias 16"),
        ("shape", "1 of another shape: conv_in.bias is 5, not 16"),
    ],
)
def test_unet_that_does_not_fit_is_an_error_and_leaves_nothing(tmp_path: Path, change: str, words: str) -> None:
    preset = small_preset("hallo")
    source = base_folders.write_base(tmp_path / "sd15", preset)
    state = base_folders.small_unet().state_dict()
    if change == "extra":
        state["conv_in.extra"] = torch.zeros(3)
    elif change == "missing":
        del state["conv_in.bias"]
    else:
        state["conv_in.bias"] = torch.zeros(5)
    (source / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(state, source / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=rf"{re.escape(words)}.*hallo begins with Stable Diffusion 1\.5"):
        convert("hallo", source, tmp_path / "out", preset=preset, from_base=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"), [("extra", "1 not known"), ("missing", "1 missing"), ("table", "1 of other values")]
)
def test_motion_file_that_does_not_fit_is_an_error(tmp_path: Path, change: str, words: str) -> None:
    motion = base_folders.motion_module(small_preset("hallo"))
    key = next(key for key in motion if key.endswith("pos_encoder.pe" if change == "table" else "proj_in.weight"))
    if change == "extra":
        motion[f"{key}.more"] = torch.zeros(3)
    elif change == "missing":
        del motion[key]
    else:
        motion[key] = motion[key] + 1
    with pytest.raises(
        CheckpointError, match=f"mm.ckpt is not AnimateDiff's motion modules.*{words}.*Use AnimateDiff's mm_sd"
    ):
        start(tmp_path, "hallo", motion)


def test_unet_with_other_heads_is_refused(tmp_path: Path) -> None:
    preset = small_preset("hallo")
    source = base_folders.write_base(tmp_path / "sd15", preset)
    config = source / "unet" / "config.json"
    config.write_text(config.read_text().replace('"attention_head_dim": 2', '"attention_head_dim": 4'))
    with pytest.raises(CheckpointError, match="says 4 attention heads, hallo has 2"):
        convert("hallo", source, tmp_path / "out", preset=preset, from_base=True)


@pytest.mark.parametrize("system", ["echomimic-acc", "wav2vec2-base-960h"])
def test_system_that_cannot_begin_so_is_refused(tmp_path: Path, system: str) -> None:
    with pytest.raises(InputError, match=r"Use one of hallo, echomimic, echomimic-pose\."):
        convert(system, tmp_path, tmp_path / "out", from_base=True)


def test_motion_file_without_a_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no effect without --from-base"):
        convert("hallo", tmp_path, tmp_path / "out", motion_module=tmp_path / "mm.ckpt")
