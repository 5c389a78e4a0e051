"""The mouth that a sound tells, as landmarks: what tokens of sound say of it, and how a face moves with that."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from portraitanim.errors import DamagedWeightsError, ShapeError
from portraitanim.face.expression_transfer import fit_motion_transforms, retarget_shapes
from portraitanim.face.landmark_groups import LIP_PAIRS
from portraitanim.types import NUM_LANDMARKS

MOUTH_READER = "mouth_reader.safetensors"
"""File of a weights folder that holds a `MouthReader`."""

_UPPER_LIP, _LOWER_LIP = np.array(LIP_PAIRS).T
_MIDDLE_PAIRS = [0, 1, 5]

_UNSURE_OPENING = 0.004
"""A reading of silence is not quite nothing, in face widths; openings begin above this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MouthReader:
    """A linear reading of sound's tokens, and the motion of a face's points that goes with it.

    Attributes:
        weight: float32 ``(features, 3)``: opening in face widths, relative change of the width, pout in [0, 1].
        bias: float32 ``(3,)``.
        neutral: float32 ``(478, 3)``: a face at rest, lips closed, one face width wide.
        modes: float32 ``(3, 478, 3)``: how its points move per unit of each of the three.
    """

    weight: np.ndarray
    bias: np.ndarray
    neutral: np.ndarray
    modes: np.ndarray

    def __post_init__(self) -> None:
        wanted = {"bias": (3,), "neutral": (NUM_LANDMARKS, 3), "modes": (3, NUM_LANDMARKS, 3)}
        wanted["weight"] = (len(self.weight), 3)
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(f"{name} of a mouth reader must be {shape}, got {getattr(self, name).shape}.")

    @classmethod
    def load(cls, path: Path) -> MouthReader:
        """Read a file that `save` wrote.

        Raises:
            DamagedWeightsError: it is none.
        """
        try:
            arrays = load_file(path)
            return cls(**{each.name: arrays[each.name].astype(np.float32) for each in fields(cls)})
        except (OSError, SafetensorError, KeyError, ShapeError) as error:
            raise DamagedWeightsError(f"{path} is no mouth reader: {error}. Install these weights anew.") from error

    def save(self, path: Path) -> None:
        """Write the arrays in half precision."""
        save_file(
            {each.name: np.ascontiguousarray(getattr(self, each.name), np.float16) for each in fields(self)}, path
        )

    def measures(self, tokens: np.ndarray) -> np.ndarray:
        """What tokens ``(frames, features)`` say: ``(frames, 3)``, none of them negative but the width.

        Raises:
            ShapeError: another number of features.
        """
        if tokens.shape[-1] != len(self.weight):
            raise ShapeError(f"The mouth is read from {len(self.weight)} features of a frame, got {tokens.shape[-1]}.")
        read = tokens.astype(np.float32) @ self.weight + self.bias
        opening, width, pout = read.T
        return np.stack([np.maximum(opening - _UNSURE_OPENING, 0), width, np.clip(pout, 0, 1)], axis=-1)


class ReadMouth:
    """A portrait's face with the mouth that measures tell.

    Args:
        reader: knows how faces move.
        portrait: landmarks ``(478, 3)`` in pixels; a mouth that is open in the picture is closed first.
    """

    def __init__(self, reader: MouthReader, portrait: np.ndarray) -> None:
        self._reader = reader
        self._rest = with_closed_lips(portrait, reader.neutral, reader.modes[0])
        self._transforms = fit_motion_transforms(reader.neutral, self._rest)

    def faces(self, measures: np.ndarray) -> np.ndarray:
        """Float64 ``(frames, 478, 3)`` in pixels, head at rest, for `MouthReader.measures` ``(frames, 3)``."""
        neutral = self._reader.neutral.astype(np.float64)
        shapes = neutral + np.einsum("tm,mnc->tnc", measures, self._reader.modes)
        keep_apart(shapes, _UPPER_LIP, _LOWER_LIP)
        return retarget_shapes(shapes, self._rest, self._transforms, neutral)


def keep_apart(shapes: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> None:
    """Let points that have passed through each other meet instead, in place; shapes ``(frames, 478, 3)``."""
    overlap = np.maximum(shapes[:, upper, 1] - shapes[:, lower, 1], 0)
    shapes[:, upper, 1] -= overlap / 2
    shapes[:, lower, 1] += overlap / 2


def with_closed_lips(points: np.ndarray, neutral: np.ndarray, opening_mode: np.ndarray) -> np.ndarray:
    """A face ``(478, 3)`` with its lips together and the jaw raised as far as that takes, float64.

    Args:
        points: of the face.
        neutral: a face at rest, ``(478, 3)`` in face widths.
        opening_mode: how the points of that face move as the lips open, ``(478, 3)``.
    """
    rest = points.astype(np.float64)
    linear = fit_motion_transforms(neutral, rest).linear
    return close_lips(rest, np.einsum("nij,nj->ni", linear, opening_mode))


def close_lips(points: np.ndarray, opening_mode: np.ndarray) -> np.ndarray:
    """Undo the opening of a face ``(478, 3)`` along its mode, then let each pair of lip points meet in its middle."""
    upper, lower = _UPPER_LIP[_MIDDLE_PAIRS], _LOWER_LIP[_MIDDLE_PAIRS]
    gap = np.linalg.norm(points[lower] - points[upper], axis=-1).mean()
    per_unit = np.linalg.norm(opening_mode[lower] - opening_mode[upper], axis=-1).mean()
    closed = points - gap / per_unit * opening_mode
    meeting = (closed[_UPPER_LIP] + closed[_LOWER_LIP]) / 2
    closed[_UPPER_LIP] = closed[_LOWER_LIP] = meeting
    return closed
