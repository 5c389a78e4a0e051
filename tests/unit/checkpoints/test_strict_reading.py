"""Bad checkpoints: each is one clear error that names the file, the first keys and shapes, and what it looks like."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from portraitanim.checkpoints.convert import convert
from portraitanim.checkpoints.key_table import KeyTable, translate
from portraitanim.checkpoints.keys import HALLO_KEYS, check_position_table
from portraitanim.checkpoints.recognition import recognize
from portraitanim.config.presets import load_preset
from portraitanim.errors import CheckpointError
from portraitanim.models.motion_module import sinusoidal_positions
from portraitanim.tensor_files import read_tensors, write_safetensors
from tests import published_folders as published
from tests.goldens import load_json

TABLE = KeyTable(what="a test network", renames=((r"^old\.", "new."),), unused=((r"^idle\.", "nobody reads it"),))
EXPECTED = {"new.weight": (2, 3), "new.bias": (2,)}


def weights(**changes: Tensor) -> dict[str, Tensor]:
    return {"old.weight": torch.zeros(2, 3), "old.bias": torch.zeros(2)} | changes


def failure(tmp_path: Path, tensors: dict[str, Tensor]) -> str:
    """Message of a conversion of a ``net.pth`` with these tensors, of which nothing may be left."""
    source = published.write_hallo(tmp_path / "source", tensors)
    with pytest.raises(CheckpointError) as raised:
        convert("hallo", source, tmp_path / "out", preset=published.hallo_preset())
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    return str(raised.value)


def test_renamed_tensors_come_in_the_order_of_the_network() -> None:
    found = translate(weights(**{"idle.weight": torch.ones(9)}), TABLE, dict(reversed(EXPECTED.items())))
    assert list(found) == ["new.bias", "new.weight"]


def test_missing_key_is_named_with_its_shape() -> None:
    with pytest.raises(CheckpointError, match=r"1 missing: new\.bias 2\b"):
        translate({"old.weight": torch.zeros(2, 3)}, TABLE, EXPECTED)


def test_two_keys_for_one_place_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"1 there twice: new\.bias 2"):
        translate(weights(**{"new.bias": torch.ones(2)}), TABLE, EXPECTED)


def test_message_counts_all_and_shows_the_first() -> None:
    extras = {f"more.{index}": torch.zeros(1) for index in range(50)}
    with pytest.raises(CheckpointError, match=r"50 of its tensors disagree \(50 not known: more\.0 1, .*…\)"):
        translate(weights(**extras), TABLE, EXPECTED)


def test_key_too_many_is_an_error(tmp_path: Path) -> None:
    extra = {"denoising_unet.conv_in.extra": torch.zeros(3)}
    message = failure(tmp_path, published.net_pth() | extra)
    assert "denoising_unet in net.pth" in message
    assert "1 not known: conv_in.extra 3" in message


def test_key_outside_every_component_is_an_error(tmp_path: Path) -> None:
    message = failure(tmp_path, published.net_pth() | {"optimizer.step": torch.zeros(1)})
    assert "optimizer.step" in message
    assert "denoising_unet." in message


def test_wrong_shape_is_an_error_with_both_shapes(tmp_path: Path) -> None:
    tensors = published.net_pth()
    (size,) = tensors["face_locator.conv_in.bias"].shape
    message = failure(tmp_path, tensors | {"face_locator.conv_in.bias": torch.zeros(size + 1)})
    assert f"1 of another shape: conv_in.bias is {size + 1}, not {size}" in message


def test_key_too_few_is_an_error(tmp_path: Path) -> None:
    tensors = published.net_pth()
    (size,) = tensors.pop("imageproj.norm.weight").shape
    assert f"1 missing: norm.weight {size}" in failure(tmp_path, tensors)


def test_other_position_table_is_an_error(tmp_path: Path) -> None:
    tensors = published.net_pth()
    # Of a module that runs; tables of idle modules are not read at all.
    key = next(key for key in tensors if key.endswith("pos_encoder.pe") and ".down_blocks.0." in key)
    tensors[key] = tensors[key].roll(1, dims=1)
    message = failure(tmp_path, tensors)
    assert "1 of other values" in message
    assert "sinusoid" in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_position_table_may_be_rounded(dtype: torch.dtype) -> None:
    assert check_position_table(sinusoidal_positions(32, 320).to(dtype), num_positions=32) is None


def test_position_table_of_another_length_is_refused() -> None:
    assert check_position_table(sinusoidal_positions(24, 320), num_positions=32) == "is 1x24x320, not 1x32x(even)"


def test_every_idle_tensor_of_hallo_has_a_reason() -> None:
    preset = load_preset("hallo")
    keys = load_json("hallo", "keys_full.json")
    counts = {}
    for component, prefix in (("reference_unet", "reference_unet."), ("denoising_unet", "denoising_unet.")):
        table = HALLO_KEYS[component](preset)
        names = [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]
        counts[component] = sum(table.reason_unused(name) is not None for name in names)
    # hallo.md: 20 tensors of the last reference block; 130 parameters and 10 tables of five motion modules.
    assert counts == {"reference_unet": 20, "denoising_unet": 140}


def test_folder_of_the_other_system_is_recognized(tmp_path: Path) -> None:
    source = published.write_echomimic(tmp_path / "source")
    with pytest.raises(CheckpointError, match=r"files are those of echomimic: use --system echomimic\."):
        convert("hallo", source, tmp_path / "out")


def test_file_of_the_other_system_is_recognized(tmp_path: Path) -> None:
    source = published.write_hallo(tmp_path / "source")
    for name in ("reference_unet", "denoising_unet", "motion_module", "face_locator"):
        torch.save(published.net_pth(), source / f"{name}.pth")
    with pytest.raises(CheckpointError, match=r"looks like Hallo's net\.pth; use --system hallo\."):
        convert("echomimic", source, tmp_path / "out", preset=published.echomimic_preset())


def test_face_box_and_landmark_weights_are_told_apart(tmp_path: Path) -> None:
    source = published.write_echomimic(tmp_path / "source", pose=True)
    for stem in ("reference_unet", "denoising_unet", "motion_module", "face_locator"):
        (source / f"{stem}_pose.pth").rename(source / f"{stem}.pth")
    with pytest.raises(CheckpointError, match=r"face_locator_pose\.pth \(landmarks\); use --system echomimic-pose"):
        convert("echomimic", source, tmp_path / "out", preset=published.echomimic_preset())


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("denoising_unet.pth", "EchoMimic's denoising_unet.pth; use --system echomimic"),
        ("reference_unet.pth", "EchoMimic's reference_unet.pth"),
        ("motion_module.pth", "motion module"),
        ("face_locator.pth", "face box"),
        ("face_locator_pose.pth", "landmarks"),
    ],
)
def test_published_files_of_echomimic_are_recognized(file: str, words: str) -> None:
    keys = load_json("echomimic", "keys_full.json")["files"][file]
    assert words in str(recognize({key: tuple(shape) for key, shape in keys.items()}))


def test_published_files_of_others_are_recognized() -> None:
    files = load_json("echomimic", "keys_full.json")
    hallo = load_json("hallo", "keys_full.json")
    shapes = {"vae": files["sd_vae_ft_mse"], "whisper": files["whisper_tiny_pt"]["keys"], "hallo": hallo}
    found = {name: recognize({key: tuple(shape) for key, shape in keys.items()}) for name, keys in shapes.items()}
    assert "autoencoder" in str(found["vae"])
    assert "Whisper" in str(found["whisper"])
    assert "Hallo's net.pth" in str(found["hallo"])
    assert recognize({"something": (1,)}) is None


class _Attack:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("as_archive", [True, False])
def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path: Path, as_archive: bool) -> None:
    path, trace = tmp_path / "net.pth", tmp_path / "trace"
    torch.save({"weight": torch.zeros(1), "code": _Attack(trace)}, path, _use_new_zipfile_serialization=as_archive)
    with pytest.raises(CheckpointError, match="holds Python objects or code"):
        read_tensors(path)
    assert not trace.exists()
    # The file does what it says: without the refusal the trace would be there.
    torch.load(path, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize("as_archive", [True, False])
def test_files_of_both_ages_of_torch_are_read(tmp_path: Path, as_archive: bool) -> None:
    path = tmp_path / "net.pth"
    torch.save({"weight": torch.arange(6.0)}, path, _use_new_zipfile_serialization=as_archive)
    assert torch.equal(read_tensors(path)["weight"], torch.arange(6.0))


@pytest.mark.parametrize("as_archive", [True, False])
def test_truncated_file_is_an_error(tmp_path: Path, as_archive: bool) -> None:
    path = tmp_path / "net.pth"
    torch.save({"weight": torch.arange(6000.0)}, path, _use_new_zipfile_serialization=as_archive)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        read_tensors(path)


def test_flipped_bit_in_an_archive_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"weight": torch.arange(6000.0)}, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("net.pth", b"", "is empty"),
        ("net.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        ("net.pth", b"<!DOCTYPE html><html>", "web page"),
        ("net.pth", b"some text that is no pickle", "damaged or no checkpoint"),
        ("net.safetensors", b"some text that is no safetensors", "is damaged"),
        ("net.zip", b"anything", "is not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_an_error(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_tensors(tmp_path / name)


@pytest.mark.parametrize(("content", "words"), [([1], "not tensors by name"), ({"step": 3}, "holds int under 'step'")])
def test_other_content_than_tensors_is_an_error(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=words):
        read_tensors(tmp_path / "net.pth")


def test_written_tensors_come_back_whatever_their_form(tmp_path: Path) -> None:
    tensors = {
        "plain": torch.randn(3, 4),
        "scalar": torch.tensor(2.0),
        "transposed": torch.randn(4, 5).t(),
        "empty": torch.zeros(0, 3),
        "counts": torch.tensor([1, 2]),
        "slice": torch.randn(10, 10)[2:4],
    }
    write_safetensors(tmp_path / "w.safetensors", tensors)
    found = read_tensors(tmp_path / "w.safetensors")
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())
    assert found.keys() == tensors.keys()
