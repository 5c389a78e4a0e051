"""From published folders to folders that ``from_pretrained`` reads: the same bits, or one clear error and no trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from portraitanim.audio.encoders import load_audio_encoder
from portraitanim.checkpoints.convert import convert
from portraitanim.checkpoints.manifest import MANIFEST_NAME, read_manifest
from portraitanim.checkpoints.store import WEIGHTS_VARIABLE, audio_encoder_folder
from portraitanim.config.audio import AudioConfig
from portraitanim.errors import CheckpointError, InputError
from portraitanim.media.files import sha256_of
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from tests import published_folders as published
from tests.audio_checkpoints import xlsr
from tests.goldens import require, small_weights
from tests.parity import systems

WHISPER_TINY = AudioConfig(encoder="whisper-tiny", window="whisper")


@pytest.fixture(autouse=True)
def _empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "store"))


def assert_same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    expected, found = theirs.state_dict(), ours.state_dict()
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_hallo_comes_back_from_its_folder_bit_for_bit(tmp_path: Path) -> None:
    source = published.write_hallo(tmp_path / "source")
    result = convert("hallo", source, tmp_path / "out", preset=published.hallo_preset())
    pipe = PortraitAnimationPipeline.from_pretrained(tmp_path / "out")
    small = systems.hallo()
    for name, network in small.networks.items():
        assert_same_weights(getattr(pipe, name), network)
    # The source has the old spelling of the autoencoder, the golden network the new one.
    assert_same_weights(pipe.vae, small.vae)
    assert pipe.config.preset == "hallo"
    assert pipe.config.quirks["tile_reference_rows"]
    assert result.components[-1] == "vae"
    assert "wav2vec2-base-960h" in result.notes[0]


@pytest.mark.parametrize("condition", ["mask", "pose"])
def test_echomimic_comes_back_from_its_folder_bit_for_bit(tmp_path: Path, condition: str) -> None:
    source = published.write_echomimic(tmp_path / "source", pose=condition == "pose")
    system = "echomimic-pose" if condition == "pose" else "echomimic"
    result = convert(system, source, tmp_path / "out", preset=published.echomimic_preset(condition))
    pipe = PortraitAnimationPipeline.from_pretrained(tmp_path / "out")
    small = systems.echomimic(condition)
    for name, network in small.networks.items():
        assert_same_weights(getattr(pipe, name), network)
    assert_same_weights(pipe.vae, small.vae)
    assert not result.notes
    encoder = load_audio_encoder("whisper-tiny", audio_encoder_folder(tmp_path / "out", WHISPER_TINY))
    assert torch.equal(
        encoder.layers[1].self_attn.q_proj.weight, published.whisper_weights()["blocks.1.attn.query.weight"]
    )


def test_accelerated_variant_shares_reference_network_and_locator(tmp_path: Path) -> None:
    source = published.write_echomimic(tmp_path / "source")
    for stem in ("denoising_unet", "motion_module"):
        (source / f"{stem}.pth").rename(source / f"{stem}_acc.pth")
    convert("echomimic-acc", source, tmp_path / "out", preset=published.echomimic_preset())
    names = {record.path for record in read_manifest(tmp_path / "out").sources}
    assert {"reference_unet.pth", "face_locator.pth", "denoising_unet_acc.pth", "motion_module_acc.pth"} <= names


def test_overlap_of_motion_and_denoising_file_goes_to_the_denoising_file(tmp_path: Path) -> None:
    source = published.write_echomimic(tmp_path / "source")
    motion = small_weights("motion_module")
    key = next(key for key in motion if key.endswith("proj_in.weight"))
    torch.save(small_weights("denoising_unet") | {key: motion[key] + 1}, source / "denoising_unet.pth")
    convert("echomimic", source, tmp_path / "out", preset=published.echomimic_preset())
    written = load_file(tmp_path / "out" / "denoising_unet" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(written[key.replace(".temporal_transformer", "")], motion[key] + 1)


def test_files_in_the_root_and_as_safetensors_are_found(tmp_path: Path) -> None:
    source = published.write_hallo(tmp_path / "source")
    (source / "hallo" / "net.pth").unlink()
    save_file(published.net_pth(), source / "net.safetensors")
    convert("hallo", source, tmp_path / "out", preset=published.hallo_preset())
    assert (tmp_path / "out" / "model_index.json").is_file()


def test_manifest_has_the_sha256_of_every_file(tmp_path: Path) -> None:
    source = published.write_hallo(tmp_path / "source")
    convert("hallo", source, tmp_path / "out", preset=published.hallo_preset())
    manifest = read_manifest(tmp_path / "out")
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert {record.path for record in manifest.files} == written - {MANIFEST_NAME}
    for record in manifest.files:
        assert record.sha256 == sha256_of(tmp_path / "out" / record.path)
    (net,) = [record for record in manifest.sources if record.path == "hallo/net.pth"]
    assert net.sha256 == sha256_of(source / "hallo" / "net.pth")
    assert manifest.versions["torch"] == torch.__version__


@pytest.mark.parametrize(("dtype", "expected"), [("keep", torch.float32), ("bf16", torch.bfloat16)])
def test_number_format_is_the_one_asked_for(tmp_path: Path, dtype: str, expected: torch.dtype) -> None:
    source = published.write_hallo(tmp_path / "source")
    convert("hallo", source, tmp_path / "out", preset=published.hallo_preset(), dtype=dtype)
    written = load_file(tmp_path / "out" / "audio_projection" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {expected}


def test_half_precision_position_tables_pass_the_check(tmp_path: Path) -> None:
    half = {key: tensor.half() for key, tensor in published.net_pth().items()}
    source = published.write_hallo(tmp_path / "source", half)
    convert("hallo", source, tmp_path / "out", preset=published.hallo_preset())
    written = load_file(tmp_path / "out" / "reference_unet" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(written["conv_in.weight"], half["reference_unet.conv_in.weight"])


def test_wav2vec_of_the_published_tree_is_taken_along(tmp_path: Path) -> None:
    weights, config = require("hallo", "w_wav2vec_tiny.safetensors"), require("hallo", "wav2vec_tiny_config.json")
    source = published.write_hallo(tmp_path / "source")
    place = source / "wav2vec" / "wav2vec2-base-960h"
    place.mkdir(parents=True)
    # As the hub has it: the recogniser's prefix, its letters, and weight normalisation in the old spelling.
    names = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
    tensors = {}
    for key, tensor in load_file(weights).items():
        for new, old in names.items():
            key = key.replace(new, old)
        tensors[f"wav2vec2.{key.removeprefix('wav2vec2.')}"] = tensor
    tensors["lm_head.weight"] = torch.zeros(2, 2)
    save_file(tensors, place / "model.safetensors")
    (place / "config.json").write_bytes(config.read_bytes())
    result = convert("hallo", source, tmp_path / "out", preset=published.hallo_preset())
    assert not result.notes
    encoder = load_audio_encoder("wav2vec2-base-960h", tmp_path / "out" / "audio_encoder")
    key = next(key for key in tensors if key.endswith("layers.0.attention.q_proj.weight"))
    assert torch.equal(encoder.state_dict()[key.removeprefix("wav2vec2.")], tensors[key])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not readable JSON"),
        ("[]", "holds no mapping"),
        ('{"hidden_size": "wide"}', "is no config of wav2vec2"),
        ('{"model_type": "whisper"}', "is not of a wav2vec2 model"),
        (None, "There is no .*config.json, which tells the size"),
    ],
)
def test_unusable_config_of_an_audio_encoder_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    folder = xlsr(tmp_path / "source")
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        convert("wav2vec2-base-960h", folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_that_systems_share_convert_alone(tmp_path: Path) -> None:
    source = published.write_echomimic(tmp_path / "source")
    convert("sd-vae-ft-mse", source, tmp_path / "vae", preset=published.echomimic_preset())
    convert("whisper-tiny", source, tmp_path / "whisper")
    assert (tmp_path / "vae" / "config.json").is_file()
    assert load_audio_encoder("whisper-tiny", tmp_path / "whisper") is not None


def test_installed_autoencoder_fills_in_for_a_folder_without_one(tmp_path: Path) -> None:
    source = published.write_hallo(tmp_path / "source")
    preset = published.hallo_preset()
    convert("sd-vae-ft-mse", source, tmp_path / "store" / "sd-vae-ft-mse", preset=preset)
    for path in (source / "sd-vae-ft-mse").iterdir():
        path.unlink()
    convert("hallo", source, tmp_path / "out", preset=preset)
    assert_same_weights(PortraitAnimationPipeline.from_pretrained(tmp_path / "out").vae, systems.hallo().vae)


def test_nothing_is_left_of_a_conversion_that_fails_while_writing(tmp_path: Path) -> None:
    tensors = published.net_pth()
    # Found only when it is written, after other components have been.
    tensors["audioproj.norm.bias"] = torch.full_like(tensors["audioproj.norm.bias"], float("nan"))
    source = published.write_hallo(tmp_path / "source", tensors)
    with pytest.raises(CheckpointError, match="not finite"):
        convert("hallo", source, tmp_path / "out", preset=published.hallo_preset())
    assert left_behind(tmp_path) == ["source"]


def test_numbers_beyond_float16_are_refused_not_made_infinite(tmp_path: Path) -> None:
    tensors = published.net_pth()
    tensors["audioproj.norm.bias"] = torch.full_like(tensors["audioproj.norm.bias"], 1e6)
    source = published.write_hallo(tmp_path / "source", tensors)
    with pytest.raises(CheckpointError, match="beyond the range"):
        convert("hallo", source, tmp_path / "out", preset=published.hallo_preset(), dtype="fp16")
    assert left_behind(tmp_path) == ["source"]


def test_target_that_exists_is_replaced_only_on_request(tmp_path: Path) -> None:
    source, preset = published.write_hallo(tmp_path / "source"), published.hallo_preset()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="--overwrite"):
        convert("hallo", source, tmp_path / "out", preset=preset)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"
    convert("hallo", source, tmp_path / "out", preset=preset, overwrite=True)
    assert not (tmp_path / "out" / "mine.txt").exists()
    assert left_behind(tmp_path) == ["out", "source"]


def test_failure_keeps_the_target_that_was_to_be_replaced(tmp_path: Path) -> None:
    source = published.write_hallo(tmp_path / "source", published.net_pth() | {"extra.weight": torch.zeros(1)})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(CheckpointError):
        convert("hallo", source, tmp_path / "out", preset=published.hallo_preset(), overwrite=True)
    assert left_behind(tmp_path / "out") == ["mine.txt"]


def test_model_index_names_all_components(tmp_path: Path) -> None:
    source = published.write_echomimic(tmp_path / "source")
    convert("echomimic", source, tmp_path / "out", preset=published.echomimic_preset())
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert {"vae", "scheduler", "reference_unet", "denoising_unet", "condition_encoder"} <= index.keys()
