"""The registry, installed weights and their verification."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portraitanim.checkpoints import store
from portraitanim.checkpoints.download import names_to_install
from portraitanim.checkpoints.folder_swap import written_whole
from portraitanim.checkpoints.layouts import LAYOUTS
from portraitanim.checkpoints.manifest import MANIFEST_NAME, write_manifest
from portraitanim.checkpoints.registry import REGISTRY, find_entry
from portraitanim.config.audio import AudioConfig
from portraitanim.config.presets import load_preset
from portraitanim.errors import DamagedWeightsError, InputError, MissingWeightsError, PortraitAnimError
from portraitanim.training.checkpoint import whole_folder


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed set of weights with two files."""
    monkeypatch.setenv(store.WEIGHTS_VARIABLE, str(tmp_path))
    folder = tmp_path / "hallo"
    (folder / "vae").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "vae" / "weights.safetensors").write_bytes(bytes(range(256)) * 64)
    write_manifest(folder, "hallo", "unknown")
    return folder


def test_every_need_in_the_registry_is_in_the_registry() -> None:
    assert {need for entry in REGISTRY.values() for need in entry.needs} <= REGISTRY.keys()


def test_every_layout_reads_the_files_that_are_downloaded_for_it() -> None:
    for name, layout in LAYOUTS.items():
        assert set(layout.files) == set(REGISTRY[name].files)
        assert load_preset(layout.preset).audio.encoder == layout.audio_encoder
        assert layout.audio_encoder in REGISTRY[name].needs


def test_face_identity_models_are_marked_as_not_for_commercial_use() -> None:
    assert REGISTRY["antelopev2"].commercial_use == "no"
    assert "non-commercial" in REGISTRY["antelopev2"].licence


def test_what_is_needed_is_installed_first_and_once() -> None:
    names = names_to_install("hallo")
    assert names[-1] == "hallo"
    assert "sd-vae-ft-mse" in names
    assert len(set(names)) == len(names)


def test_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(InputError, match="Did you mean echomimic-pose"):
        find_entry("echomimic-pos")


def test_weights_live_in_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(store.WEIGHTS_VARIABLE, raising=False)
    assert store.weights_folder().name == "weights"
    assert Path(store.__file__).parents[1] not in store.weights_folder().parents


def test_missing_weights_come_with_the_command_that_installs_them(weights: Path) -> None:
    assert store.require("hallo") == weights
    assert store.installed_names() == ["hallo"]
    with pytest.raises(MissingWeightsError, match="portraitanim weights pull whisper-tiny"):
        store.require("whisper-tiny")


def test_own_audio_encoder_of_a_folder_goes_before_the_installed_one(weights: Path) -> None:
    with pytest.raises(MissingWeightsError):
        store.audio_encoder_folder(weights, AudioConfig())
    (weights / "audio_encoder").mkdir()
    assert store.audio_encoder_folder(weights, AudioConfig()) == weights / "audio_encoder"


def test_intact_weights_verify(weights: Path) -> None:
    assert store.verify("hallo").is_intact
    assert store.verify(str(weights)).is_intact


def test_flipped_byte_is_found_and_its_file_named(weights: Path) -> None:
    path = weights / "vae" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    report = store.verify("hallo")
    assert [file.path for file in report.files if file.state == "damaged"] == ["vae/weights.safetensors"]
    with pytest.raises(DamagedWeightsError, match=r"vae/weights\.safetensors is damaged"):
        report.raise_if_damaged()


def test_shortened_and_removed_files_are_found(weights: Path) -> None:
    (weights / "vae" / "weights.safetensors").write_bytes(b"short")
    (weights / "model_index.json").unlink()
    states = {file.path: file.state for file in store.verify("hallo").files}
    assert states == {"model_index.json": "missing", "vae/weights.safetensors": "damaged"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "files": [{}], "sources": []}'])
def test_damaged_manifest_is_named(weights: Path, text: str) -> None:
    (weights / MANIFEST_NAME).write_text(text)
    with pytest.raises(DamagedWeightsError, match=MANIFEST_NAME):
        store.verify("hallo")


def test_folder_without_manifest_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=MANIFEST_NAME):
        store.verify(str(tmp_path))


def test_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    def write_and_interrupt() -> None:
        with written_whole(tmp_path / "out", overwrite=False) as partial:
            (partial / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt()
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of writing a folder whole: that of weights and that of checkpoints."""
    target = tmp_path / "out"
    target.mkdir()
    (target / "before").touch()
    replace = os.replace

    def refuse_new(source: Path, goal: Path) -> None:
        if Path(goal) == target and "old" not in source.name:
            raise PermissionError(13, "no")
        replace(source, goal)

    monkeypatch.setattr(os, "replace", refuse_new)
    with pytest.raises(PortraitAnimError), written_whole(target, overwrite=True) as partial:
        (partial / "new").touch()
    with pytest.raises(PortraitAnimError), whole_folder(target) as partial:
        (partial / "new").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["out", "out/before"]


def test_too_small_disk_is_refused_at_once(tmp_path: Path) -> None:
    # No disk has an exbibyte to spare.
    with pytest.raises(PortraitAnimError, match="are free"), written_whole(tmp_path / "out", False, 1 << 60):
        pass
    assert not list(tmp_path.iterdir())
