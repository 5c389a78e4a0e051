"""Training of a system's networks on prepared clips, from a recipe to weights that ``animate`` reads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import torch

from portraitanim.audio.encoders import load_audio_encoder
from portraitanim.config.audio import AUDIO_ENCODER_FOLDER
from portraitanim.config.presets import load_preset
from portraitanim.config.schema import Preset, to_dict
from portraitanim.config.training import (
    AnyTrainingConfig,
    AudioTrainingConfig,
    AutoencoderTrainingConfig,
    TrainingConfig,
)
from portraitanim.errors import ConfigError
from portraitanim.face.mouth_reader import MOUTH_READER, MouthReader
from portraitanim.pipelines.build import build_pipeline
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from portraitanim.pipelines.weights_folder import load_audio_projection, load_autoencoder, load_pipeline, named_folder
from portraitanim.progress import ProgressReporter
from portraitanim.training.audio_to_mouth import AudioToMouthTask
from portraitanim.training.autoencoder import AutoencoderTask
from portraitanim.training.engine import TrainingEngine
from portraitanim.training.heard_encoder import HeardEncoder
from portraitanim.training.optimizer import choose_trainable, own_memory
from portraitanim.training.portrait_task import PortraitTask
from portraitanim.training.run_setup import TrainingResult
from portraitanim.training.task import TrainingTask
from portraitanim.training.validation import make_validation

logger = logging.getLogger(__name__)


def train(
    config: AnyTrainingConfig,
    output: str | Path,
    resume: bool = False,
    progress: ProgressReporter | None = None,
    device: str | None = None,
    encoder_folder: Path | None = None,
) -> TrainingResult:
    """Train what ``config`` describes; ``output/weights`` is a pipeline folder, or that of the one component.

    Args:
        config: what and how; its class says whether a system, an autoencoder or an audio projection learns.
        output: folder of the run.
        resume: go on from its newest checkpoint.
        progress: shows the steps.
        device: ``"cpu"`` keeps it from a GPU.
        encoder_folder: weights of the preset's audio encoder; by default ``audio.weights`` of the preset. They become
            a part of the trained weights. An encoder with a name of its own may be left out where the dataset holds
            all that it encodes.

    Raises:
        ConfigError: the recipe does not fit the preset, or the weights that it starts from.
        InputError: the data does not fit the preset, or there is none.
        TrainingError: see `TrainingEngine.run`.
        WeightsError: the audio encoder cannot be read.
    """
    preset, heard = load_preset(config.preset, config.overrides), None
    if isinstance(config, TrainingConfig):
        heard = HeardEncoder.of(preset, encoder_folder)
        preset = preset if heard is None else heard.preset
    settings = {"training": to_dict(config), "preset": to_dict(preset)}
    task: TrainingTask
    validate, every_steps = None, 0
    if isinstance(config, AutoencoderTrainingConfig):
        task = AutoencoderTask(config)
    elif isinstance(config, AudioTrainingConfig):
        task = AudioToMouthTask(config)
    else:
        carried = None if heard is None else Path(output) / AUDIO_ENCODER_FOLDER
        task = make_task(config, preset, None if heard is None else heard.folder, carried)
        if validation := make_validation(task, config.validation):
            validate, every_steps = validation.run, config.validation.every_steps
    engine = TrainingEngine(task, config.engine, Path(output), settings, progress, device, validate, every_steps)
    if heard is not None and engine.accelerator.is_main_process:
        heard.keep(Path(output) / AUDIO_ENCODER_FOLDER)
    return engine.run(resume)


def make_task(
    config: TrainingConfig, preset: Preset, encoder_folder: Path | None = None, carried_encoder: Path | None = None
) -> PortraitTask:
    """The networks, with what shall learn of them, and their samples.

    Args:
        config: the recipe.
        preset: the system.
        encoder_folder: weights of the audio encoder.
        carried_encoder: see `PortraitTask`.
    """
    torch.manual_seed(config.engine.seed)
    pipeline = starting_pipeline(config, preset)
    encoder = partial(load_audio_encoder, preset.audio.encoder, encoder_folder)
    task = PortraitTask(pipeline, preset, config, encoder, carried_encoder)
    learning = choose_trainable(task.network, config.trainable)
    task.mouth_reader = kept_mouth_reader(config, learning)
    logger.info("%d of %d tensors learn.", len(learning), len(list(task.network.parameters())))
    if config.engine.gradient_checkpointing:
        pipeline.denoising_unet.enable_gradient_checkpointing()
        pipeline.reference_unet.enable_gradient_checkpointing()
    return task


def kept_mouth_reader(config: TrainingConfig, learning: Sequence[str]) -> MouthReader | None:
    """The mouth reader of the weights that training goes on from, which fits as long as the audio projection stays."""
    if config.start is None or config.audio_projection is not None:
        return None
    path = named_folder("start", config.start) / MOUTH_READER
    changed = any(name.startswith("audio_projection") for name in learning)
    return MouthReader.load(path) if path.is_file() and not changed else None


def starting_pipeline(config: TrainingConfig, preset: Preset) -> PortraitAnimationPipeline:
    """Fresh weights, or those of ``start``, with the autoencoder of ``autoencoder`` where one is named.

    Raises:
        ConfigError: the weights of ``start`` are of another system or size.
        InputError: there is no such folder.
        DamagedWeightsError: its files cannot be read.
    """
    pipeline = build_pipeline(preset)
    fresh_projection = pipeline.audio_projection
    replaced = {"vae"} if config.audio_projection is None else {"vae", "audio_projection"}
    if config.start is not None:
        fresh = pipeline
        pipeline = load_pipeline(named_folder("start", config.start), torch.float32)
        for name, component in fresh.components.items():
            loaded = pipeline.components[name]
            if isinstance(component, torch.nn.Module) and name not in replaced:
                _require_same_shapes(name, component, loaded, config.start)
        if config.fresh:
            _begin_anew(pipeline.network, fresh.network, config.fresh)
        pipeline.register_to_config(
            sampling=to_dict(preset.sampling), quirks=to_dict(preset.quirks), preset=preset.name
        )
    if config.autoencoder is not None:
        folder = named_folder("autoencoder", config.autoencoder)
        pipeline.register_modules(vae=load_autoencoder(folder, torch.device("cpu")))
    if config.audio_projection is not None:
        projection = load_audio_projection(named_folder("audio_projection", config.audio_projection))
        _require_same_shapes("audio_projection", fresh_projection, projection, config.audio_projection)
        pipeline.register_modules(audio_projection=projection)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            own_memory(component)
    return pipeline


def _begin_anew(network: torch.nn.Module, fresh: torch.nn.Module, patterns: Sequence[str]) -> None:
    """Put the values of ``fresh`` where a pattern names a parameter.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    values = dict(fresh.named_parameters())
    for pattern in patterns:
        names = [name for name in values if fnmatchcase(name, pattern)]
        if not names:
            raise ConfigError(f"fresh: {pattern!r} matches no parameter. Patterns are as those of trainable.")
        with torch.no_grad():
            for name in names:
                network.get_parameter(name).copy_(values[name])


def _require_same_shapes(name: str, fresh: torch.nn.Module, loaded: torch.nn.Module | None, start: str) -> None:
    wanted = {key: value.shape for key, value in fresh.state_dict().items()}
    found = {} if loaded is None else {key: value.shape for key, value in loaded.state_dict().items()}
    if wanted != found:
        differing = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
        raise ConfigError(
            f"{start} does not fit the preset: {name}.{differing[0]} is {found.get(differing[0])}, the preset has "
            f"{wanted.get(differing[0])}. Name the preset that these weights were made with."
        )
