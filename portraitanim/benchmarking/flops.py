"""Count the arithmetic that torch executes, attention on a CPU included."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def _attention_flops(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    """Two products: queries by keys, weights by values, over shapes ``(batch, heads, tokens, width)``."""
    del args, kwargs
    batch, heads, num_queries, width = query
    num_keys, value_width = key[-2], value[-1]
    return 2 * batch * heads * num_queries * num_keys * (width + value_width)


class FlopMeter:
    """Counts floating-point operations (two per multiply-add) of matrix products, convolutions and attention.

    A context manager; slows torch down while it is open. Element-wise operations are not counted, as everywhere.
    """

    def __init__(self) -> None:
        # torch's own counter knows the attention kernels of GPUs, and takes the one of CPUs for free.
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        self._counter = FlopCounterMode(display=False, custom_mapping={kernel: _attention_flops})

    def __enter__(self) -> FlopMeter:
        self._counter.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._counter.__exit__(*error)

    def read(self) -> int:
        """Operations since the meter was opened."""
        return int(self._counter.get_total_flops())
