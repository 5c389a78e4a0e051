"""Networks that hear by a checkpoint of the user's: stored states, training, and what is kept for `animate`."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from portraitanim.audio.encoder_folders import num_parameters
from portraitanim.audio.encoders import load_audio_encoder
from portraitanim.benchmarking.random_weights import random_animator
from portraitanim.checkpoints.animators import open_animator
from portraitanim.config.audio import AudioConfig
from portraitanim.config.presets import load_preset
from portraitanim.config.schema import Preset
from portraitanim.config.training import TrainingConfig
from portraitanim.errors import (
    CheckpointError,
    ConfigError,
    DamagedWeightsError,
    InputError,
    MissingWeightsError,
)
from portraitanim.pipelines.sound_source import stream_sound
from portraitanim.pipelines.weights_folder import read_preset
from portraitanim.training.heard_encoder import HeardEncoder
from portraitanim.training.trainer import make_task, train
from tests.audio_checkpoints import pickled, whisper, xlsr
from tests.examples import PORTRAIT, SPEECH
from tests.prepared_clips import write_dataset
from tests.unit.training.recipes import small_recipe

SIZE_PX = 64
SOUND = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))


def recipe(system: str, data: Path, folder: Path | None, **changes: Any) -> TrainingConfig:
    """Two steps of a small network that reads 3 layers of 16, or states of 16."""
    family = "whisper" if system == "echomimic" else "wav2vec2"
    network: dict[str, Any] = {"denoising_unet": {"cross_attention_dim": 16}}
    if system != "echomimic":
        network = {"audio_projection": {"num_layers": 3, "feature_dim": 16}}
    audio = {"encoder": family, "weights": None if folder is None else str(folder)}
    overrides = {"audio": audio, "network": network, "sampling": {"size_px": SIZE_PX}}
    changes.setdefault("engine", {"num_steps": 2, "checkpoint_every_steps": 1})
    return small_recipe(system, data, overrides=overrides, **changes)


def preset_of(config: TrainingConfig) -> Preset:
    return load_preset(config.preset, config.overrides)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    return {
        "tiny": write_dataset(root / "tiny", num_clips=1, size_px=SIZE_PX),
        "echomimic": write_dataset(root / "echomimic", num_clips=1, size_px=SIZE_PX, fps=24.0),
    }


@pytest.mark.parametrize(("system", "made"), [("tiny", xlsr), ("echomimic", whisper)])
def test_what_train_writes_animates_with_nothing_else(
    system: str, made: Callable[[Path], Path], data: dict[str, Path], tmp_path: Path
) -> None:
    folder = pickled(made(tmp_path / "encoder"))
    result = train(recipe(system, data[system], folder), tmp_path / "run", device="cpu")
    kept = result.weights / "audio_encoder"
    assert sorted(path.name for path in kept.iterdir()) == ["config.json", "model.safetensors"]
    # Once per run, not once per state of the weights.
    assert (kept / "model.safetensors").samefile(tmp_path / "run" / "audio_encoder" / "model.safetensors")
    shutil.rmtree(folder)
    shutil.move(result.weights, tmp_path / "moved")
    shutil.rmtree(tmp_path / "run")

    animator = open_animator(str(tmp_path / "moved"), device="cpu", dtype="fp32", cache=False)
    made_video = animator.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", duration_seconds=0.3)
    assert made_video.num_frames == math.ceil(0.3 * animator.preset.sampling.fps)
    said = json.loads((tmp_path / "talk.mp4.json").read_text(encoding="utf-8"))
    assert said["config"]["audio"]["fingerprint"] == said["audio_encoder_hash"]
    assert animator.parts.audio_encoder.encoder_name == f"{said['audio_encoder']}-{said['audio_encoder_hash']}"


def test_the_config_of_a_run_names_the_encoder_and_its_hash(data: dict[str, Path], tmp_path: Path) -> None:
    folder = xlsr(tmp_path / "encoder")
    result = train(recipe("tiny", data["tiny"], folder), tmp_path / "run", device="cpu")
    audio = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))["preset"]["audio"]
    encoder = load_audio_encoder("wav2vec2", folder)
    assert f"{audio['encoder']}-{audio['fingerprint']}" == encoder.encoder_name
    assert audio["weights"] == str(folder)
    assert read_preset(result.weights).audio.weights == str(result.weights / "audio_encoder")


def test_stored_states_are_read_and_others_are_not(
    data: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = xlsr(tmp_path / "first", 0), xlsr(tmp_path / "second", 1)
    name = load_audio_encoder("wav2vec2", first).encoder_name
    root = write_dataset(tmp_path / "data", num_clips=1, size_px=SIZE_PX, states={name: (3, 16)})
    windows = []
    for folder in (first, second):
        config = recipe("tiny", root, folder)
        heard = HeardEncoder.of(preset_of(config))
        assert heard is not None
        task = make_task(config, heard.preset, heard.folder)
        windows.append(task.sample(0)["audio_windows"])
        assert (task._encoder is None) == (folder == first)
    assert windows[0].shape == windows[1].shape == (3, 3, 3, 16)
    assert not torch.equal(*windows)
    assert f"states of {name}" in caplog.text


def test_file_with_states_of_another_encoder_is_refused(tmp_path: Path) -> None:
    folder = xlsr(tmp_path / "encoder")
    name = load_audio_encoder("wav2vec2", folder).encoder_name
    root = write_dataset(tmp_path / "data", num_clips=1, size_px=SIZE_PX, states={name: (3, 16)})
    path = root / f"clips/clip-000/audio-{name}.safetensors"
    save_file(load_file(path), path, {"encoder": "wav2vec2-of-another"})
    config = recipe("tiny", root, folder)
    heard = HeardEncoder.of(preset_of(config))
    assert heard is not None
    with pytest.raises(InputError, match="holds states of the audio encoder wav2vec2-of-another"):
        make_task(config, heard.preset, heard.folder).sample(0)


def test_hash_is_that_of_the_weights_whatever_the_file(tmp_path: Path) -> None:
    names = [
        load_audio_encoder("wav2vec2", folder).encoder_name
        for folder in (xlsr(tmp_path / "a"), pickled(xlsr(tmp_path / "b")), xlsr(tmp_path / "c", 1))
    ]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("system", "made", "changes", "message"),
    [
        (
            "tiny",
            xlsr,
            {"audio_projection": {"num_layers": 12, "feature_dim": 768}},
            "gives 3 layers of 16.*--set overrides.network.audio_projection.feature_dim=16 "
            "--set overrides.network.audio_projection.num_layers=3",
        ),
        (
            "echomimic",
            whisper,
            {"denoising_unet": {"cross_attention_dim": 384}},
            "--set overrides.network.denoising_unet.cross_attention_dim=16",
        ),
    ],
)
def test_wrong_widths_say_what_to_set(
    system: str, made: Callable[[Path], Path], changes: dict, message: str, data: dict[str, Path], tmp_path: Path
) -> None:
    config = recipe(system, data[system], made(tmp_path / "encoder"))
    values = {**config.overrides, "network": {**config.overrides["network"], **changes}}
    preset = load_preset(config.preset, config.overrides, {"network": values["network"]})
    with pytest.raises(ConfigError, match=message) as error:
        HeardEncoder.of(preset)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files_are_named(name: str, data: dict[str, Path], tmp_path: Path) -> None:
    folder = xlsr(tmp_path / "encoder")
    (folder / name).unlink()
    with pytest.raises(MissingWeightsError, match=f"there is no .*{name}|There is no .*{name}"):
        HeardEncoder.of(preset_of(recipe("tiny", data["tiny"], folder)))


def test_family_without_a_folder_is_refused(data: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"set audio\.weights to the folder"):
        HeardEncoder.of(preset_of(recipe("tiny", data["tiny"], None)))


def test_pickle_with_code_is_not_opened(tmp_path: Path, data: dict[str, Path]) -> None:
    folder = pickled(xlsr(tmp_path / "encoder"))
    torch.save({"model": Path("x"), "code": pickle.PickleBuffer}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds Python objects or code"):
        HeardEncoder.of(preset_of(recipe("tiny", data["tiny"], folder)))


def test_checkpoint_of_another_family_is_refused(tmp_path: Path, data: dict[str, Path]) -> None:
    config = recipe("tiny", data["tiny"], whisper(tmp_path / "encoder"))
    with pytest.raises(ConfigError, match=r"is of a whisper model, and audio\.encoder says wav2vec2"):
        HeardEncoder.of(preset_of(config))
    values = json.loads((tmp_path / "encoder" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "encoder" / "config.json").write_text(json.dumps({**values, "model_type": "hubert"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="is of a hubert model"):
        HeardEncoder.of(preset_of(config))


def test_damaged_config_is_refused(tmp_path: Path, data: dict[str, Path]) -> None:
    folder = xlsr(tmp_path / "encoder")
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(DamagedWeightsError, match=r"config\.json is not readable JSON"):
        HeardEncoder.of(preset_of(recipe("tiny", data["tiny"], folder)))


def test_weights_beside_a_certain_checkpoint_and_foreign_windows_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Set audio\.encoder to the family"):
        AudioConfig(encoder="wav2vec2-base-960h", weights="folder")
    with pytest.raises(ConfigError, match=r"audio\.window must be whisper with audio\.encoder whisper, got centred"):
        AudioConfig(encoder="whisper")


def test_run_and_weights_keep_to_their_encoder(data: dict[str, Path], tmp_path: Path) -> None:
    first, second = xlsr(tmp_path / "first"), xlsr(tmp_path / "second", 1)
    result = train(recipe("tiny", data["tiny"], first), tmp_path / "run", device="cpu")
    with pytest.raises(CheckpointError, match="was trained with another audio encoder"):
        train(recipe("tiny", data["tiny"], second), tmp_path / "run", resume=True, device="cpu")
    shutil.rmtree(result.weights / "audio_encoder")
    with pytest.raises(MissingWeightsError, match=r"has no audio_encoder.*Copy the whole folder"):
        open_animator(str(result.weights), device="cpu")
    shutil.copytree(second, result.weights / "audio_encoder")
    with pytest.raises(ConfigError, match="holds another audio encoder"):
        open_animator(str(result.weights), device="cpu")


def test_copies_take_the_place_of_links_where_there_are_none(
    data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    result = train(recipe("tiny", data["tiny"], xlsr(tmp_path / "encoder")), tmp_path / "run", device="cpu")
    kept, source = result.weights / "audio_encoder", tmp_path / "run" / "audio_encoder"
    assert (kept / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("family", "made"), [("wav2vec2", xlsr), ("whisper", whisper)])
def test_parameters_are_counted_and_random_weights_are_of_its_size(
    family: str, made: Callable[[Path], Path], data: dict[str, Path], tmp_path: Path
) -> None:
    system = "echomimic" if family == "whisper" else "tiny"
    preset = preset_of(recipe(system, data[system], made(tmp_path / "encoder")))
    encoder = load_audio_encoder(family, tmp_path / "encoder")
    assert num_parameters(preset.audio) == sum(p.numel() for p in encoder.parameters())  # type: ignore[attr-defined]
    animator = random_animator(preset, torch.device("cpu"), torch.float32)
    states = animator.parts.audio_encoder.encode(SOUND, 25.0).states
    assert states.shape[1:] == encoder.encode(SOUND, 25.0).states.shape[1:]


@pytest.mark.parametrize(("system", "made", "rows"), [("tiny", xlsr, (3, 3)), ("echomimic", whisper, (10, 4))])
def test_sound_that_arrives_is_heard_in_the_way_of_the_family(
    system: str, made: Callable[[Path], Path], rows: tuple[int, int], data: dict[str, Path], tmp_path: Path
) -> None:
    preset = preset_of(recipe(system, data[system], made(tmp_path / "encoder")))
    encoder = load_audio_encoder(preset.audio.family, tmp_path / "encoder")
    stream = stream_sound(iter(SOUND.numpy().reshape(10, -1)), encoder, preset, torch.float32)
    assert stream.windows(range(4)).shape == (1, 4, *rows, 16)


def test_encoder_with_a_name_is_kept_as_well_and_states_of_its_name_are_read(tmp_path: Path) -> None:
    folder = xlsr(tmp_path / "encoder")
    root = write_dataset(tmp_path / "data", num_clips=1, size_px=SIZE_PX, states={"wav2vec2-base-960h": (3, 16)})
    config = recipe("tiny", root, None)
    config = replace(config, overrides={**config.overrides, "audio": {"encoder": "wav2vec2-base-960h"}})
    result = train(config, tmp_path / "run", device="cpu", encoder_folder=folder)
    audio = read_preset(result.weights).audio
    assert (audio.encoder, audio.weights) == ("wav2vec2-base-960h", None)
    assert audio.fingerprint in load_audio_encoder("wav2vec2", folder).encoder_name
    assert (result.weights / "audio_encoder" / "model.safetensors").is_file()


def test_networks_without_projection_see_as_many_states_in_training_as_in_videos() -> None:
    audio = {"encoder": "wav2vec2", "weights": "folder", "window": "centred"}
    assert load_preset("echomimic", {"audio": audio}).audio_window_rows == 5
    assert load_preset("tiny").audio_window_rows == 13
