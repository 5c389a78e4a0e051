"""Other voices, rooms and microphones for the same words, so that a model does not learn one synthesizer's sound."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import soxr
from scipy.signal import fftconvolve

NARROW_BAND_SHARE = 0.3
"""So many sounds lack their upper band, as recordings of telephones and old codecs do: no speech may hang on it."""


class DrawsBackground(Protocol):
    """Where sound without speech comes from; see `backgrounds.Backgrounds`."""

    def draw(self, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        """A piece of so many samples, of unit level."""


def stretched(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play slower (factor above 1) and thereby deeper: time, pitch and formants change together."""
    if factor == 1.0:
        return samples
    return np.asarray(soxr.resample(samples.astype(np.float32), 1_000_000, round(1_000_000 * factor)), np.float32)


def drawn_out(samples: np.ndarray, sample_rate_hz: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Other times at the same pitch and with the same formants, as in sung words (a phase vocoder).

    Args:
        samples: float32 ``(samples,)``.
        sample_rate_hz: of the samples.
        before: moments of the sound in seconds, rising from 0 to its end.
        after: when they are to be heard.

    Returns:
        float32, from 0 to the last moment of ``after``.
    """
    size, hop = 512, 128
    taper = np.hanning(size + 1)[:-1]
    padded = np.pad(samples.astype(np.float64), size)
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * taper)
    wanted = round(float(after[-1]) * sample_rate_hz)
    # Both sounds are padded by a whole frame, so the middle of frame 0 lies half a frame before either begins.
    heard = (np.arange((wanted + 2 * size) // hop) * hop - size / 2) / sample_rate_hz
    source = (np.interp(heard, after, before) * sample_rate_hz + size / 2) / hop
    source = np.clip(source, 0, len(spectra) - 1.001)
    frame = source.astype(int)
    share = (source - frame)[:, None]
    loudness = (1 - share) * np.abs(spectra[frame]) + share * np.abs(spectra[frame + 1])
    turns = np.angle(spectra[frame + 1] * np.conj(spectra[frame]))
    phases = np.angle(spectra[frame[:1]]) + np.cumsum(np.vstack([np.zeros((1, turns.shape[1])), turns[:-1]]), axis=0)
    pieces = np.fft.irfft(loudness * np.exp(1j * phases), size) * taper
    out = np.zeros(len(pieces) * hop + size)
    for number, piece in enumerate(pieces):
        out[number * hop : number * hop + size] += piece
    return (out[size : size + wanted] / 1.5).astype(np.float32)


def with_vibrato(samples: np.ndarray, sample_rate_hz: int, depth: float, hertz: float) -> np.ndarray:
    """The pitch goes up and down by a share ``depth``, so many times a second; nothing moves by more than 2 ms."""
    seconds = np.arange(len(samples)) / sample_rate_hz
    moved = seconds + depth / (2 * np.pi * hertz) * np.sin(2 * np.pi * hertz * seconds)
    return np.interp(moved, seconds, samples).astype(np.float32)


def varied_sound(
    speech: np.ndarray, sample_rate_hz: int, rng: np.random.Generator, backgrounds: DrawsBackground | None = None
) -> np.ndarray:
    """Colour, reverberation, noise and gain, each sometimes; the time of everything stays.

    Args:
        speech: float32 ``(samples,)``.
        sample_rate_hz: of the samples.
        rng: decides everything.
        backgrounds: recorded sound for behind the speech, where there is some.

    Returns:
        float32 ``(samples,)`` in [-1, 1].
    """
    sound = speech.astype(np.float64)
    if rng.random() < 0.25:
        sound = _compressed(sound, sample_rate_hz, rng)
    if rng.random() < 0.7:
        sound = _equalized(sound, sample_rate_hz, rng)
    if rng.random() < 0.45:
        sound = _in_a_room(sound, sample_rate_hz, rng)
    level = np.sqrt(np.mean(sound**2)) + 1e-6
    kind = rng.random()
    if kind < 0.45:
        sound = sound + level * 10 ** (-rng.uniform(15, 45) / 20) * _noise(len(sound), sample_rate_hz, rng)
    elif kind < 0.57:
        sound = sound + level * 10 ** (-rng.uniform(6, 22) / 20) * _music(len(sound), sample_rate_hz, rng)
    if backgrounds is not None and rng.random() < 0.35:
        sound = sound + level * 10 ** (-rng.uniform(-2, 22) / 20) * backgrounds.draw(len(sound), rng)
    if rng.random() < NARROW_BAND_SHARE:
        sound = _narrow_band(sound, sample_rate_hz, rng)
    peak = np.abs(sound).max() + 1e-6
    wanted = 10 ** (-rng.uniform(1, 16) / 20)
    return np.clip(sound * (wanted / peak), -1, 1).astype(np.float32)


def quiet_sound(
    num_samples: int, sample_rate_hz: int, rng: np.random.Generator, backgrounds: DrawsBackground | None = None
) -> np.ndarray:
    """Sound in which nobody speaks: digital silence, hiss, soft music, or a recorded background of any level.

    Returns:
        float32 ``(samples,)``.
    """
    if backgrounds is not None and rng.random() < 0.6:
        sound = backgrounds.draw(num_samples, rng) * 10 ** (-rng.uniform(10, 50) / 20)
        return np.clip(sound, -1, 1).astype(np.float32)
    kind = rng.random()
    if kind < 0.35:
        return np.zeros(num_samples, np.float32)
    if kind < 0.85:
        sound = _noise(num_samples, sample_rate_hz, rng) * 10 ** (-rng.uniform(35, 75) / 20)
    else:
        sound = _music(num_samples, sample_rate_hz, rng) * 10 ** (-rng.uniform(25, 45) / 20)
    return np.clip(sound, -1, 1).astype(np.float32)


def _equalized(sound: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / rate_hz)
    octaves = np.log2(np.maximum(hertz, 50) / 1000)
    decibels = rng.uniform(-3, 3) * octaves
    for _ in range(3):
        decibels = decibels + rng.uniform(-6, 6) * np.exp(
            -(((octaves - rng.uniform(-3, 3)) / rng.uniform(0.4, 1.2)) ** 2)
        )
    if rng.random() < 0.15:  # a telephone or a cheap microphone
        decibels = decibels - 40 * ((hertz < rng.uniform(100, 300)) | (hertz > rng.uniform(3200, 6000)))
    return np.fft.irfft(spectrum * 10 ** (np.clip(decibels, -40, 12) / 20), len(sound))


def _narrow_band(sound: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Without what lies above 3.3 to 7 kHz, noise included."""
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / rate_hz)
    edge = rng.uniform(3300, 7000)
    return np.fft.irfft(spectrum / (1 + (hertz / edge) ** 40), len(sound))


