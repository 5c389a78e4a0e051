"""How loud, how clipped and how silent a recording is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import sosfilt

from portraitanim.types import AudioTrack

_CLIPPED_LEVEL = 0.999
_FRAME_SECONDS = 0.01
_SILENCE_DBFS = -50.0  # frames whose RMS lies below this count as silent
_GATE_SECONDS = 0.4
_STEPS_PER_GATE = 4
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0


@dataclass(frozen=True, kw_only=True)
class AudioLevels:
    """What a recording measures.

    Attributes:
        duration_seconds: length.
        peak: largest absolute sample, 1 is full scale.
        rms_dbfs: root mean square over all channels, in dB below full scale; ``-inf`` for silence.
        loudness_lufs: integrated loudness (ITU-R BS.1770-4, every channel weighs 1, below 0.4 s all is one block);
            ``-inf`` when nothing passes its gate.
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


class LevelMeter:
    """Measures a recording that comes in pieces; where it is cut does not change the result.

    Keeps ten numbers per second of sound.

    Args:
        sample_rate_hz: of the sound.
        num_channels: of the sound.
    """

    def __init__(self, sample_rate_hz: int, num_channels: int) -> None:
        self._rate_hz = sample_rate_hz
        self._num_channels = num_channels
        self._silence_power = 10 ** (_SILENCE_DBFS / 10)
        self._num_samples = self._num_clipped = 0
        self._peak = self._energy = 0.0
        self._filters = np.array([[*above, *below] for above, below in _k_weighting(sample_rate_hz)])
        self._filter_state = np.zeros((len(self._filters), num_channels, 2))
        self._weighted = _Sums(max(1, round(_GATE_SECONDS * sample_rate_hz) // _STEPS_PER_GATE))
        self._steps: list[np.ndarray] = []
        self._frames = _Sums(max(1, round(_FRAME_SECONDS * sample_rate_hz)))
        self._num_frames = self._num_silent = 0
        self._first_sounding = self._last_sounding = -1

    def add(self, samples: np.ndarray) -> None:
        """Take the next float32 ``(num_channels, samples)``."""
        peak = max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))
        self._peak = max(self._peak, peak)
        if peak >= _CLIPPED_LEVEL:
            self._num_clipped += int((np.abs(samples) >= _CLIPPED_LEVEL).sum())
        self._num_samples += samples.shape[1]
        exact = samples.astype(np.float64)
        power = np.einsum("cs,cs->s", exact, exact)
        self._energy += float(power.sum())
        self._count_frames(self._frames.add(power) / self._frames.size)
        if samples.shape[1]:
            weighted, self._filter_state = sosfilt(self._filters, exact, axis=1, zi=self._filter_state)
            self._steps.append(self._weighted.add(np.einsum("cs,cs->s", weighted, weighted)))

    def result(self) -> AudioLevels:
        """The measures of all that came so far; call once, at the end."""
        rest = self._frames.rest
        if len(rest):  # the last frame may be shorter
            self._count_frames(rest.mean(keepdims=True))
        duration = self._num_samples / self._rate_hz
        sounding = self._first_sounding >= 0
        num_values = max(1, self._num_samples * self._num_channels)
        return AudioLevels(
            duration_seconds=duration,
            peak=self._peak,
            rms_dbfs=_decibels(self._energy / num_values),
            loudness_lufs=self._loudness(),
            clipped_fraction=self._num_clipped / num_values,
            leading_silence_seconds=self._first_sounding * _FRAME_SECONDS if sounding else duration,
            trailing_silence_seconds=max(0.0, duration - (self._last_sounding + 1) * _FRAME_SECONDS)
            if sounding
            else duration,
            silent_fraction=self._num_silent / self._num_frames if self._num_frames else 1.0,
        )

    def _count_frames(self, power: np.ndarray) -> None:
        """Count frames by their power, summed over the channels."""
        silent = power < self._silence_power * self._num_channels
        loud = np.flatnonzero(~silent)
        if len(loud):
            if self._first_sounding < 0:
                self._first_sounding = self._num_frames + int(loud[0])
            self._last_sounding = self._num_frames + int(loud[-1])
        self._num_frames += len(silent)
        self._num_silent += int(silent.sum())

    def _loudness(self) -> float:
        if not self._num_samples:
            return -math.inf
        steps = np.concatenate(self._steps)
        if len(steps) < _STEPS_PER_GATE:
            total = steps.sum() + self._weighted.rest.sum()
            power = np.array([total / self._num_samples])
        else:
            sums = np.concatenate([[0.0], np.cumsum(steps)])
            size = _STEPS_PER_GATE * self._weighted.size
            power = np.maximum((sums[_STEPS_PER_GATE:] - sums[:-_STEPS_PER_GATE]) / size, 0.0)
        power = power[_lufs(power) > _ABSOLUTE_GATE_LUFS]
        if not len(power):
            return -math.inf
        power = power[_lufs(power) > _lufs(power.mean()) + _RELATIVE_GATE_LU]
        return float(_lufs(power.mean()))


class _Sums:
    """Sums of a stream over runs of ``size`` values.

    Attributes:
        rest: values at the end that do not fill a run yet.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.rest = np.zeros(0)

    def add(self, values: np.ndarray) -> np.ndarray:
        joined = np.concatenate([self.rest, values])
        num_whole = len(joined) // self.size
        self.rest = joined[num_whole * self.size :].copy()
        sums: np.ndarray = joined[: num_whole * self.size].reshape(num_whole, self.size).sum(axis=1)
        return sums


def measure_levels(track: AudioTrack) -> AudioLevels:
    """Measure a recording of any rate and number of channels."""
    meter = LevelMeter(track.sample_rate_hz, track.samples.shape[0])
    meter.add(track.samples)
    return meter.result()


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


def _decibels(power: float) -> float:
    return 10.0 * math.log10(power) if power > 0 else -math.inf
