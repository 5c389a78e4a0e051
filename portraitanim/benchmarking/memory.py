"""The most memory a piece of work holds: of the process by sampling, of the GPU by torch's own account."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil
import torch

_SAMPLE_SECONDS = 0.02


class MemoryPeak:
    """Watches memory while it is open. A context manager.

    Attributes:
        host_bytes: largest resident size of this process, sampled fifty times a second.
        device_bytes: most memory that tensors held on a CUDA GPU, or ``None`` elsewhere.
        reserved_bytes: most memory that torch took from that GPU.

    Args:
        device: where the networks are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.host_bytes = 0
        self.device_bytes: int | None = None
        self.reserved_bytes: int | None = None

    def __enter__(self) -> MemoryPeak:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._sample()
        self._thread = threading.Thread(target=self._watch, name="memory-peak", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._sample()
        if self._device.type == "cuda":
            self.device_bytes = torch.cuda.max_memory_allocated(self._device)
            self.reserved_bytes = torch.cuda.max_memory_reserved(self._device)

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        self.host_bytes = max(self.host_bytes, self._process.memory_info().rss)