def _compressed(sound: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Levelled, as broadcast sound is: quiet parts come nearer to loud ones."""
    step = rate_hz // 50
    count = -(-len(sound) // step)
    power = np.pad(sound**2, (0, count * step - len(sound))).reshape(count, step).mean(1)
    smooth = np.convolve(np.pad(power, 4, mode="edge"), np.full(9, 1 / 9), mode="valid")
    loudest = smooth.max() + 1e-9
    gain = ((smooth + 1e-3 * loudest) / loudest) ** (-0.5 * rng.uniform(0.2, 0.7))
    return sound * np.interp(np.arange(len(sound)) / step - 0.5, np.arange(count), gain)


def _in_a_room(sound: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    decay_seconds = rng.uniform(0.12, 0.5)
    seconds = np.arange(round(decay_seconds * rate_hz)) / rate_hz
    tail = rng.normal(0, 1, len(seconds)) * 10 ** (-3 * seconds / decay_seconds)
    tail[: round(0.004 * rate_hz)] = 0
    tail *= rng.uniform(0.15, 0.6) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return fftconvolve(sound, tail)[: len(sound)]


def _noise(num_samples: int, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Hiss between white and brown, of unit level."""
    hertz = np.fft.rfftfreq(num_samples, 1 / rate_hz)
    shape = np.maximum(hertz, 40.0) ** -rng.uniform(0, 1.2)
    noise = np.fft.irfft(np.fft.rfft(rng.normal(0, 1, num_samples)) * shape, num_samples)
    return noise / (noise.std() + 1e-9)


def _music(num_samples: int, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Plucked chords in an even beat, of unit level."""
    beat = rng.uniform(0.22, 0.6)
    root = 110 * 2 ** rng.uniform(0, 1.5)
    seconds = np.arange(num_samples) / rate_hz
    sound = np.zeros(num_samples)
    for start in np.arange(-rng.uniform(0, beat), seconds[-1], beat):
        first, last = (int(np.clip(moment * rate_hz, 0, num_samples)) for moment in (start, start + 4 * beat))
        since = seconds[first:last] - start
        decay = np.exp(-since / beat)
        for step in rng.choice([0, 3, 4, 5, 7, 9, 12, 16], 3, replace=False):
            hertz = root * 2 ** (step / 12)
            for overtone in (1, 2, 3):
                sound[first:last] += decay * np.sin(2 * np.pi * hertz * overtone * since) / overtone**1.5
    return sound / (sound.std() + 1e-9)
