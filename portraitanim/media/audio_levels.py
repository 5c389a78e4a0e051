"""How loud, how clipped and how silent a recording is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from portraitanim.types import AudioTrack

_CLIPPED_LEVEL = 0.999
_FRAME_SECONDS = 0.01
_GATE_SECONDS = 0.4
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0


@dataclass(frozen=True, kw_only=True)
class AudioLevels:
    """What a recording measures.

    Attributes:
        duration_seconds: length.
        peak: largest absolute sample, 1 is full scale.
        rms_dbfs: root mean square over all channels, in dB below full scale; ``-inf`` for silence.
        loudness_lufs: integrated loudness (ITU-R BS.1770-4); ``-inf`` when nothing passes its gate.
        clipped_fraction: share of samples at full scale, 0..1.
        leading_silence_seconds: silence before the first sound.
        trailing_silence_seconds: silence after the last sound.
        silent_fraction: share of 10 ms frames that are silent, 0..1.
    """

    duration_seconds: float
    peak: float
    rms_dbfs: float
    loudness_lufs: float
    clipped_fraction: float
    leading_silence_seconds: float
    trailing_silence_seconds: float
    silent_fraction: float


def measure_levels(track: AudioTrack, silence_dbfs: float = -50.0) -> AudioLevels:
    """Measure a recording.

    Args:
        track: any rate and number of channels.
        silence_dbfs: frames of 10 ms whose RMS lies below this count as silent.
    """
    magnitude = np.abs(track.samples)
    silent = _silent_frames(track, silence_dbfs)
    sounding = np.flatnonzero(~silent)
    duration = track.duration_seconds
    leading = sounding[0] * _FRAME_SECONDS if len(sounding) else duration
    trailing = max(0.0, duration - (sounding[-1] + 1) * _FRAME_SECONDS) if len(sounding) else duration
    return AudioLevels(
        duration_seconds=duration,
        peak=float(magnitude.max(initial=0.0)),
        rms_dbfs=_decibels(float(np.square(track.samples, dtype=np.float64).mean()) if track.samples.size else 0.0),
        loudness_lufs=integrated_loudness(track),
        clipped_fraction=float((magnitude >= _CLIPPED_LEVEL).mean()) if track.samples.size else 0.0,
        leading_silence_seconds=float(leading),
        trailing_silence_seconds=float(trailing),
        silent_fraction=float(silent.mean()) if len(silent) else 1.0,
    )


def integrated_loudness(track: AudioTrack) -> float:
    """Programme loudness in LUFS after ITU-R BS.1770-4: K-weighting, blocks of 0.4 s, two gates.

    All channels weigh 1 (mono and stereo; surround weights are not applied). Recordings below 0.4 s count as
    one block.
    """
    if not track.samples.size:
        return -math.inf
    weighted = track.samples.astype(np.float64)
    for numerator, denominator in _k_weighting(track.sample_rate_hz):
        weighted = lfilter(numerator, denominator, weighted, axis=1)
    size = min(round(_GATE_SECONDS * track.sample_rate_hz), weighted.shape[1])
    step = max(1, size // 4)
    sums = np.concatenate([[0.0], np.cumsum(np.square(weighted).sum(axis=0))])
    starts = np.arange(0, weighted.shape[1] - size + 1, step)
    power = np.maximum((sums[starts + size] - sums[starts]) / size, 0.0)
    power = power[_lufs(power) > _ABSOLUTE_GATE_LUFS]
    if not len(power):
        return -math.inf
    power = power[_lufs(power) > _lufs(power.mean()) + _RELATIVE_GATE_LU]
    return float(_lufs(power.mean()))


def _lufs(power: np.ndarray | float) -> np.ndarray:
    return -0.691 + 10.0 * np.log10(np.maximum(power, 1e-30))


def _k_weighting(rate_hz: int) -> list[tuple[list[float], list[float]]]:
    """The two filters of BS.1770 for any rate: their analogue prototypes by the bilinear transform."""
    # Shelf: centre, gain and quality that reproduce the coefficients printed in the recommendation at 48 kHz.
    k = math.tan(math.pi * 1681.974450955533 / rate_hz)
    quality, gain = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = gain**0.4996667741545416
    a0 = 1 + k / quality + k * k
    shelf = (
        [
            (gain + band * k / quality + k * k) / a0,
            2 * (k * k - gain) / a0,
            (gain - band * k / quality + k * k) / a0,
        ],
        [1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0],
    )
    k = math.tan(math.pi * 38.13547087602444 / rate_hz)
    quality = 0.5003270373238773
    a0 = 1 + k / quality + k * k
    high_pass = ([1.0, -2.0, 1.0], [1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0])
    return [shelf, high_pass]


def _silent_frames(track: AudioTrack, silence_dbfs: float) -> np.ndarray:
    """One flag per 10 ms; the last frame may be shorter."""
    size = max(1, round(_FRAME_SECONDS * track.sample_rate_hz))
    power = np.square(track.samples, dtype=np.float64).mean(axis=0) if track.samples.size else np.zeros(0)
    starts = np.arange(0, len(power), size)
    if not len(starts):
        return np.zeros(0, bool)
    lengths = np.minimum(size, len(power) - starts)
    return np.add.reduceat(power, starts) / lengths < 10 ** (silence_dbfs / 10)


def _decibels(power: float) -> float:
    return 10.0 * math.log10(power) if power > 0 else -math.inf
