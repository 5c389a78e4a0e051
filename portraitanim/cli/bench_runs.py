"""What ``portraitanim bench`` does beside timing: load a scenario's networks, and compare the videos of several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitanim.cli.bench_tables import show_quality
from portraitanim.cli.console import console
from portraitanim.errors import InputError, MissingWeightsError

if TYPE_CHECKING:
    from portraitanim.benchmarking.quality import QualityMeters
    from portraitanim.benchmarking.scenarios import Scenario
    from portraitanim.pipelines.animator import Animator


def write_report(values: object, output: Path | None) -> None:
    """Write what was measured as JSON, where a file is named."""
    from portraitanim.media.files import whole_file

    if output is None:
        return
    with whole_file(output) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    console.note(f"Report: {output}")


def open_scenario(scenario: Scenario) -> Animator:
    """Load what a scenario names, or make random networks of the same size."""
    from portraitanim.benchmarking.random_weights import random_animator
    from portraitanim.benchmarking.scenarios import AUTO_WEIGHTS, RANDOM_WEIGHTS
    from portraitanim.checkpoints.animators import WeightsChoice, choose_weights, lay_out, load_animator
    from portraitanim.checkpoints.store import installed
    from portraitanim.runtime import resolve_device, resolve_dtype

    choice: WeightsChoice | None = None
    variant, device = scenario.execution, resolve_device(scenario.device)
    if scenario.weights == AUTO_WEIGHTS:
        try:
            choice = choose_weights(scenario.preset, speed=scenario.speed)
        except (MissingWeightsError, InputError):
            console.note(f"The weights {scenario.preset} are not installed: random ones of the same size are measured.")
    elif scenario.weights != RANDOM_WEIGHTS:
        choice = choose_weights(scenario.weights)
    if choice is not None:
        preset = None if scenario.weights == AUTO_WEIGHTS else scenario.preset
        return load_animator(
            choice,
            preset=preset,
            device=scenario.device,
            dtype=scenario.dtype,
            execution=variant.execution(device.type),
            channels_last=variant.channels_last,
            fused=variant.fused,
            compiled=variant.compiled,
            cache=False,  # each run pays for all that it does
        )
    animator = random_animator(
        scenario.network_preset(),
        device,
        resolve_dtype(scenario.dtype, device),
        landmarker=installed("face-landmarker"),
        identity_encoder=_identity_encoder(str(device)),
        execution=variant.execution(device.type),
    )
    lay_out(
        animator.parts.pipeline,
        device.type,
        channels_last=variant.channels_last,
        fused=variant.fused,
        compiled=variant.compiled,
    )
    return animator


def _identity_encoder(device: str) -> Any | None:
    from portraitanim.checkpoints.store import installed
    from portraitanim.face.identity import PACK_NAME, IdentityEncoder

    folder = installed(PACK_NAME)
    return None if folder is None else IdentityEncoder.load(folder, device=device)


def compare_quality(
    scenarios: Sequence[Scenario], files: tuple[Path, Path], output: Path | None, as_json: bool
) -> None:
    """Make a video of each scenario on the same seed, and show how much they differ from the first.

    Raises:
        InputError: there is nothing to compare with.
    """
    from portraitanim.benchmarking.quality import measure_quality

    with console.progress().task("Comparing", len(scenarios)) as task:
        report = measure_quality(scenarios, open_scenario, *files, _meters(), task)
    write_report(report.to_dict(), output)
    if as_json:
        console.json(report.to_dict())
        return
    show_quality(report)


def _meters() -> QualityMeters:
    """What measures; LPIPS where its weights are installed, else it is left out by name."""
    from portraitanim.benchmarking.quality import QualityMeters
    from portraitanim.checkpoints.store import installed
    from portraitanim.evaluation.image_quality import psnr, ssim
    from portraitanim.evaluation.judges import Judges
    from portraitanim.evaluation.protocol import EvaluationProtocol

    folder = installed("lpips-alex")
    if folder is None:
        console.note("LPIPS is left out: run portraitanim weights pull lpips-alex to have it.")
        return QualityMeters(psnr=psnr, ssim=ssim)
    return QualityMeters(psnr=psnr, ssim=ssim, lpips=Judges(EvaluationProtocol(), {"lpips-alex": folder}).lpips)
