"""A mouth that moves by sound, for networks that read landmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from portraitanim.face.mouth_reader import MouthReader, ReadMouth
from portraitanim.pipelines.conditioning import Sound


class SoundMouth:
    """The portrait's face as it says what is heard; see `portraitanim.face.idle_motion.MovesMouth`.

    Args:
        reader: reads the mouth from tokens, as they come from ``projection``.
        projection: the network that makes tokens of windows of sound.
        sound: its windows.
        portrait: landmarks ``(478, 3)`` in pixels.
        strength: a factor on all that the mouth does (``--lip-weight``).
    """

    def __init__(
        self, reader: MouthReader, projection: nn.Module, sound: Sound, portrait: np.ndarray, strength: float = 1.0
    ) -> None:
        self._reader, self._projection, self._sound, self._strength = reader, projection, sound, strength
        self._mouth = ReadMouth(reader, portrait)

    def faces(self, frames: Sequence[int]) -> np.ndarray:
        """Float64 ``(frames, 478, 3)`` in pixels, head at rest."""
        like = next(self._projection.parameters())
        with torch.no_grad():
            tokens = self._projection(self._sound.windows(frames).to(like.device, like.dtype))
        measures = self._reader.measures(tokens[0].flatten(1).float().cpu().numpy())
        return self._mouth.faces(self._strength * measures)
