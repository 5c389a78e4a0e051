"""The voice alone, taken out of music and noise: Kim_Vocal_2, the MDX-Net network that Hallo uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch

from portraitanim.errors import DamagedWeightsError, InputError
from portraitanim.onnx_session import open_session
from portraitanim.types import AudioTrack

WEIGHTS_NAME = "kim-vocal-2"
"""Name of the weights in the registry."""

NETWORK_FILE = "Kim_Vocal_2.onnx"
RATE_HZ = 44_100
"""The rate that the network works at: it hears more than speech encoders do. Sound at others is resampled."""

# The network reads spectra of 44.1 kHz stereo: real and imaginary part of left, then of right, for the lower 3072
# bins (17.6 kHz) of 256 frames (UVR's model data for Kim_Vocal_2).
_FFT, _HOP = 7680, 1024
_NUM_BINS, _NUM_FRAMES = 3072, 256
_CHUNK = _HOP * (_NUM_FRAMES - 1)
_MARGIN = _FFT // 2
_STEP = _CHUNK * 3 // 4
"""Chunks of 5.9 s overlap by a quarter, as Hallo's separator has it."""

_NUM_MUTED_BINS = 3
"""The lowest bins, below 17 Hz, are muted before the network."""

_INSTALL = f"portraitanim weights pull {WEIGHTS_NAME} --overwrite"


