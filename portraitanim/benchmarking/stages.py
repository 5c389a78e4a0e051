"""Where the time goes: stages of a real run, timed from outside the networks.

Networks are timed by torch's forward hooks and files by wrapping the methods that read and write them, while the
clock is attached; nothing of a run's arithmetic knows of it. On a CUDA GPU the hooks record events in the stream, which
the host does not wait for, so that the timed run stays the run as it is.
"""

from __future__ import annotations

import functools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from portraitanim.benchmarking.machine import synchronize
from portraitanim.benchmarking.report import ENCODER_THREAD
from portraitanim.media.frame_sinks import ContainerFile
from portraitanim.media.video_writer import VideoWriter
from portraitanim.models.deep_features import DeepFeatures
from portraitanim.pipelines.animation_inputs import InputReader
from portraitanim.pipelines.animator import Animator
from portraitanim.pipelines.clip_folder import ClipFolder
from portraitanim.pipelines.drift_guard import DriftGuard
from portraitanim.pipelines.sampling_run import SamplingRun
from portraitanim.pipelines.sound_stream import SoundStream

Call = tuple[str, tuple[int, ...]]
"""Stage, and shape of what it was given."""


@dataclass
class StageReading:
    """What a clock saw in one run.

    Attributes:
        seconds: stage → time.
        calls: how often each stage was given something of each shape.
        flops: operations of one such call, where a meter was read.
    """

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: Counter[Call] = field(default_factory=Counter)
    flops: dict[Call, int] = field(default_factory=dict)


class StageClock:
    """Times the stages of an animator's runs.

    Args:
        device: where its networks are.
        read_flops: gives the operations so far, while they are counted.
    """

    def __init__(self, device: torch.device, read_flops: Callable[[], int] | None = None) -> None:
        self._device = device
        self._read_flops = read_flops
        self._reading = StageReading()
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def attached(self, animator: Animator) -> Iterator[StageClock]:
        """Listen to an animator."""
        pipeline = animator.parts.pipeline
        small = () if animator.parts.small_decoder is None else (animator.parts.small_decoder.decoder,)
        modules = {
            "reference": (pipeline.reference_unet, pipeline.vae.encoder),
            "denoising": (pipeline.denoising_unet,),
            "decoding": (pipeline.vae.decoder, *small),
        }
        with ExitStack() as stack:
            for stage, listened in modules.items():
                for module in listened:
                    stack.enter_context(self._hooked(module, stage))
            wrap = functools.partial(self._wrapped, stack)
            wrap(InputReader, "__init__", functools.partial(self._host, "face"))
            wrap(InputReader, "read_sound", functools.partial(self._host, "audio"))
            wrap(SoundStream, "frames_until", functools.partial(self._host, "audio"))
            wrap(InputReader, "read_portrait", functools.partial(self._host, "face"))
            wrap(SamplingRun, "clip_context", self._conditioning)
            wrap(DriftGuard, "next_motion", functools.partial(self._host, "drift_guard"))
            wrap(ClipFolder, "save", functools.partial(self._host, "keeping"))
            wrap(VideoWriter, "write", functools.partial(self._plain, "encoding"))
            wrap(VideoWriter, "close", functools.partial(self._plain, "encoding"))
            wrap(ContainerFile, "write", functools.partial(self._plain, ENCODER_THREAD))
            wrap(ContainerFile, "finish", functools.partial(self._plain, ENCODER_THREAD))
            yield self

    def take(self) -> StageReading:
        """What was seen since the last call; waits for the device."""
        synchronize(self._device)
        for stage, start, end in self._events:
            self._reading.seconds[stage] += start.elapsed_time(end) / 1000
        reading, self._reading, self._events = self._reading, StageReading(), []
        return reading

    @contextmanager
    def _hooked(self, module: torch.nn.Module, stage: str) -> Iterator[None]:
        running: list[Any] = []

        def before(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
            del module
            span = self._on_device(stage, _described(args))
            span.__enter__()
            running.append(span)

        def after(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
            del module, args, output
            running.pop().__exit__(None, None, None)

        handles = (module.register_forward_pre_hook(before), module.register_forward_hook(after))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @staticmethod
    def _wrapped(stack: ExitStack, owner: type, name: str, span: Callable[..., Any]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with span(*args, **kwargs):
                return original(*args, **kwargs)

        setattr(owner, name, timed)
        stack.callback(setattr, owner, name, original)

    @contextmanager
    def _on_device(self, stage: str, shape: tuple[int, ...]) -> Iterator[None]:
        """A stage that gives the device work."""
        flops = self._read_flops() if self._read_flops else 0
        if self._device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            stream = torch.cuda.current_stream(self._device)
            start.record(stream)
            yield
            end.record(stream)
            self._events.append((stage, start, end))
        else:
            synchronize(self._device)
            begun = time.perf_counter()
            yield
            synchronize(self._device)
            self._reading.seconds[stage] += time.perf_counter() - begun
        self._reading.calls[stage, shape] += 1
        if self._read_flops:
            self._reading.flops[stage, shape] = self._read_flops() - flops

    def _conditioning(self, run: SamplingRun, frames: Any, *args: Any, **kwargs: Any) -> Any:
        del run, args, kwargs
        return self._on_device("conditioning", (len(frames),))

    @contextmanager
    def _host(self, stage: str, *args: Any, **kwargs: Any) -> Iterator[None]:
        """A stage on the host that waits for the device anyway."""
        del args, kwargs
        synchronize(self._device)
        with self._plain(stage):
            yield

    @contextmanager
    def _plain(self, stage: str, *args: Any, **kwargs: Any) -> Iterator[None]:
        del args, kwargs
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._reading.seconds[stage] += time.perf_counter() - begun


def _described(args: tuple[Any, ...]) -> tuple[int, ...]:
    """Shape of the input; a call that reads deep features of an earlier step is another kind of call."""
    shape = tuple(args[0].shape)
    deep = next((arg for arg in args if isinstance(arg, DeepFeatures)), None)
    reads = deep is not None and deep.of_rows(shape[0] * shape[1]) is not None
    return (*shape, 1) if reads else shape


def scale_flops(counted: dict[Call, int], calls: Counter[Call]) -> tuple[dict[str, float], bool]:
    """Operations of a run, from those of single calls.

    A call whose input has the counted shape but for the number of rows is scaled by the rows, which is exact: all
    networks here treat rows alike. Only for the denoising network, whose rows of guidance cost less, is it an estimate.

    Args:
        counted: operations of one call.
        calls: the run's calls.

    Returns:
        Stage → operations, and whether they are exact.

    Raises:
        KeyError: a stage was never counted.
    """
    flops: dict[str, float] = defaultdict(float)
    is_exact = True
    for (stage, shape), count in calls.items():
        if (stage, shape) in counted:
            flops[stage] += count * counted[stage, shape]
            continue
        known = [(other, value) for (name, other), value in counted.items() if name == stage]
        if not known:
            raise KeyError(f"{stage} was not counted")
        same = [(other, value) for other, value in known if other[1:] == shape[1:]]
        other, value = (same or known)[0]
        is_exact = is_exact and bool(same) and stage != "denoising"
        flops[stage] += count * value * math.prod(shape) / math.prod(other)
    return dict(flops), is_exact
