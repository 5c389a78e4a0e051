"""Mel-frequency cepstra as SyncNet reads them: those of the package python_speech_features, at its defaults.

They are not the cepstra of speech recognizers: samples keep the scale of 16-bit integers, the window is rectangular,
and the first coefficient is the frame's log energy (reference/metrics.md, section 6).
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dct

from portraitanim.errors import ShapeError

SAMPLE_RATE_HZ = 16000
NUM_COEFFICIENTS = 13
STEP_SAMPLES = 160
_WINDOW_SAMPLES = 400
_FFT_SIZE = 512
_NUM_FILTERS = 26
_PREEMPHASIS = 0.97
_LIFTER = 22


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Cepstra of a sound, one row per 10 ms.

    Args:
        samples: int16 ``(samples,)`` at 16 kHz, mono.

    Returns:
        float64 ``(steps, 13)``.

    Raises:
        ShapeError: not 16-bit mono samples, or none.
    """
    if samples.dtype != np.int16 or samples.ndim != 1 or not len(samples):
        raise ShapeError(f"MFCCs need int16 samples of one channel, got {samples.dtype} {samples.shape}.")
    signal = samples.astype(np.float64)
    signal = np.concatenate([signal[:1], signal[1:] - _PREEMPHASIS * signal[:-1]])
    power = np.abs(np.fft.rfft(_frames(signal), _FFT_SIZE)) ** 2 / _FFT_SIZE
    energy = _above_zero(power.sum(axis=1))
    mel = np.log(_above_zero(power @ _filters().T))
    cepstra = dct(mel, type=2, axis=1, norm="ortho")[:, :NUM_COEFFICIENTS]
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(NUM_COEFFICIENTS) / _LIFTER)
    cepstra[:, 0] = np.log(energy)
    return np.asarray(cepstra)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as 16-bit integers, those beyond it at the limit."""
    return np.clip(np.rint(samples.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


def _frames(signal: np.ndarray) -> np.ndarray:
    """Overlapping windows ``(steps, 400)``; the last is filled with zeros."""
    num_steps = 1 + max(0, -(-(len(signal) - _WINDOW_SAMPLES) // STEP_SAMPLES))
    padded = np.zeros((num_steps - 1) * STEP_SAMPLES + _WINDOW_SAMPLES)
    padded[: len(signal)] = signal
    return np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::STEP_SAMPLES]


def _filters() -> np.ndarray:
    """Triangles ``(26, 257)`` between FFT bins that are evenly spaced in mel (HTK), up to 8 kHz."""
    top_mel = 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    hz = 700 * (10 ** (np.linspace(0, top_mel, _NUM_FILTERS + 2) / 2595) - 1)
    edges = np.floor((_FFT_SIZE + 1) * hz / SAMPLE_RATE_HZ)
    bins = np.arange(_FFT_SIZE // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - low) / (middle - low)
    falling = (high - bins) / (high - middle)
    return np.clip(np.where(bins < middle, rising, falling), 0, None) * ((bins >= low) & (bins < high))


def _above_zero(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0, np.finfo(float).eps, values)
