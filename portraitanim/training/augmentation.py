"""Changes that make a sample new: parts of the landmark drawing, sound, and pictures of a whole clip."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.signal import fftconvolve
from torch import Tensor

from portraitanim.config.training import AugmentationConfig, LandmarkConfig

LANDMARK_PARTS = ("eyebrows", "eyes", "pupils", "nose", "mouth")
"""The parts that random landmark selection drops (EchoMimic, section 3.2)."""

_STRETCH_FFT, _STRETCH_HOP = 512, 128


def choose_parts(config: LandmarkConfig, random: np.random.Generator) -> tuple[str, ...]:
    """The parts that stay in a sample's drawing; none at all with probability ``everything``."""
    dropped = random.random() < config.everything
    kept = [part for part in LANDMARK_PARTS if random.random() >= getattr(config, part)]
    return () if dropped else tuple(kept)


def change_sound(waveform: Tensor, config: AugmentationConfig, random: np.random.Generator, rate_hz: int) -> Tensor:
    """Pitch, reverb, noise and gain, each with its probability, in the order in which a recording meets them.

    Args:
        waveform: ``(samples,)`` in [-1, 1].
        config: probabilities and ranges.
        random: draws them.
        rate_hz: samples per second.

    Returns:
        As long as ``waveform``, at the same places in time.
    """
    samples = waveform.numpy().astype(np.float32)
    if random.random() < config.pitch:
        samples = shift_pitch(samples, random.uniform(*config.pitch_semitones))
    if random.random() < config.reverb:
        samples = add_reverb(samples, random.uniform(*config.reverb_seconds), rate_hz, random)
    if random.random() < config.noise:
        samples = add_noise(samples, random.uniform(*config.noise_snr_db), random)
    if random.random() < config.gain:
        samples = samples * 10 ** (random.uniform(*config.gain_db) / 20)
    return torch.from_numpy(np.clip(samples, -1, 1).astype(np.float32))


def add_noise(samples: np.ndarray, snr_db: float, random: np.random.Generator) -> np.ndarray:
    """Noise of a random colour between white and brown, ``snr_db`` below the sound's mean power; silence stays."""
    power = float(np.mean(samples**2))
    if power == 0:
        return samples
    spectrum = np.fft.rfft(random.standard_normal(len(samples)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** random.uniform(0, 1)
    noise = np.fft.irfft(spectrum, len(samples))
    noise *= math.sqrt(power / 10 ** (snr_db / 10) / max(float(np.mean(noise**2)), 1e-20))
    return samples + noise


def add_reverb(samples: np.ndarray, seconds: float, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """The sound in a room whose echo falls by 60 dB in ``seconds``; its power stays."""
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    echo = random.standard_normal(len(times)) * np.exp(-times * math.log(1000) / seconds)
    echo *= random.uniform(0.2, 0.8) / max(float(np.sqrt(np.sum(echo**2))), 1e-9)
    echo[0] = 1.0
    wet = fftconvolve(samples, echo)[: len(samples)]
    return wet * math.sqrt(float(np.mean(samples**2)) / max(float(np.mean(wet**2)), 1e-20))


def shift_pitch(samples: np.ndarray, semitones: float) -> np.ndarray:
    """Raise or lower the voice without moving anything in time: stretch by a phase vocoder, then read faster."""
    factor = 2 ** (semitones / 12)
    window = torch.hann_window(_STRETCH_FFT)
    source = torch.from_numpy(samples)
    spectrum = torch.stft(source, _STRETCH_FFT, _STRETCH_HOP, window=window, return_complex=True)
    stretched = torch.istft(_stretched(spectrum, factor), _STRETCH_FFT, _STRETCH_HOP, window=window).numpy()
    places = np.arange(len(samples)) * factor
    return np.interp(places, np.arange(len(stretched)), stretched, right=0.0).astype(np.float32)


def _stretched(spectrum: Tensor, factor: float) -> Tensor:
    """A spectrogram ``(bins, steps)`` made ``factor`` times as long, with phases that go on as the sound did."""
    num_bins, num_steps = spectrum.shape
    places = torch.arange(0, num_steps - 1, 1 / factor)
    before = places.long()
    share = places - before
    magnitude = torch.lerp(spectrum[:, before].abs(), spectrum[:, before + 1].abs(), share)
    expected = 2 * math.pi * _STRETCH_HOP * torch.arange(num_bins)[:, None] / _STRETCH_FFT
    advance = spectrum[:, before + 1].angle() - spectrum[:, before].angle() - expected
    advance = expected + advance - 2 * math.pi * torch.round(advance / (2 * math.pi))
    phase = torch.cat([spectrum[:, :1].angle(), advance], dim=1).cumsum(dim=1)[:, :-1]
    return torch.polar(magnitude, phase)


def change_colour(pictures: Tensor, strength: float, random: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation and colour balance of pictures ``(n, 3, h, w)`` in [-1, 1], the same for all."""
    contrast, saturation = 1 + random.uniform(-strength, strength, 2)
    shift = random.uniform(-strength, strength) / 2 + random.uniform(-strength, strength, 3) / 4
    grey = pictures.mean(dim=1, keepdim=True)
    changed = (grey + saturation * (pictures - grey)) * contrast + torch.tensor(shift, dtype=pictures.dtype)[
        :, None, None
    ]
    return changed.clamp(-1, 1)
