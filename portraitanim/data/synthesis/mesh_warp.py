"""A still portrait moved by landmarks: the person is warped, the mouth drawn, the background stays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from portraitanim.data.synthesis.mouth_interior import MouthInterior, MouthLook
from portraitanim.data.synthesis.portrait_bank import BankPortrait, background_plate, person_colours
from portraitanim.errors import ShapeError
from portraitanim.face.head_warp import HeadWarp
from portraitanim.face.triangle_map import sample
from portraitanim.types import NUM_LANDMARKS


class PortraitWarper:
    """Renders one portrait in the poses and expressions that landmarks say.

    The person is a layer of its own over the painted-out background: what the head uncovers is background, and the
    background does not move.

    Args:
        portrait: the still.
        look: how the inside of the mouth looks.
    """

    def __init__(self, portrait: BankPortrait, look: MouthLook) -> None:
        pixels = portrait.image.transpose(1, 2, 0).astype(np.float32)
        self._warp = HeadWarp(portrait.points, portrait.size_px)
        colours = person_colours(pixels, portrait.person)
        layer = np.dstack([colours, 255 * portrait.person])
        self._layer = np.rint(np.clip(layer, 0, 255)).astype(np.uint8)
        self._plate = np.clip(background_plate(pixels, portrait.person), 0, 255)
        self._mouth = MouthInterior(portrait.points, look)

    def frame(self, target: np.ndarray) -> np.ndarray:
        """One frame.

        Args:
            target: landmarks ``(478, 3)`` in pixels of the portrait.

        Returns:
            uint8 RGB ``(3, size, size)``.

        Raises:
            ShapeError: other than 478 points of three coordinates.
        """
        if target.shape != (NUM_LANDMARKS, 3):
            raise ShapeError(f"Target landmarks must be ({NUM_LANDMARKS}, 3), got {target.shape}.")
        target = target.astype(np.float64)
        head = self._warp.mesh.head_motion(target)
        layer = sample(self._layer, self._warp.source_map(target, head, target[:, 2])).astype(np.float32)
        colours = layer[..., :3]
        self._mouth.draw(colours, target, head)
        mixed = self._plate + layer[..., 3:] / 255 * (colours - self._plate)
        return np.ascontiguousarray((mixed + 0.5).astype(np.uint8).transpose(2, 0, 1))

    def frames(self, targets: np.ndarray) -> Iterator[np.ndarray]:
        """Frame after frame for landmarks ``(frames, 478, 3)``."""
        for target in targets:
            yield self.frame(target)
