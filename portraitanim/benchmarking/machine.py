"""The machine that was measured: what it is, and the most arithmetic it does."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from portraitanim.runtime import num_cores

_CUDA_SIDE, _CPU_SIDE = 8192, 2048
_PEAK_REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a scenario ran.

    Attributes:
        device: name of the processor or GPU that the networks ran on.
        processor: name of the CPU.
        num_cores: cores that this process may use.
        num_threads: threads that torch used.
        platform: operating system.
        python: version.
        torch: version, with its CUDA where it has one.
        packages: versions of the libraries that the speed depends on, as ``name version``.
        commit: git commit of the source, or empty; ``+`` at its end for uncommitted changes.
        load_average: processes that wanted the CPU in the minute before the first timed run, or ``None``.
    """

    device: str
    processor: str
    num_cores: int
    num_threads: int
    platform: str
    python: str
    torch: str
    packages: tuple[str, ...]
    commit: str
    load_average: float | None


def describe_machine(device: torch.device) -> Machine:
    """The machine as it is now."""
    cuda = f", CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return Machine(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        processor=_processor(),
        num_cores=num_cores(),
        num_threads=torch.get_num_threads(),
        platform=platform.platform(),
        python=platform.python_version(),
        torch=f"{torch.__version__}{cuda}",
        packages=tuple(f"{name} {_version(name)}" for name in ("portraitanim", "diffusers", "transformers", "av")),
        commit=_commit(),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )


def measure_matrix_peak(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """Floating-point operations per second of one large matrix product: the best of five.

    Args:
        device: where.
        dtype: number format.
        side: rows and columns of the factors; by default 8192 on a GPU and 2048 on a CPU.
    """
    side = side or (_CPU_SIDE if device.type == "cpu" else _CUDA_SIDE)
    left = torch.randn(side, side, device=device).to(dtype)
    right = torch.randn(side, side, device=device).to(dtype)
    seconds = []
    for _ in range(_PEAK_REPEATS + 1):
        synchronize(device)
        start = time.perf_counter()
        torch.matmul(left, right)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds[1:])


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "from source"


def _commit() -> str:
    """Commit of a clone; an installed package has none."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    try:
        run = [
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=20).stdout
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return run[0].strip() + ("+" if run[1].strip() else "")
