"""Choose how a video is computed so that it fits into a given memory: the fastest way that does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.memory_size import parse_memory, show_memory
from portraitanim.config.schema import Preset
from portraitanim.config.speeds import is_guided
from portraitanim.errors import OutOfMemoryError
from portraitanim.pipelines.memory_model import HOST_BYTES, MemoryNeed, predict_memory
from portraitanim.runtime import resolve_device, resolve_dtype, return_freed_memory

_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_WINDOW_BATCHES = (4, 2, 1)


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """One way to compute a video.

    Attributes:
        dtype: number format of the networks.
        is_offloaded: whether networks wait in host memory while others work.
        execution: how much is computed at once.
        need: what it takes.
    """

    dtype: torch.dtype
    is_offloaded: bool
    execution: ExecutionConfig
    need: MemoryNeed

    def describe(self) -> str:
        """One line for the person who waits."""
        need, execution = self.need, self.execution
        parts = [dtype_name(self.dtype)]
        parts += ["networks take turns on the device"] if self.is_offloaded else []
        parts += [f"{execution.num_frames_per_decode} frames decoded at once"]
        if execution.num_windows_per_call > 1:
            parts.append(f"{execution.num_windows_per_call} windows at once")
        parts += ["branches of guidance one by one"] if execution.branches_one_by_one else []
        parts += ["decoding beside the next clip"] if execution.work_ahead else []
        return (
            f"{show_memory(need.total_bytes)} of memory expected: networks {show_memory(need.networks_bytes)}, "
            f"work {show_memory(need.working_bytes)}, the rest {show_memory(need.fixed_bytes)}; {', '.join(parts)}."
        )


def dtype_name(dtype: torch.dtype) -> str:
    """As ``--dtype`` calls it."""
    return _NAMES[dtype]


def choose_plan(
    preset: Preset,
    max_vram: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    offload: bool = False,
    execution: ExecutionConfig | None = None,
    num_frames: int | None = None,
) -> tuple[MemoryPlan, list[MemoryPlan]]:
    """The fastest way that fits, and the smaller ones for when it proves too large, in the words of the command line.

    On a CPU, this process gives freed memory back from here on, see `return_freed_memory`.

    Args:
        preset: the system, with the resolved sampling.
        max_vram: see `parse_memory`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``auto`` may become smaller than it is without a limit.
        offload: whether networks wait in host memory in any case.
        execution: how much is computed at once, where that was chosen.
        num_frames: see `plan_memory`.

    Raises:
        ConfigError: not an amount of memory.
        InputError: a device or number format that is not there.
        OutOfMemoryError: nothing fits.
    """
    limit, place = parse_memory(max_vram), resolve_device(device)
    if place.type == "cpu":
        return_freed_memory()
    dtypes = [resolve_dtype(dtype, place)]
    if dtype == "auto" and dtypes[0] == torch.float32:
        dtypes.append(torch.bfloat16)
    first, *others = plan_memory(
        preset,
        limit,
        device_type=place.type,
        dtypes=dtypes,
        may_offload=place.type == "cuda",
        must_offload=offload,
        chosen=execution,
        num_frames=num_frames,
    )
    # A loaded network does not change its number format, and what was finished goes on as it began.
    smaller = [plan for plan in others if plan.dtype == first.dtype and plan.need.total_bytes < first.need.total_bytes]
    return first, smaller


def plan_memory(
    preset: Preset,
    limit_bytes: int,
    *,
    device_type: str,
    dtypes: Sequence[torch.dtype],
    may_offload: bool,
    must_offload: bool = False,
    chosen: ExecutionConfig | None = None,
    num_frames: int | None = None,
) -> tuple[MemoryPlan, ...]:
    """All ways that fit, the fastest first; the later ones take less, for a device that had less than it seemed.

    Args:
        preset: the system, with the resolved sampling.
        limit_bytes: memory of the device; on a CPU, of the process.
        device_type: ``cuda``, ``cpu`` or ``mps``.
        dtypes: number formats that may be taken, the preferred one first.
        may_offload: whether networks can wait elsewhere.
        must_offload: whether they do.
        chosen: how much is computed at once, where the person chose that.
        num_frames: frames of the video, where they are known.

    Raises:
        OutOfMemoryError: nothing fits; the smallest need is named.
    """
    held = _process_bytes() + HOST_BYTES if device_type == "cpu" else 0
    ladder = [chosen] if chosen is not None else list(_ladder(preset, device_type))
    offloads = [True] if must_offload else [False, True] if may_offload else [False]
    plans = []
    for is_offloaded in offloads:
        for dtype in dtypes:
            # Offloading keeps one network on the device: nothing can be made ahead.
            for execution in dict.fromkeys(replace(one, work_ahead=False) if is_offloaded else one for one in ladder):
                need = predict_memory(
                    preset,
                    dtype=dtype,
                    device_type=device_type,
                    execution=execution,
                    is_offloaded=is_offloaded,
                    num_frames=num_frames,
                    process_bytes=held,
                )
                plans.append(MemoryPlan(dtype=dtype, is_offloaded=is_offloaded, execution=execution, need=need))
                if len(plans) > 1 and need.total_bytes >= min(plan.need.total_bytes for plan in plans[:-1]):
                    plans.pop()  # slower and no smaller
    fitting = tuple(plan for plan in plans if plan.need.total_bytes <= limit_bytes)
    if not fitting:
        least = plans[-1]
        raise OutOfMemoryError(
            f"{show_memory(limit_bytes)} are not enough for {preset.name} at {preset.sampling.size_px} px: the least "
            f"is {least.describe()} Raise --max-vram, or choose a smaller --size."
        )
    return fitting


def _ladder(preset: Preset, device_type: str) -> Iterator[ExecutionConfig]:
    """Ways from the fastest to the smallest.

    Nothing is cut that does not lower the need: attention kernels keep no scores, and the denoising network takes more
    than decoding one frame at every size, so that neither slices of attention nor tiles of pictures would help.
    """
    suited = ExecutionConfig.for_device(device_type)
    if preset.sampling.plan == "overlapping" and device_type != "cpu":
        for windows in _WINDOW_BATCHES:
            yield replace(suited, num_windows_per_call=windows)
    else:
        yield suited
    small = replace(suited, work_ahead=False)
    yield small
    yield replace(small, num_frames_per_decode=1)
    if preset.sampling.deep_every_steps == 1 and is_guided(preset):
        yield replace(small, num_frames_per_decode=1, branches_one_by_one=True)


def _process_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)
