"""Lips from sound alone: the stage before pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from portraitanim.config.recipes import load_recipe
from portraitanim.config.schema import from_dict
from portraitanim.config.training import AudioTrainingConfig, SpectrumChangeConfig
from portraitanim.data.speech_motion import SpeechMotion, SpeechMotionDataset, write_speech_motion
from portraitanim.errors import ConfigError, InputError
from portraitanim.models.embedders import AudioProjection
from portraitanim.training.audio_to_mouth import AudioToMouthObjective, AudioToMouthTask, change_spectrum, widened
from portraitanim.training.trainer import make_task, train
from tests.small_networks import IMAGE_SIZE, small_preset
from tests.unit.training.recipes import small_dataset, small_recipe

SMALL = {"network": {"audio_projection": {"hidden_dim": 32, "num_tokens": 2, "token_dim": 16}}}


def speech(root: Path, num_clips: int = 24, num_frames: int = 30) -> Path:
    """Clips whose mouth opens with the level of the middle bands; its pout is known in every other clip only."""
    random = np.random.default_rng(0)
    clips = []
    for number in range(num_clips):
        level = np.clip(np.convolve(random.normal(0, 1.2, num_frames + 4), np.ones(5) / 5, "valid") + 0.4, 0, 1)
        states = np.full((num_frames, 4, 80), -1.0) + 0.05 * random.random((num_frames, 4, 80))
        states[:, :, 20:40] += level[:, None, None]
        mouth = np.zeros((num_frames, 3))
        mouth[:, 0] = 0.1 * level
        mouth[:, 2] = np.nan if number % 2 else level
        clips.append(SpeechMotion(states=states, mouth=mouth))
    root.mkdir(parents=True, exist_ok=True)
    write_speech_motion(clips[:10], root, "a")
    write_speech_motion(clips[10:], root, "b")
    return root


def recipe(root: Path, **engine: object) -> AudioTrainingConfig:
    values = {"num_steps": 150, "batch_size": 6, "learning_rate": 3e-3, "mixed_precision": "fp32", "trackers": []}
    return from_dict(
        AudioTrainingConfig,
        {
            "preset": "tiny",
            "overrides": SMALL,
            "speech": str(root),
            "changes": {"gain": 0.05, "tilt": 0.02, "floor": 0.1, "gap": 0.0},
            "engine": values | engine,
        },
    )


def test_the_mouth_is_read_from_sound_never_heard(tmp_path: Path) -> None:
    config = recipe(speech(tmp_path / "speech"), log_every_steps=10)
    train(config, tmp_path / "run", device="cpu")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.3 * losses[0]

    task = AudioToMouthTask(from_dict(AudioTrainingConfig, {
        "overrides": SMALL, "speech": str(tmp_path / "speech"), "start": str(tmp_path / "run" / "weights"),
    }))  # fmt: skip
    task.module.reading.load_state_dict(_reading(tmp_path / "run"))
    level = np.abs(np.sin(np.arange(60) / 5)).astype(np.float32)
    states = torch.full((1, 60, 4, 80), -1.0)
    states[..., 20:40] += torch.from_numpy(level)[None, :, None, None]
    with torch.no_grad():
        opening = task.module.read(states)[0, :, 0].numpy()
    assert np.corrcoef(opening, level)[0, 1] > 0.9


def _reading(run: Path) -> dict[str, torch.Tensor]:
    newest = sorted(run.glob("checkpoint-*"))[-1]
    tensors = load_file(newest / "parameters.safetensors")
    return {name.removeprefix("reading."): value for name, value in tensors.items() if name.startswith("reading.")}


def test_measures_that_are_not_known_do_not_count(tmp_path: Path) -> None:
    task = AudioToMouthTask(recipe(speech(tmp_path)))
    batch = task.collate([task.sample(number) for number in range(8)])
    loss, _ = task.module(batch)
    loss.backward()
    assert torch.isfinite(loss)
    other = dict(batch, mouth=batch["mouth"].clone())
    other["mouth"][..., 1] = torch.nan
    assert task.module(other)[0] != loss


def test_a_dataset_gives_every_clip_once_an_epoch(tmp_path: Path) -> None:
    dataset = SpeechMotionDataset(speech(tmp_path), seed=3)
    firsts = [float(dataset.sample(number)[0][3, 0, 30]) for number in range(2 * len(dataset))]
    assert len(set(firsts[: len(dataset)])) == len(dataset)
    assert sorted(firsts[: len(dataset)]) == sorted(firsts[len(dataset) :])
    assert firsts[: len(dataset)] != firsts[len(dataset) :]


def test_changes_keep_the_range_and_the_seed_decides_them() -> None:
    states = torch.rand(20, 4, 80) * 1.5 - 1
    config = SpectrumChangeConfig()
    first, again, other = (change_spectrum(states, config, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= -1
    assert first.max() <= 1.2
    none = SpectrumChangeConfig(gain=0, tilt=0, floor=0, gap=0)
    torch.testing.assert_close(change_spectrum(states, none, torch.Generator()), states.clamp(-1, 1.2))


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="synthesize_speech"):
        SpeechMotionDataset(tmp_path)


def test_presets_with_a_trained_encoder_need_no_such_stage(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Leave this stage out"):
        AudioToMouthTask(from_dict(AudioTrainingConfig, {"preset": "hallo", "speech": str(speech(tmp_path))}))


def test_the_recipe_has_the_stage(tmp_path: Path) -> None:
    config = load_recipe("tiny", "audio", {"speech": str(tmp_path)})
    assert isinstance(config, AudioTrainingConfig)
    assert config.preset == "tiny"


def test_pictures_learn_with_the_projection_that_listens(tmp_path: Path) -> None:
    """Stage 1 takes the audio projection by name and leaves it alone where it shall not learn."""
    data = small_dataset(tmp_path / "data", "tiny")
    torch.manual_seed(5)
    sizes = small_preset("tiny").network.audio_projection
    projection = AudioProjection(
        sizes.window, sizes.num_layers, sizes.feature_dim, sizes.hidden_dim, sizes.num_tokens, sizes.token_dim
    )
    projection.save_pretrained(tmp_path / "projection")
    config = small_recipe(
        "tiny", data, audio_projection=str(tmp_path / "projection"), trainable=["*", "!audio_projection*"]
    )
    result = train(config, tmp_path / "run", device="cpu")
    kept = AudioProjection.from_pretrained(result.weights / "audio_projection")
    for name, value in projection.state_dict().items():
        torch.testing.assert_close(kept.state_dict()[name], value, rtol=0, atol=0)


def test_parameters_named_fresh_begin_anew(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", "tiny")
    first = train(small_recipe("tiny", data), tmp_path / "run", device="cpu")
    preset = small_preset("tiny", size_px=IMAGE_SIZE)
    begun = make_task(small_recipe("tiny", data), preset).network
    config = small_recipe("tiny", data, start=str(first.weights), fresh=["denoising_unet*audio_modules*attn_lip*"])
    network = make_task(config, preset).network
    trained = make_task(small_recipe("tiny", data, start=str(first.weights)), preset).network
    for name, value in network.named_parameters():
        expected = begun if "audio_modules" in name and "attn_lip" in name else trained
        assert torch.equal(value, expected.get_parameter(name)), name
    with pytest.raises(ConfigError, match="matches no parameter"):
        make_task(small_recipe("tiny", data, start=str(first.weights), fresh=["nothing*"]), preset)


def test_a_longer_window_changes_nothing_until_it_is_trained() -> None:
    torch.manual_seed(0)
    projection = AudioProjection(window=5, num_layers=4, feature_dim=80, hidden_dim=16, num_tokens=2, token_dim=8)
    narrow = AudioToMouthObjective(projection)
    wide = AudioToMouthObjective(widened(projection, 13))
    wide.reading.load_state_dict(narrow.reading.state_dict())
    states = torch.randn(2, 20, 4, 80)
    assert wide.projection.config.window == 13
    torch.testing.assert_close(wide.read(states), narrow.read(states))


@pytest.mark.parametrize("window", [3, 8])
def test_a_window_that_does_not_contain_the_old_one_is_an_error(window: int) -> None:
    projection = AudioProjection(window=5, num_layers=4, feature_dim=80, hidden_dim=16, num_tokens=2, token_dim=8)
    with pytest.raises(ConfigError, match="odd number"):
        widened(projection, window)
