"""Sound with the motion of the mouth that makes it, without pictures: what an audio projection learns lips from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

from portraitanim.errors import InputError
from portraitanim.media.files import whole_file

MOUTH_MEASURES = ("opening", "width", "pout")
"""What is known of the mouth: gap of the inner lips in face widths, relative change of its width, pout in [0, 1]."""

_PATTERN = "speech-*.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeechMotion:
    """One sound and its mouth.

    Attributes:
        states: of the audio encoder, ``(frames, layers, dim)``.
        mouth: ``(frames, 3)``, see `MOUTH_MEASURES`; NaN where a measure is not known.
    """

    states: np.ndarray
    mouth: np.ndarray


def write_speech_motion(clips: Sequence[SpeechMotion], folder: Path, name: str) -> Path:
    """Write clips of one length as ``speech-NAME.safetensors`` (states in float16)."""
    path = folder / _PATTERN.replace("*", name)
    arrays = {
        "states": np.stack([clip.states for clip in clips]).astype(np.float16),
        "mouth": np.stack([clip.mouth for clip in clips]).astype(np.float32),
    }
    with whole_file(path) as partial:
        save_file(arrays, partial)
    return path


class SpeechMotionDataset:
    """The clips of all ``speech-*.safetensors`` of a folder, in an order that the seed and the number alone decide.

    Raises:
        InputError: there is no such file, or their sizes differ.
    """

    def __init__(self, root: str | Path, seed: int = 0) -> None:
        self.root, self.seed = Path(root), seed
        paths = sorted(self.root.glob(_PATTERN)) if self.root.is_dir() else []
        if not paths:
            raise InputError(f"{self.root} holds no {_PATTERN}. Make some with examples/synthesize_speech.py.")
        files = []
        for path in paths:
            with safe_open(path, framework="pt") as file:
                files.append({name: file.get_tensor(name) for name in ("states", "mouth")})
        shapes = {tuple(file["states"].shape[1:]) for file in files}
        if len(shapes) > 1:
            raise InputError(f"The files of {self.root} hold clips of several shapes: {sorted(shapes)}. Keep one.")
        self._states = torch.cat([file["states"] for file in files])
        self._mouth = torch.cat([file["mouth"] for file in files])

    def __len__(self) -> int:
        return len(self._states)

    def sample(self, number: int) -> tuple[Tensor, Tensor]:
        """States ``(frames, layers, dim)`` and mouth ``(frames, 3)``, float32; every clip once before one again."""
        epoch, place = divmod(number, len(self))
        clip = int(np.random.default_rng((self.seed, epoch)).permutation(len(self))[place])
        return self._states[clip].float(), self._mouth[clip]
