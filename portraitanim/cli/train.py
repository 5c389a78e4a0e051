"""``portraitanim train``: from a prepared dataset to weights."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from portraitanim.cli.console import console
from portraitanim.config.presets import parse_assignment
from portraitanim.config.recipes import STAGES, load_recipe
from portraitanim.config.yaml_files import merge
from portraitanim.errors import ConfigError

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
    overrides: dict = {}
    if data is not None:
        own: dict[str, dict] = {"autoencoder": {"pictures": [str(data)]}, "audio": {"speech": str(data)}}
        overrides = own.get(stage.value, {"data": {"root": str(data)}})
    for text in assignments or []:
        overrides = merge(overrides, parse_assignment(text))
    resolved = load_recipe(config, stage.value, overrides)
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"--device is auto or cpu here, got {device!r}. Choose GPUs by CUDA_VISIBLE_DEVICES or accelerate launch."
        )
    chosen = None if device == "auto" else device
    from portraitanim.training.trainer import train as run_training

    result = run_training(resolved, output, resume, console.progress(), chosen)
    if as_json:
        console.json(result.to_dict())
    else:
        console.result(f"{result.weights} after {result.num_steps} steps, loss {result.loss:.4g}")
