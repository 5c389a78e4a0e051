"""The upper face of every frame in one place and size, so that what changes in it is not the head's motion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from portraitanim.errors import ShapeError
from portraitanim.evaluation.image_quality import ssim
from portraitanim.evaluation.talking import has_face
from portraitanim.face.warping import warp

SIZE_PX = (96, 160)
"""(height, width) of an aligned upper face: from the forehead to the tip of the nose."""

# Where the corners of the eyes come to lie, in pixels of the result; blinks and speech do not move them.
_CORNERS = (33, 133, 362, 263)
_PLACES = np.array([(40.0, 52.0), (67.0, 52.0), (93.0, 52.0), (120.0, 52.0)])


def align_upper_face(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Bring one frame's upper face to its place.

    Args:
        image: uint8 RGB ``(3, height, width)``.
        landmarks: the frame's points ``(478, 3)`` in pixels.

    Returns:
        uint8 ``(3, 96, 160)``.
    """
    transform = _similarity_in_plane(landmarks[list(_CORNERS), :2].astype(np.float64), _PLACES)
    pixels = warp(np.ascontiguousarray(image.transpose(1, 2, 0)), transform, SIZE_PX)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def align_upper_faces(frames: Iterable[np.ndarray], landmarks: np.ndarray) -> Iterator[np.ndarray | None]:
    """Align frame by frame; ``None`` for a frame without a face.

    Args:
        frames: uint8 ``(3, height, width)`` each.
        landmarks: ``(frames, 478, 3)``, NaN without a face.

    Raises:
        ShapeError: there are fewer or more frames than landmarks.
    """
    seen = has_face(landmarks)
    number = 0
    for number, frame in enumerate(frames, 1):
        if number > len(landmarks):
            raise ShapeError(f"There are landmarks for {len(landmarks)} frames, and more frames than that.")
        yield align_upper_face(frame, landmarks[number - 1]) if seen[number - 1] else None
    if number < len(landmarks):
        raise ShapeError(f"There are landmarks for {len(landmarks)} frames, but {number} frames.")


def upper_face_ssim(
    generated: Iterable[np.ndarray],
    generated_landmarks: np.ndarray,
    true: Iterable[np.ndarray],
    true_landmarks: np.ndarray,
) -> np.ndarray:
    """SSIM of the aligned upper faces, frame by frame: float64 ``(frames,)``, NaN where either has no face.

    It does not see the mouth, and the pose only as far as it changes how the face looks: what is left is whether the
    same skin, eyes and light are there.

    Raises:
        ShapeError: the numbers of frames differ.
    """
    if len(generated_landmarks) != len(true_landmarks):
        raise ShapeError(
            f"Both videos must have one number of frames, got {len(generated_landmarks)} and {len(true_landmarks)}."
        )
    pairs = zip(align_upper_faces(generated, generated_landmarks), align_upper_faces(true, true_landmarks), strict=True)
    return np.array([np.nan if ours is None or theirs is None else ssim(ours, theirs) for ours, theirs in pairs])


def _similarity_in_plane(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares scale, turn and shift ``(2, 3)`` that takes points ``(n, 2)`` to others."""
    centred, aim = source - source.mean(axis=0), target - target.mean(axis=0)
    power = (centred**2).sum()
    cos = (centred * aim).sum() / power
    sin = (centred[:, 0] * aim[:, 1] - centred[:, 1] * aim[:, 0]).sum() / power
    linear = np.array([[cos, -sin], [sin, cos]])
    offset = target.mean(axis=0) - linear @ source.mean(axis=0)
    return np.concatenate([linear, offset[:, None]], axis=1)
