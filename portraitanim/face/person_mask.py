"""Which pixels of a picture belong to the person in front, from MediaPipe's selfie segmentation."""

from __future__ import annotations

from types import TracebackType

import cv2
import numpy as np

from portraitanim.errors import ShapeError
from portraitanim.face.mesh_graph import native_messages_to_log, wheel_model

_GUIDE_RADIUS_SHARE, _GUIDE_EPSILON = 0.02, 1e-3
"""Reach of the edge-aware smoothing in sides of the picture, and the contrast that counts as an edge."""


class PersonMask:
    """Runs the segmentation model of the mediapipe wheel. Use it as a context manager, or `close` it."""

    def __init__(self) -> None:
        from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

        wheel_model("selfie_segmentation", "selfie_segmentation.tflite")
        with native_messages_to_log():
            self._model = SelfieSegmentation(model_selection=0)

    def __enter__(self) -> PersonMask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def find(self, image: np.ndarray) -> np.ndarray:
        """Coverage by the person.

        Args:
            image: uint8 RGB ``(3, height, width)``, one person in front.

        Returns:
            float32 ``(height, width)`` in [0, 1]; its border follows the edges of the picture (guided filter,
            He et al. 2010).

        Raises:
            ShapeError: the image has another shape or type.
        """
        if image.ndim != 3 or image.shape[0] != 3 or image.dtype != np.uint8:
            raise ShapeError(f"A picture must be uint8 (3, height, width), got {image.dtype} {image.shape}.")
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        self._model.reset()  # the model smooths over a video's frames; pictures have nothing to do with each other
        coverage = np.asarray(self._model.process(pixels).segmentation_mask, np.float32)
        radius = max(1, round(_GUIDE_RADIUS_SHARE * min(pixels.shape[:2])))
        refined = cv2.ximgproc.guidedFilter(pixels.astype(np.float32) / 255, coverage, radius, _GUIDE_EPSILON)
        return np.clip(refined, 0.0, 1.0)
