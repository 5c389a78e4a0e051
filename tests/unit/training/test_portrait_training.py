"""Training of small networks of each system, from a dataset on disk to a pipeline folder."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from portraitanim.config.presets import load_preset
from portraitanim.config.schema import to_dict
from portraitanim.config.training import DropConfig
from portraitanim.data.latents import cache_latents
from portraitanim.errors import ConfigError, InputError, MissingWeightsError, TrainingError
from portraitanim.models.evaluators.lpips import Lpips
from portraitanim.models.portrait_network import PortraitNetwork
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from portraitanim.pipelines.weights_folder import read_preset
from portraitanim.training.checkpoint import list_checkpoints
from portraitanim.training.trainer import make_task, train
from tests.small_networks import conditioning, small_pipeline
from tests.unit.training.recipes import small_dataset, small_recipe

SYSTEMS = ["tiny", "hallo", "echomimic"]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("datasets")
    return {system: small_dataset(root / system, system) for system in SYSTEMS}


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_train_writes_animates(system: str, datasets: dict[str, Path], tmp_path: Path) -> None:
    recipe = small_recipe(system, datasets[system], engine={"num_steps": 2})
    result = train(recipe, tmp_path, device="cpu")
    pipe = PortraitAnimationPipeline.from_pretrained(result.weights)
    pipe.set_progress_bar_config(disable=True)
    assert to_dict(read_preset(result.weights)) == to_dict(load_preset(system, recipe.overrides))
    frames = pipe(conditioning(system, 4), generator=torch.Generator().manual_seed(0)).frames
    assert frames.shape == (1, 4, 3, 32, 32)
    assert torch.isfinite(frames).all()


def test_the_loss_falls(datasets: dict[str, Path], tmp_path: Path) -> None:
    engine = {"num_steps": 60, "learning_rate": 3e-3, "log_every_steps": 1, "checkpoint_every_steps": 60}
    recipe = small_recipe("tiny", datasets["tiny"], engine=engine, objective={"sampling_timesteps": 1.0})
    train(recipe, tmp_path, device="cpu")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-15:]) < 0.7 * sum(losses[:15])


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd"])
def test_two_and_two_steps_equal_four_bit_for_bit(optimizer: str, datasets: dict[str, Path], tmp_path: Path) -> None:
    engine = {"checkpoint_every_steps": 2, "keep_checkpoints": 2, "optimizer": optimizer}
    recipe = small_recipe("tiny", datasets["tiny"], engine=engine)
    train(recipe, tmp_path / "whole", device="cpu")
    first, last = list_checkpoints(tmp_path / "whole")
    # A run that was killed after step 3: nothing but the checkpoint of step 2 is left.
    (tmp_path / "parts").mkdir()
    first.rename(tmp_path / "parts" / first.name)
    train(recipe, tmp_path / "parts", resume=True, device="cpu")
    resumed = list_checkpoints(tmp_path / "parts")[-1]
    assert resumed.name == last.name
    for file in sorted(last.glob("*.safetensors")):
        whole, parts = load_file(file), load_file(resumed / file.name)
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[key], parts[key]) for key in whole), file.name


def test_only_what_the_recipe_names_changes(datasets: dict[str, Path], tmp_path: Path) -> None:
    start = small_pipeline("hallo")
    start.save_pretrained(tmp_path / "start")
    recipe = replace(
        small_recipe("hallo", datasets["hallo"], engine={"num_steps": 1, "ema_decay": None}),
        start=str(tmp_path / "start"),
        trainable=("denoising_unet*motion_modules*", "audio_projection.*"),
    )
    before = start.network.state_dict()
    result = train(recipe, tmp_path / "run", device="cpu")
    after = PortraitAnimationPipeline.from_pretrained(result.weights).network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("motion_modules" in name or name.startswith("audio_projection.") for name in changed)


def test_start_of_another_system_is_refused(datasets: dict[str, Path], tmp_path: Path) -> None:
    small_pipeline("hallo").save_pretrained(tmp_path / "start")
    recipe = replace(small_recipe("tiny", datasets["tiny"]), start=str(tmp_path / "start"))
    with pytest.raises(ConfigError, match="does not fit the preset"):
        train(recipe, tmp_path / "run", device="cpu")


def test_dataset_of_another_size_is_refused(datasets: dict[str, Path], tmp_path: Path) -> None:
    recipe = small_recipe("tiny", datasets["tiny"], overrides={"sampling": {"size_px": 64}})
    with pytest.raises(InputError, match="32 px at 25 fps, tiny reads 64 px"):
        train(recipe, tmp_path, device="cpu")


def test_cached_latents_train_as_frames_do(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", "tiny")
    pipeline = small_pipeline("tiny")
    pipeline.save_pretrained(tmp_path / "start")
    cache_latents(data, pipeline.vae)
    losses = []
    for latents in ("encode", "cached"):
        recipe = small_recipe("tiny", data, start=str(tmp_path / "start"), data={"latents": latents})
        task = make_task(recipe, load_preset(recipe.preset, recipe.overrides))
        losses.append(task.module(task.collate([task.sample(0), task.sample(1)]))[0])
    # Cached latents have half precision.
    torch.testing.assert_close(losses[0], losses[1], rtol=2e-3, atol=2e-4)


def test_clips_without_cached_latents_are_refused_before_the_first_step(datasets: dict[str, Path]) -> None:
    recipe = small_recipe("tiny", datasets["tiny"], data={"latents": "cached"})
    with pytest.raises(InputError, match=r"no cached latents. Run prep again with --latents"):
        make_task(recipe, load_preset(recipe.preset, recipe.overrides))


@pytest.mark.parametrize("key", ["start", "autoencoder", "audio_projection"])
def test_weights_that_are_no_folder_are_not_looked_for_on_a_hub(key: str, datasets: dict[str, Path]) -> None:
    recipe = small_recipe("tiny", datasets["tiny"], **{key: "some/name"})
    with pytest.raises(InputError, match=f"{key} is 'some/name', and there is no such folder"):
        make_task(recipe, load_preset(recipe.preset, recipe.overrides))


@pytest.mark.parametrize("system", SYSTEMS)
def test_sample_without_reference_equals_the_unconditional_forward(system: str, datasets: dict[str, Path]) -> None:
    recipe = replace(small_recipe(system, datasets[system]), drops=DropConfig(reference=0, audio=0, motion=0))
    task = make_task(recipe, load_preset(recipe.preset, recipe.overrides))
    task.pipeline.register_modules(**small_pipeline(system).components)
    network: PortraitNetwork = small_pipeline(system).network
    batch = task.collate([task.sample(0), task.sample(1)])
    latents, motion, reference = task.module._latents(batch)
    arguments = {
        "audio_windows": batch["audio_windows"],
        "motion_latents": motion,
        "condition_map": batch["condition_map"].float() / 255,
        "identity_embedding": batch.get("identity"),
    }

    def item(index: int) -> dict:
        return {name: None if value is None else value[index : index + 1] for name, value in arguments.items()}

    timesteps = batch["timesteps"]
    with torch.no_grad():
        both = network(latents, timesteps, reference_latents=reference, num_without_reference=1, **arguments)
        first = network(latents[:1], timesteps[:1], reference_latents=reference[:1], num_without_reference=1, **item(0))
        second = network(latents[1:], timesteps[1:], reference_latents=reference[1:], **item(1))
    # fp32, other sizes of the same matrix products.
    torch.testing.assert_close(both, torch.cat([first, second]), atol=1e-5, rtol=1e-4)
    plain = network(latents[:1], timesteps[:1], reference_latents=reference[:1], **item(0))
    assert not torch.allclose(first, plain, atol=1e-4)


def test_dropped_sound_is_zero_tokens(datasets: dict[str, Path]) -> None:
    network = small_pipeline("tiny").network
    recipe = small_recipe("tiny", datasets["tiny"])
    task = make_task(recipe, load_preset(recipe.preset, recipe.overrides))
    batch = task.collate([task.sample(0)])
    latents, _, reference = task.module._latents(batch)
    outputs = []
    with torch.no_grad():
        for windows in (batch["audio_windows"], batch["audio_windows"] * 3):
            outputs.append(
                network(
                    latents,
                    batch["timesteps"],
                    audio_windows=windows,
                    reference_latents=reference,
                    with_audio=torch.zeros(1),
                )
            )
    assert torch.equal(*outputs)


def test_spatial_loss_without_its_weights_says_how_to_get_them(datasets: dict[str, Path], tmp_path: Path) -> None:
    recipe = small_recipe("echomimic", datasets["echomimic"], objective={"spatial_weight": 0.1})
    with pytest.raises(MissingWeightsError, match=r"objective\.lpips_weight=0"):
        train(recipe, tmp_path, device="cpu")


def test_spatial_loss_reads_the_installed_lpips(datasets: dict[str, Path], tmp_path: Path) -> None:
    save_file(Lpips("vgg").state_dict(), tmp_path / "model.safetensors")
    losses = []
    for weight in (0.0, 1.0):
        changes = {"spatial_weight": 1.0, "lpips_weight": weight, "lpips_weights": str(tmp_path), "spatial_frames": 1}
        recipe = small_recipe("echomimic", datasets["echomimic"], objective=changes)
        task = make_task(recipe, load_preset(recipe.preset, recipe.overrides))
        losses.append(float(task.module(task.collate([task.sample(0)]))[1]["spatial"]))
    assert losses[0] != losses[1]


def test_spatial_loss_adds_pixels_to_the_gradient(datasets: dict[str, Path]) -> None:
    changes = {"spatial_weight": 1.0, "lpips_weight": 0.0, "spatial_frames": 2}
    recipe = small_recipe("echomimic", datasets["echomimic"], objective=changes)
    task = make_task(recipe, load_preset(recipe.preset, recipe.overrides))
    loss, parts = task.module(task.collate([task.sample(0), task.sample(1)]))
    assert float(parts["spatial"]) > 0
    torch.testing.assert_close(loss.detach(), parts["latent"] + parts["spatial"])
    loss.backward()
    assert all(parameter.grad is None for parameter in task.pipeline.vae.parameters())


def test_changed_sound_is_encoded_anew(tmp_path: Path) -> None:
    data = small_dataset(tmp_path, "tiny")
    overrides = {"network": {"audio_projection": {"num_layers": 4, "feature_dim": 80}}}
    recipe = small_recipe("tiny", data, overrides=overrides, augmentation={"gain": 1.0})
    task = make_task(recipe, load_preset(recipe.preset, recipe.overrides))
    windows = task.sample(0)["audio_windows"]
    assert windows.shape == (3, 3, 4, 80)
    assert torch.equal(windows, task.sample(0)["audio_windows"])


def test_sigterm_saves_and_says_so(datasets: dict[str, Path], tmp_path: Path) -> None:
    import os
    import signal

    recipe = small_recipe("tiny", datasets["tiny"], engine={"num_steps": 50})
    task = make_task(recipe, load_preset(recipe.preset, recipe.overrides))
    from portraitanim.training.engine import TrainingEngine

    drawn = task.sample

    def sample(number: int) -> dict:
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return drawn(number)

    task.sample = sample  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="SIGTERM after step"):
        TrainingEngine(task, recipe.engine, tmp_path, device="cpu").run()
    assert list_checkpoints(tmp_path)
    assert PortraitAnimationPipeline.from_pretrained(tmp_path / "weights").config.preset == "tiny"


_TWO_PROCESSES = """
import json, sys
from pathlib import Path
from portraitanim.config.schema import from_dict
from portraitanim.config.training import TrainingConfig
from portraitanim.training.trainer import train
train(from_dict(TrainingConfig, json.loads(Path(sys.argv[1]).read_text())), sys.argv[2], device="cpu")
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(datasets: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(_TWO_PROCESSES)
    for processes, batch_size in ((1, 2), (2, 1)):
        # Plain gradient descent would show the gradients themselves; with AdamW, epsilon 1 comes close to it.
        engine = {"batch_size": batch_size, "num_steps": 2, "epsilon": 1.0}
        recipe = small_recipe("tiny", datasets["tiny"], engine=engine)
        (tmp_path / f"{processes}.json").write_text(json.dumps(to_dict(recipe)))
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "29617"]
        arguments = [str(tmp_path / "train.py"), str(tmp_path / f"{processes}.json"), str(tmp_path / str(processes))]
        done = subprocess.run(
            [sys.executable, *(launcher if processes > 1 else []), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(list_checkpoints(tmp_path / n)[-1] / "optimizer.safetensors") for n in ("1", "2"))
    # fp32; the gradients of two processes are averaged in another order.
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
