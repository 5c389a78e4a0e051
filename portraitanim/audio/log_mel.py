"""The encoder without weights: log-mel bands at 100 Hz, four of them per video frame at 25 fps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from portraitanim.audio.mel_filters import mel_filters
from portraitanim.audio.waveform import (
    SAMPLE_RATE_HZ,
    check_fps,
    check_waveform,
    num_frames_covering,
    padded_count,
)
from portraitanim.types import AudioFeatures

NUM_MELS = 80
STEPS_PER_FRAME = 4
"""Mel frames that a video frame gets; they lie along the layer axis, in order of time."""

_MEL_RATE_HZ = 100
_HOP = SAMPLE_RATE_HZ // _MEL_RATE_HZ
_FFT = 400
# A mel frame is centred on its 10 ms, so it reads this much sound on either side of them.
_MARGIN = (_FFT - _HOP) // 2
_POWER_FLOOR = 1e-6


class LogMelAudioEncoder:
    """Log-mel bands of the sound that belongs to each video frame.

    Every mel frame depends only on the 25 ms of sound around it: there is no maximum over the file and no mean over the
    utterance, so a stream that is encoded piece by piece gives what the whole file gives. Beyond both ends the sound
    is silence.

    The bands are ``(log10(max(power, 1e-6)) + 2) / 4``: -1 for silence, 1 for about the loudest sound a file holds.
    """

    encoder_name: str = "log-mel"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._filters = mel_filters(NUM_MELS, _FFT // 2 + 1, SAMPLE_RATE_HZ).to(self.device)
        self._taper = torch.hann_window(_FFT, device=self.device)

    @torch.no_grad()
    def encode(self, waveform: torch.Tensor, fps: float, pad_to_multiple_of: int | None = None) -> AudioFeatures:
        """Encode a sound at the video rate.

        At 25 fps, states ``[i]`` are exactly the mel frames ``4i .. 4i + 3``. At other rates the mel frames are
        interpolated linearly to the four quarters of each video frame.

        Args:
            waveform: float32 ``(samples,)`` at 16 kHz, in [-1, 1].
            fps: video frames per second.
            pad_to_multiple_of: append frames of silence until their number is a multiple of this.

        Returns:
            States ``(frames, 4, 80)``, float32, about [-1, 1], at ``fps``.

        Raises:
            ShapeError: the waveform is not mono float32.
            InputError: it is empty or not finite, or a number is out of range.
        """
        check_waveform(waveform)
        check_fps(fps)
        num_valid = num_frames_covering(len(waveform), fps)
        num_frames = padded_count(num_valid, pad_to_multiple_of)

        num_mel_frames = math.ceil(num_frames * _MEL_RATE_HZ / fps)
        bands = self._mel_frames(waveform.to(self.device), num_mel_frames)
        positions = _mel_positions(torch.arange(num_frames * STEPS_PER_FRAME), fps)
        states = _interpolate_rows(bands, positions).reshape(num_frames, STEPS_PER_FRAME, NUM_MELS)
        return AudioFeatures(
            states=states,
            rate_hz=fps,
            encoder=self.encoder_name,
            num_padding_steps=num_frames - num_valid,
        )

    @torch.no_grad()
    def encode_rows(
        self, samples: torch.Tensor, first_sample: int, rows: range, fps: float, num_rows: int | None
    ) -> torch.Tensor:
        """Some states of a sound that is not there as a whole; see `portraitanim.audio.streaming.LogMelSpans`.

        Args:
            samples: float32 ``(samples,)``, the sound from ``first_sample`` on.
            first_sample: at most what `mel_span` gives for the rows.
            rows: which states.
            fps: video frames per second.
            num_rows: states of the whole sound, where its end is known: they end with its last mel frame.

        Returns:
            ``(rows, 4, 80)``, what `encode` gives for them, up to rounding.
        """
        positions = _mel_positions(torch.arange(rows.start * STEPS_PER_FRAME, rows.stop * STEPS_PER_FRAME), fps)
        if num_rows is not None:
            positions = positions.clamp(max=math.ceil(num_rows * _MEL_RATE_HZ / fps) - 1)
        positions = positions.clamp(min=0)
        first, last = math.floor(positions[0]), math.ceil(positions[-1])
        start, stop = first * _HOP - _MARGIN - first_sample, last * _HOP + _FFT - _MARGIN - first_sample
        heard = samples[max(0, start) : stop].to(self.device)
        padded = F.pad(heard, (max(0, -start), stop - start - max(0, -start) - len(heard)))
        return _interpolate_rows(self._bands(padded), positions - first).reshape(-1, STEPS_PER_FRAME, NUM_MELS)

    def _mel_frames(self, waveform: torch.Tensor, num_mel_frames: int) -> torch.Tensor:
        """Normalised bands ``(mel frames, 80)`` from the start of the sound, silence after its end."""
        num_read = num_mel_frames * _HOP + _MARGIN
        missing = max(0, num_read - len(waveform))
        return self._bands(F.pad(waveform[:num_read], (_MARGIN, missing)))

    def _bands(self, samples: torch.Tensor) -> torch.Tensor:
        """Normalised bands of all mel frames that lie within the samples."""
        spectrum = torch.fft.rfft(samples.unfold(0, _FFT, _HOP) * self._taper)
        power = (spectrum.real.square() + spectrum.imag.square()) @ self._filters.T
        return (power.clamp(min=_POWER_FLOOR).log10() + 2) / 4


def mel_span(rows: range, fps: float) -> tuple[int, int]:
    """First sample that these states read, and the one behind the last (`LogMelAudioEncoder`)."""
    quarters = torch.tensor([rows.start * STEPS_PER_FRAME, rows.stop * STEPS_PER_FRAME - 1])
    first, last = _mel_positions(quarters, fps).clamp(min=0).tolist()
    return max(0, math.floor(first) * _HOP - _MARGIN), math.ceil(last) * _HOP + _FFT - _MARGIN


def _mel_positions(quarters: torch.Tensor, fps: float) -> torch.Tensor:
    """Where quarters of video frames lie among the mel frames."""
    # Mel frame m stands for the time (m + 0.5) / 100 s, quarter q for (q + 0.5) / (4 fps).
    return (quarters.double() + 0.5) * (_MEL_RATE_HZ / (STEPS_PER_FRAME * fps)) - 0.5


def _interpolate_rows(rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rows at fractional positions, linear between neighbours, the edge rows held beyond the ends."""
    positions = positions.clamp(0, len(rows) - 1)
    before = positions.floor().long()
    after = (before + 1).clamp(max=len(rows) - 1)
    weight = (positions - before)[:, None].to(rows.dtype).to(rows.device)
    return torch.lerp(rows[before.to(rows.device)], rows[after.to(rows.device)], weight)
