"""Choice of device and number format, and seeding: said once, never guessed again further down."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from portraitanim.errors import InputError

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_RETURNED_FROM_BYTES = 2**20

DTYPE_NAMES = ("auto", "fp32", "fp16", "bf16")


def resolve_device(name: str = "auto") -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` into a device that exists here.

    Raises:
        InputError: the device is unknown, or named but absent; there is no silent fallback.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"Unknown device {name!r}. Use auto, cpu, cuda, cuda:N or mps.") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if count == 0:
            raise InputError(f"Device {name!r} was asked for, but torch sees no CUDA GPU. Use --device cpu.")
        if device.index is not None and device.index >= count:
            raise InputError(f"Device {name!r} was asked for, but there are {count} CUDA GPUs (0 to {count - 1}).")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("Device 'mps' was asked for, but torch cannot use it here. Use --device cpu.")
    elif device.type not in ("cpu", "mps"):
        raise InputError(f"Device {name!r} is not supported. Use auto, cpu, cuda, cuda:N or mps.")
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn ``auto``, ``fp32``, ``fp16`` or ``bf16`` into a torch dtype.

    ``auto`` is bf16 where the device multiplies it natively (recent GPUs, CPUs with AVX512-BF16), fp16 on
    older GPUs and on Apple's, and fp32 otherwise.

    Raises:
        InputError: the name is unknown, or fp16 was asked for on a CPU, where torch has no fast kernels.
    """
    import torch

    if name not in DTYPE_NAMES:
        raise InputError(f"Unknown dtype {name!r}. Use one of {', '.join(DTYPE_NAMES)}.")
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        if device.type == "mps":
            return torch.float16
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise InputError("fp16 is very slow on a CPU. Use --dtype bf16 or --dtype fp32.")
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[name]


def noise_generator(seed: int) -> torch.Generator:
    """A CPU generator: the published systems draw noise on the CPU, so a seed means the same on any device."""
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def num_cores() -> int:
    """How many cores this process may use; of a container or a batch job that can be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def return_freed_memory() -> None:
    """Let this process give large blocks back to the system as soon as they are freed (Linux, glibc).

    By itself, glibc's allocator soon keeps freed blocks of up to 32 MB for later ones, which rarely fit: a process then
    holds a quarter more than its tensors ever did, and each time another amount. Taking fresh pages for each block
    costs time instead, so this is for those who are short of memory. Elsewhere nothing happens.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt") or not hasattr(libc, "gnu_get_libc_version"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _RETURNED_FROM_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, 16 * _RETURNED_FROM_BYTES)