class VocalSeparator:
    """Keeps the voice and removes the rest.

    Works chunk by chunk in flat memory. Unlike the published separator, which scales a file by its peak first, it
    leaves the level alone: a peak is known only when the whole file was read.

    Use `load`.

    Args:
        session: ``onnxruntime.InferenceSession`` of the network.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self._taper = torch.hann_window(_FFT)
        # Not zero at the ends, so that the first and last samples of a sound can be divided by it.
        self._fade = torch.hann_window(_CHUNK + 1, periodic=True)[1:] + 1e-4

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> VocalSeparator:
        """Load the network.

        Args:
            folder: holds `NETWORK_FILE`.
            device: ``cpu``, ``cuda`` or ``cuda:N``.

        Raises:
            MissingWeightsError: the file is absent; the message has the command that gets it.
            DamagedWeightsError: it is no network, or reads and gives other shapes.
            InputError: there is no such device.
        """
        path = Path(folder) / NETWORK_FILE
        session = open_session(path, install=_INSTALL, device=device)
        expected = [4, _NUM_BINS, _NUM_FRAMES]
        for values in (session.get_inputs(), session.get_outputs()):
            if len(values) != 1 or list(values[0].shape)[1:] != expected:
                raise DamagedWeightsError(
                    f"{path} has the shapes {[value.shape for value in values]}, expected one (batch, 4, {_NUM_BINS}, "
                    f"{_NUM_FRAMES}): it is not {NETWORK_FILE}. Install it again: {_INSTALL}"
                )
        return cls(session)

    def separate(self, track: AudioTrack) -> AudioTrack:
        """The voice of a whole sound; see `stream`.

        Returns:
            As many samples and channels, at the same rate.
        """
        pieces = [piece.samples for piece in self.stream([track])]
        return AudioTrack(samples=np.concatenate(pieces, axis=1), sample_rate_hz=track.sample_rate_hz)

    def stream(self, chunks: Iterable[AudioTrack]) -> Iterator[AudioTrack]:
        """The voice of a sound that comes in pieces; where it is cut does not change the result.

        Args:
            chunks: pieces of one sound, mono or stereo, at any rate.

        Yields:
            Pieces at the same rate with as many channels; together as long as the sound. About 6 s behind.

        Raises:
            InputError: more than two channels, or pieces that differ in rate or channels.
        """
        rate_hz, num_channels, num_samples, num_given = 0, 0, 0, 0
        into = out_of = overlap = None
        for chunk in chunks:
            if into is None or out_of is None or overlap is None:
                rate_hz, num_channels = chunk.sample_rate_hz, chunk.samples.shape[0]
                if num_channels not in (1, 2):
                    raise InputError(f"The voice is taken from mono or stereo sound, got {num_channels} channels.")
                into, out_of = _Resampler(rate_hz, RATE_HZ), _Resampler(RATE_HZ, rate_hz)
                overlap = _OverlapAdd(self._fade)
            if (chunk.sample_rate_hz, chunk.samples.shape[0]) != (rate_hz, num_channels):
                raise InputError("The pieces of this sound differ in rate or channels. Expected pieces of one sound.")
            num_samples += chunk.samples.shape[1]
            stereo = np.repeat(chunk.samples, 2, axis=0) if num_channels == 1 else chunk.samples
            for done in self._through(overlap, into.add(stereo)):
                piece = _mixed(out_of.add(done), num_channels)
                num_given += piece.shape[1]
                yield AudioTrack(samples=piece, sample_rate_hz=rate_hz)
        if into is None or out_of is None or overlap is None:
            raise InputError("There is no sound to take the voice from.")
        rest = [out_of.add(done) for done in self._through(overlap, into.finish(), last=True)]
        tail = _mixed(np.concatenate([*rest, out_of.finish()], axis=1), num_channels)
        # Resampled there and back, a sound may come back a sample shorter or longer.
        wanted = num_samples - num_given
        tail = np.pad(tail[:, :wanted], ((0, 0), (0, max(0, wanted - tail.shape[1]))))
        yield AudioTrack(samples=tail, sample_rate_hz=rate_hz)

    def _through(self, overlap: _OverlapAdd, samples: np.ndarray, last: bool = False) -> Iterator[np.ndarray]:
        overlap.add(samples)
        while (chunk := overlap.next_chunk(last)) is not None:
            yield overlap.join(self._voice_of(chunk))

    @torch.no_grad()
    def _voice_of(self, chunk: torch.Tensor) -> torch.Tensor:
        """One chunk float32 ``(2, 261120)`` through spectrum, network and back."""
        spectrum = torch.stft(chunk, _FFT, _HOP, window=self._taper, center=True, return_complex=True)
        spectrum[:, :_NUM_MUTED_BINS] = 0
        parts = torch.view_as_real(spectrum[:, :_NUM_BINS]).permute(0, 3, 1, 2).reshape(1, 4, _NUM_BINS, _NUM_FRAMES)
        found = torch.from_numpy(self._session.run(None, {self._input: parts.contiguous().numpy()})[0])
        parts = found.reshape(2, 2, _NUM_BINS, _NUM_FRAMES).permute(0, 2, 3, 1).contiguous()
        spectrum = torch.zeros_like(spectrum)
        spectrum[:, :_NUM_BINS] = torch.view_as_complex(parts)
        return torch.istft(spectrum, _FFT, _HOP, window=self._taper, center=True, length=_CHUNK)


class _OverlapAdd:
    """Cuts a stream into overlapping chunks and fades their results into each other.

    Silence is put before the sound, so that it does not begin at the very edge of a chunk.
    """

    def __init__(self, fade: torch.Tensor) -> None:
        self._fade = fade
        self._waiting = torch.zeros(2, _MARGIN)
        self._sum = torch.zeros(2, _CHUNK)
        self._weight = torch.zeros(_CHUNK)
        self._num_to_drop = _MARGIN
        self._num_left = 0

    def add(self, samples: np.ndarray) -> None:
        self._waiting = torch.cat([self._waiting, torch.from_numpy(samples)], dim=1)
        self._num_left += samples.shape[1]

    def next_chunk(self, last: bool) -> torch.Tensor | None:
        """The next chunk that is complete; with ``last``, silence completes it until all sound was given back."""
        if self._waiting.shape[1] < _CHUNK:
            if not last or self._num_left <= 0:
                return None
            missing = _CHUNK - self._waiting.shape[1]
            self._waiting = torch.nn.functional.pad(self._waiting, (0, missing))
        chunk = self._waiting[:, :_CHUNK]
        self._waiting = self._waiting[:, _STEP:]
        return chunk

    def join(self, chunk: torch.Tensor) -> np.ndarray:
        """Add a result; gives the samples ``(2, n)`` that no later chunk changes."""
        self._sum += chunk * self._fade
        self._weight += self._fade
        done = self._sum[:, :_STEP] / self._weight[:_STEP]
        self._sum = torch.nn.functional.pad(self._sum[:, _STEP:], (0, _STEP))
        self._weight = torch.nn.functional.pad(self._weight[_STEP:], (0, _STEP))
        done, self._num_to_drop = done[:, self._num_to_drop :], 0
        done = done[:, : self._num_left]
        self._num_left -= done.shape[1]
        return done.numpy()


class _Resampler:
    """A stream of stereo from one rate to another; the first sample keeps its time."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        same = from_hz == to_hz
        self._stream = None if same else soxr.ResampleStream(from_hz, to_hz, 2, dtype="float32", quality="HQ")

    def add(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        if self._stream is None:
            return samples
        resampled = self._stream.resample_chunk(np.ascontiguousarray(samples.T), last=last)
        return np.ascontiguousarray(resampled.reshape(-1, 2).T)

    def finish(self) -> np.ndarray:
        return self.add(np.zeros((2, 0), np.float32), last=True)


def _mixed(stereo: np.ndarray, num_channels: int) -> np.ndarray:
    return stereo if num_channels == 2 else stereo.mean(axis=0, keepdims=True, dtype=np.float32)
