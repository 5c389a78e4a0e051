"""What the deep stages of a UNet made, kept for steps that leave them out (DeepCache, arXiv 2312.00858)."""

from __future__ import annotations

from torch import Tensor


class DeepFeatures:
    """Remembers the input of a UNet's last layer from one step to the next.

    From step to step it changes little, and nearly all arithmetic lies before it. A step that reads it again computes
    only the first convolution, the last layer and the output.

    Belongs to one clip or window: it lives as long as its denoising, never on a module.
    """

    def __init__(self) -> None:
        self._kept: Tensor | None = None

    def forget(self) -> None:
        """Let the next call compute everything."""
        self._kept = None

    def keep(self, hidden_states: Tensor) -> None:
        """Take note of what the deep stages made, ``(rows, channels, height, width)``."""
        self._kept = hidden_states

    def of_rows(self, num_rows: int) -> Tensor | None:
        """What is known of the last ``num_rows`` rows: steps without guidance have only those of the full branch."""
        if self._kept is None or len(self._kept) < num_rows:
            return None
        return self._kept[-num_rows:]
