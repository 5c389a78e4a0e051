"""Results with made-up numbers, for tests of what is done with numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from portraitanim.benchmarking.measures import Measure
from portraitanim.benchmarking.report import ScenarioResult
from portraitanim.benchmarking.scenarios import Scenario


def made_up_result(total: tuple[float, ...] = (2.0, 2.2, 2.1), **changes: Any) -> ScenarioResult:
    """Twenty frames at 10 frames per second; half of the time is denoising, a quarter decoding."""
    result = ScenarioResult(
        scenario=Scenario(preset="tiny", size_px=64, num_frames=20, num_steps=4, dtype="fp32", device="cpu"),
        weights="random",
        machine={"device": "A", "num_cores": 2, "num_threads": 1, "torch": "2", "python": "3", "platform": "L"}
        | {"load_average": 0.5},
        fps=10.0,
        num_frames=20,
        total_seconds=Measure(total),
        cpu_seconds=Measure(total),
        first_frame_seconds=Measure((0.5, 0.6, 0.7)),
        steady_fps=None,
        stage_seconds={
            "denoising": Measure(tuple(value / 2 for value in total)),
            "decoding": Measure(tuple(value / 4 for value in total)),
        },
        encoder_thread_seconds=Measure((0.1,)),
        peak_host_bytes=Measure((1e9, 1e9, 1e9)),
        peak_device_bytes=None,
        peak_reserved_bytes=None,
        load_seconds=1.0,
        start_to_first_frame_seconds=3.0,
        stage_flops={"denoising": 4.2e9, "decoding": 2.1e9},
        flops_are_exact=True,
        peak_flops_per_second=8e9,
    )
    return replace(result, **changes)
