"""Measure what the networks take, beside what was predicted (``bench --memory``)."""

from __future__ import annotations

import sys
from dataclasses import replace

import psutil
import torch

from portraitanim.benchmarking.memory import MemoryPeak
from portraitanim.benchmarking.memory_result import MemoryCheck
from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.config.execution import ExecutionConfig
from portraitanim.diffusion.schedule import make_scheduler
from portraitanim.pipelines.animation_plan import plan_animation
from portraitanim.pipelines.animation_result import peak_host_bytes
from portraitanim.pipelines.build import build_pipeline
from portraitanim.pipelines.memory_model import predict_memory, sample_conditions, traced_sampling
from portraitanim.pipelines.memory_plan import dtype_name
from portraitanim.pipelines.network_layout import lay_channels_last
from portraitanim.runtime import noise_generator, resolve_device, resolve_dtype, return_freed_memory


def check_memory(scenario: Scenario) -> MemoryCheck:
    """Predict, then make the networks with random weights and the clips that the prediction followed.

    Meant for a process of its own: what an earlier scenario left would be counted.

    Args:
        scenario: its frames and repeats have no influence, and of its variant only the batches have.
    """
    own = scenario.network_preset()
    preset = plan_animation(scenario.animation_options(own.sampling.fps), own, has_audio=True, has_driving=False).preset
    device = resolve_device(scenario.device)
    dtype = resolve_dtype(scenario.dtype, device)
    if device.type == "cpu":
        return_freed_memory()  # as where a limit is given
    execution = scenario.execution.execution(device.type) or ExecutionConfig.for_device(device.type)
    chosen = replace(execution, work_ahead=False)
    need = predict_memory(preset, dtype=dtype, device_type=device.type, execution=chosen)
    parameters = sum(size for name, size in need.parameter_bytes.items() if name != "audio_encoder")
    fixed = need.fixed_bytes if device.type == "cpu" else 0
    held = psutil.Process().memory_info().rss
    with MemoryPeak(device) as peak:
        torch.manual_seed(0)
        pipe = build_pipeline(preset, device, dtype)
        if device.type == "cpu":
            lay_channels_last(pipe.vae, pipe.condition_encoder)
        pipe.scheduler = make_scheduler(preset.scheduler)
        pipe.set_progress_bar_config(disable=True)
        sampling, num_frames = traced_sampling(preset)
        given = sample_conditions(preset, num_frames, str(device), dtype)
        for _ in pipe.stream(given, generator=noise_generator(0), execution=chosen, **sampling):
            pass
    highest = peak_host_bytes() if sys.platform == "linux" else 0  # exact, where the peak lies here and not before
    measured = peak.device_bytes if peak.device_bytes is not None else max(peak.host_bytes, highest) - held
    return MemoryCheck(
        scenario=replace(
            scenario,
            size_px=preset.sampling.size_px,
            num_steps=sampling["num_inference_steps"],
            num_frames=num_frames,
            dtype=dtype_name(dtype),
            device=str(device),
        ),
        predicted_bytes=parameters + need.working_bytes + fixed,
        measured_bytes=measured,
        parameter_bytes=parameters,
    )
