"""A denoising call as one CUDA graph: the host starts it at once, not kernel by kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from portraitanim.models.deep_features import DeepFeatures
from portraitanim.models.unet_context import UNetContext

logger = logging.getLogger(__name__)

Replay = Callable[[], Tensor]
Record = Callable[[Callable[[], Tensor]], Replay]
"""Takes a call that reads and writes the same memory each time; gives what repeats it."""

_WARM_UPS = 3


@dataclass
class _Recorded:
    """A call of one size.

    Attributes:
        inputs: the memory that it reads.
        sources: the conditions that were copied there last; those of a clip stay the same for all of its steps.
        replay: runs it.
    """

    inputs: list[Tensor]
    sources: list[Tensor]
    replay: Replay


class StepGraphs:
    """A denoising network's ``forward`` that is recorded once per size of its inputs, and then replayed.

    Never run on a GPU so far: only its way with inputs and sizes is tested, on a CPU.

    Calls that read or keep deep features are not recorded, as they depend on earlier ones. Each recording keeps the
    memory of its activations and a copy of the conditions: more than the memory plan knows of. The network must stay
    where it is, so that it cannot be offloaded.

    Args:
        network: a `DenoisingUNet`.
        record: how a call is recorded; by default as a CUDA graph.
    """

    def __init__(self, network: nn.Module, record: Record | None = None) -> None:
        self._forward = network.forward
        self._record = record or record_cuda_graph
        self._recorded: dict[tuple[Any, ...], _Recorded | None] = {}

    def __call__(
        self, sample: Tensor, timestep: Tensor | float, context: UNetContext, deep: DeepFeatures | None = None
    ) -> Tensor:
        """See `DenoisingUNet.forward`."""
        is_fixed = isinstance(timestep, Tensor) and deep is None and context.recorded is None
        if torch.is_grad_enabled() or not is_fixed:
            return self._forward(sample, timestep, context, deep)
        tensors, signature = _read((sample, timestep, context))
        if signature not in self._recorded:
            self._recorded[signature] = self._new(sample, cast("Tensor", timestep), context)
        recorded = self._recorded[signature]
        if recorded is None:
            return self._forward(sample, timestep, context)
        for number, (mine, given) in enumerate(zip(recorded.inputs, tensors, strict=True)):
            # Sample and timestep may have been changed in place; conditions never are.
            if number < 2 or recorded.sources[number] is not given:
                mine.copy_(given)
        recorded.sources = tensors
        return recorded.replay().clone()

    def _new(self, sample: Tensor, timestep: Tensor, context: UNetContext) -> _Recorded | None:
        mine = cast("tuple[Any, ...]", _mapped((sample, timestep, context), _copied))
        inputs, _ = _read(mine)
        try:
            replay = self._record(lambda: self._forward(*mine))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            logger.warning("This step cannot be a CUDA graph and runs without, a little slower: %s", error)
            return None
        return _Recorded(inputs=inputs, sources=[*inputs], replay=replay)


def replay_steps(network: nn.Module) -> None:
    """Have a denoising network on a CUDA GPU replay its calls, see `StepGraphs`."""
    network.forward = StepGraphs(network)


def record_cuda_graph(call: Callable[[], Tensor]) -> Replay:
    """Run a call until it is compiled and has its memory, then record it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Another thread may decode the clip before: what it does is none of this recording.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = call()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


def _read(values: Any) -> tuple[list[Tensor], tuple[Any, ...]]:
    """All tensors, and what two inputs must share to be of one recording."""
    tensors: list[Tensor] = []
    signature: list[Any] = []

    def note(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            tensors.append(leaf)
            signature.append((leaf.shape, leaf.dtype, leaf.device))
        else:
            signature.append(leaf)
        return leaf

    _mapped(values, note)
    return tensors, tuple(signature)


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure of data classes, mappings and sequences with other leaves."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _mapped(getattr(value, field.name), change) for field in fields(value)})
    if isinstance(value, Mapping):
        change(tuple(value))
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        change(len(value))
        return tuple(_mapped(item, change) for item in value)
    return change(value)
