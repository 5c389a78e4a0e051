"""What the two transformer encoders share: they are never trained, and the states of all depths are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from typing_extensions import Self


# The transformers classes it is mixed into are untyped; as nn.Module it would make the type checker doubt each of
# their attributes.
_Base: Any = nn.Module


class FrozenEncoder(_Base):
    """Base of encoders that no system of this family trains.

    Stays in evaluation mode, whatever `train` is asked: dropout on frozen features would only add noise, and a
    trainer that puts all its networks into training mode must not change what the sound is encoded to.
    """

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        del mode
        return super().train(False)

    def _freeze(self) -> None:
        self.train(False)
        self.requires_grad_(False)


def layer_outputs(layers: Iterable[Any], hidden: torch.Tensor) -> list[torch.Tensor]:
    """Run transformer layers one after another without a mask and keep what each gives.

    transformers can collect hidden states itself, but it counts and norms the last one differently from release to
    release; reading them at the layers is the same in all of them.

    Args:
        layers: layers of a transformers model.
        hidden: ``(batch, steps, width)``, input of the first.

    Returns:
        One ``(batch, steps, width)`` per layer.
    """
    outputs = []
    for layer in layers:
        output = layer(hidden, attention_mask=None)
        # transformers 5.0 returns (hidden, attention weights) from a layer, later releases the hidden states alone.
        hidden = output[0] if isinstance(output, tuple) else output
        outputs.append(hidden)
    return outputs
