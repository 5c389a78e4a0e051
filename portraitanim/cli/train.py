"""``portraitanim train``: from a prepared dataset to weights."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portraitanim.cli.console import console
from portraitanim.config.presets import parse_assignments
from portraitanim.config.recipes import STAGES, load_recipe
from portraitanim.errors import ConfigError

if TYPE_CHECKING:
    from portraitanim.config.training import AnyTrainingConfig, TrainingConfig

Stage = Enum("Stage", {stage: stage for stage in STAGES}, type=str)  # type: ignore[misc]


def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A recipe (tiny, hallo, echomimic) or a YAML file.")],
    stage: Annotated[Stage, typer.Option("--stage", help="Which part of the training.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run: checkpoints, log and weights.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Prepared dataset; for the autoencoder a folder of pictures, for stage audio one of speech.",
            show_default=False,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the config, such as engine.num_steps=100."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --output.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, or cpu to leave a GPU alone.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train weights on prepared clips: stage 1 on single frames, stage 2 on clips, finetune on one person.

    With several GPUs or machines, start it by `accelerate launch -m portraitanim train ...`. The weights appear in
    OUTPUT/weights, where `animate --weights` reads them.
    """
    given: dict[str, Any] = {}
    if data is not None:
        own: dict[str, dict[str, Any]] = {"autoencoder": {"pictures": [str(data)]}, "audio": {"speech": str(data)}}
        given = own.get(stage.value, {"data": {"root": str(data)}})
    resolved = load_recipe(config, stage.value, parse_assignments(assignments or [], given))
    _check_usage(resolved, stage.value)
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"--device is auto or cpu here, got {device!r}. Choose GPUs by CUDA_VISIBLE_DEVICES or accelerate launch."
        )
    chosen = None if device == "auto" else device
    from portraitanim.training.trainer import train as run_training

    resolved, encoder_folder = _with_folders(resolved)
    result = run_training(resolved, output, resume, console.progress(), chosen, encoder_folder)
    if as_json:
        console.json(result.to_dict())
        return
    loss = "no step was left to make" if result.loss is None else f"loss {result.loss:.4g}"
    console.result(f"{result.weights} after {result.num_steps} steps, {loss}")


def _check_usage(config: AnyTrainingConfig, stage: str) -> None:
    from portraitanim.config.training import TrainingConfig

    if not isinstance(config, TrainingConfig):
        return
    if not config.data.root:
        raise ConfigError("No dataset is named. Give --data DATASET, a folder that 'portraitanim prep' made.")
    if stage == "finetune" and config.start is None:
        raise ConfigError(
            "Stage finetune goes on from weights, and none are named. Give --set start=WEIGHTS: a name from "
            "'portraitanim weights list', tiny, or a folder that train wrote."
        )


def _with_folders(config: AnyTrainingConfig) -> tuple[AnyTrainingConfig, Path | None]:
    """The config with folders in the place of names of installed weights, and the folder of the audio encoder."""
    from portraitanim.checkpoints.animators import choose_weights
    from portraitanim.checkpoints.store import installed
    from portraitanim.config.training import TrainingConfig

    if config.start is not None:
        config = replace(config, start=str(choose_weights(config.start).folder))
    if not isinstance(config, TrainingConfig):
        return config, None
    if config.autoencoder is not None:
        config = replace(config, autoencoder=str(choose_weights(config.autoencoder).folder))
    objective = config.objective
    if objective.lpips_weights is None and (lpips := installed("lpips-vgg")):
        config = replace(config, objective=replace(objective, lpips_weights=str(lpips)))
    return config, _encoder_folder(config)


def _encoder_folder(config: TrainingConfig) -> Path | None:
    """Weights of the audio encoder: those that the preset names, else those beside ``start``, else the installed."""
    from portraitanim.checkpoints.store import installed
    from portraitanim.config.audio import AUDIO_ENCODER_FOLDER
    from portraitanim.config.presets import load_preset
    from portraitanim.pipelines.weights_folder import read_preset

    audio = load_preset(config.preset, config.overrides).audio
    if audio.encoder == "log-mel" or audio.weights is not None:
        return None  # there are none, or train finds them itself
    own = None if config.start is None else Path(config.start, AUDIO_ENCODER_FOLDER)
    if own is not None and own.is_dir() and read_preset(own.parent).audio.encoder == audio.encoder:
        return own
    return None if audio.is_family else installed(audio.encoder)
