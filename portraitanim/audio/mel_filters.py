"""The mel scale: from the bins of a spectrum to bands as wide as the ear hears them."""

from __future__ import annotations

import math

import torch

_LINEAR_HZ_PER_MEL = 200 / 3
_FIRST_LOG_HZ = 1000.0
_FIRST_LOG_MEL = _FIRST_LOG_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27


def mel_filters(num_mels: int = 80, num_bins: int = 201, sample_rate_hz: int = 16000) -> torch.Tensor:
    """Triangular filters on Slaney's mel scale, each of unit area in hertz.

    The scale is linear up to 1 kHz (3 mel per 200 Hz) and logarithmic above (27 mel for a factor of 6.4), after
    M. Slaney's Auditory Toolbox, 1998. These are the filters that Whisper was trained with.

    Args:
        num_mels: number of bands, from 0 Hz to half the sample rate.
        num_bins: bins of the spectrum, half the FFT length plus one.
        sample_rate_hz: samples per second of the sound.

    Returns:
        float32 ``(num_mels, num_bins)``; multiply a power spectrum ``(num_bins, frames)`` from the left.
    """
    top_hz = sample_rate_hz / 2
    top_mel = _FIRST_LOG_MEL + math.log(top_hz / _FIRST_LOG_HZ) / _LOG_STEP
    edges_hz = _mel_to_hz(torch.linspace(0, top_mel, num_mels + 2, dtype=torch.float64))
    bins_hz = torch.linspace(0, top_hz, num_bins, dtype=torch.float64)

    left, centre, right = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising = (bins_hz - left) / (centre - left)
    falling = (right - bins_hz) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * 2 / (right - left)).to(torch.float32)


def _mel_to_hz(mel: torch.Tensor) -> torch.Tensor:
    linear = mel * _LINEAR_HZ_PER_MEL
    logarithmic = _FIRST_LOG_HZ * torch.exp((mel - _FIRST_LOG_MEL) * _LOG_STEP)
    return torch.where(mel < _FIRST_LOG_MEL, linear, logarithmic)
