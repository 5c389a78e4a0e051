"""Where each pixel of a portrait comes from when its landmarks move: head, skin, lids and eyeballs."""

from __future__ import annotations

import numpy as np

from portraitanim.face.eye_layer import EyeLayer
from portraitanim.face.head_mesh import LEFT_EYE_RING, RIGHT_EYE_RING, HeadMesh
from portraitanim.face.landmark_groups import LEFT_IRIS, NUM_MESH_POINTS, RIGHT_IRIS
from portraitanim.face.triangle_map import triangle_map


class HeadWarp:
    """The mesh of one portrait, with its eyes.

    Args:
        landmarks: ``(478, 3)`` of the portrait, in its pixels.
        size_px: side of the portrait.
    """

    def __init__(self, landmarks: np.ndarray, size_px: int) -> None:
        self.mesh = HeadMesh(landmarks, size_px)
        self._size_px = size_px
        self._eyes = (
            EyeLayer(landmarks, RIGHT_EYE_RING, RIGHT_IRIS),
            EyeLayer(landmarks, LEFT_EYE_RING, LEFT_IRIS),
        )

    def source_map(self, target: np.ndarray, head: np.ndarray, depths: np.ndarray) -> np.ndarray:
        """For each pixel of a frame its place in the portrait, see `triangle_map.triangle_map`.

        Args:
            target: landmarks ``(478, 2 or 3)`` of the frame, in pixels of the portrait.
            head: affine ``(2, 4)`` of the skull, portrait (x, y, z, 1) to frame.
            depths: z of the landmarks ``(478,)``, by which nearer skin covers what lies behind it.

        Returns:
            float32 ``(size, size, 2)``.
        """
        order = self.mesh.painting_order(depths[:NUM_MESH_POINTS])
        source_map = triangle_map(self.mesh.source, self.mesh.move(target, head), order, self._size_px)
        for eye in self._eyes:
            eye.open(source_map, target, head)
        return source_map
