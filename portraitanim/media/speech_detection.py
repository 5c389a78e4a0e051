"""Where somebody speaks: the Silero VAD network that the silero-vad package carries, run on a stream of sound."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from portraitanim.errors import ShapeError
from portraitanim.onnx_session import open_session

SPEECH_RATE_HZ = 16_000
"""Samples per second that the network reads."""

WINDOW_SAMPLES = 512
"""The network gives one probability per 32 ms."""

_CONTEXT_SAMPLES = 64
_NETWORK = "silero_vad_16k_sequence.onnx"
_INSTALL = "pip install --force-reinstall 'silero-vad>=6.2.3'"


class SpeechDetector:
    """Tells for every 32 ms of sound how likely somebody speaks or sings in it.

    About a second of computing for ten minutes of sound; torch and the package's own code are not imported.

    Raises:
        MissingWeightsError: the silero-vad package is not installed or has no such network.
        DamagedWeightsError: the network cannot be read.
    """

    def __init__(self) -> None:
        # Found, not imported: the package would bring torch along, of which the network needs nothing.
        package = importlib.util.find_spec("silero_vad")
        folder = Path(package.origin).parent if package and package.origin else Path("silero_vad")
        self._session = open_session(folder / "data" / _NETWORK, install=_INSTALL, num_threads=1)

    def stream(self) -> SpeechStream:
        """Start on a new sound."""
        return SpeechStream(self._session)

    def probabilities(self, samples: np.ndarray) -> np.ndarray:
        """Probabilities of a whole sound, float32 ``(samples // 512,)``; see `SpeechStream.add`."""
        return self.stream().add(samples)


class SpeechStream:
    """One sound on its way through the network; made by `SpeechDetector.stream`."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._waiting = np.zeros(0, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._hidden = np.zeros((1, 1, 128), np.float32)
        self._cell = np.zeros((1, 1, 128), np.float32)

    def add(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples; where the sound is cut does not change the result.

        Args:
            samples: float32 ``(samples,)`` at 16 kHz.

        Returns:
            Probabilities in [0, 1] of the windows of 512 samples that are complete now, float32 ``(windows,)``.

        Raises:
            ShapeError: not one channel of float32.
        """
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ShapeError(f"Speech is looked for in float32 (samples,), got {samples.dtype} {samples.shape}.")
        joined = np.concatenate([self._waiting, samples])
        num_windows = len(joined) // WINDOW_SAMPLES
        self._waiting = joined[num_windows * WINDOW_SAMPLES :]
        if not num_windows:
            return np.zeros(0, np.float32)
        windows = joined[: num_windows * WINDOW_SAMPLES].reshape(num_windows, WINDOW_SAMPLES)
        ends = windows[:, -_CONTEXT_SAMPLES:]
        contexts = np.concatenate([self._context[None], ends[:-1]])
        self._context = ends[-1]
        inputs = {"input": np.concatenate([contexts, windows], axis=1), "h": self._hidden, "c": self._cell}
        found, self._hidden, self._cell = self._session.run(["speech_probs", "hn", "cn"], inputs)
        return np.asarray(found, np.float32)
