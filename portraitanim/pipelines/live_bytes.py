"""Count the bytes that are alive while networks are called on the meta device, where tensors have no contents."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from portraitanim.models.attention_processors import attend_by_products, has_few_scores

_AUTOENCODERS = ("vae", "small_decoder")


class LiveBytes(TorchDispatchMode):
    """Sums the bytes of the tensors that are alive, while networks are called on the meta device.

    Args:
        known: tensors that do not count, such as parameters.
        on_cpu: whether oneDNN works: its convolutions copy, and it keeps the code of each size of operation.

    Attributes:
        peaks: the most at any time while a network was working, by its name; "" is none of them.
    """

    def __init__(self, known: list[Tensor], *, on_cpu: bool = False) -> None:
        super().__init__()
        self.peaks: dict[str, int] = defaultdict(int, {"": 0})
        self._on_cpu = on_cpu
        self._kernels: dict[Any, int] = {}
        self._seen: Any = WeakIdKeyDictionary()
        for tensor in known:
            self._seen[tensor.untyped_storage()] = True
        self._bytes = 0
        self._working = [""]

    @contextmanager
    def watching(self, networks: Mapping[str, nn.Module]) -> Iterator[None]:
        """Say which network works, while the block runs."""
        with ExitStack() as stack:
            for name, network in networks.items():
                vae: Any = network
                # The autoencoder is called by its halves.
                for part in (vae.encoder, vae.decoder) if name in _AUTOENCODERS else (network,):
                    stack.callback(part.register_forward_pre_hook(partial(self._enter, name)).remove)
                    stack.callback(part.register_forward_hook(self._leave).remove)
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and take note of what it made."""
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.device.type == "meta":
                self._add(made)
        extra = _copied_bytes(args[0], args[1], result) if self._on_cpu and func is _CONVOLUTION else 0
        if self._on_cpu and (code := _code_bytes(func, result)):
            sizes = tuple(tuple(x.shape) if isinstance(x, Tensor) else str(x) for x in args)
            self._kernels[func, sizes] = code
        name = self._working[-1]
        self.peaks[name] = max(self.peaks[name], self._bytes + extra)
        return result

    @property
    def kernel_bytes(self) -> int:
        """Code that oneDNN made and keeps."""
        return sum(sorted(self._kernels.values())[-_MAX_KERNELS:])

    def _enter(self, name: str, *_: Any) -> None:
        self._working.append(name)

    def _leave(self, *_: Any) -> None:
        self._working.pop()

    def _add(self, made: Tensor) -> None:
        storage = made.untyped_storage()
        if storage in self._seen:
            return
        size = storage.nbytes()
        self._seen[storage] = True
        self._bytes += size
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self._bytes -= size


_CONVOLUTION = torch.ops.aten.convolution.default
_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)
_MAX_KERNELS = 1024  # oneDNN forgets the oldest


def _code_bytes(func: Any, result: Any) -> int:
    """What oneDNN keeps for an operation of one size, measured on one CPU (AVX-512, torch 2.13)."""
    if func is _CONVOLUTION:
        return 100_000
    # Products in float32 are made by another library.
    return 600_000 if func in _PRODUCTS and result.dtype is torch.bfloat16 else 0


def _copied_bytes(given: Tensor, weight: Tensor, result: Tensor) -> int:
    """What a convolution on a CPU copies: its weights, and what does not lie as it works.

    That is input and output, or where it works channels-last, an input that is not.
    """
    if weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous():
        return weight.nbytes + (0 if given.is_contiguous(memory_format=torch.channels_last) else given.nbytes)
    return weight.nbytes + given.nbytes + result.nbytes


class TracedAttention(TorchFunctionMode):
    """Attention as fused kernels do it: no scores are kept.

    Args:
        by_products: whether small ones are made by plain products, as `attend` does in bfloat16 on a CPU.
    """

    def __init__(self, *, by_products: bool) -> None:
        super().__init__()
        self._by_products = by_products

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            if self._by_products and has_few_scores(query, key):
                return attend_by_products(query, key, value)
            batch, heads, length, _ = query.shape
            return query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        return func(*args, **(kwargs or {}))
