"""Whether a sound is fit to make a portrait speak, judged in about a second for ten minutes of it."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from portraitanim.findings import CheckReport, Finding, Verdict, judge
from portraitanim.media.audio import iter_audio
from portraitanim.media.audio_levels import AudioLevels, LevelMeter
from portraitanim.media.speech_detection import SPEECH_RATE_HZ, WINDOW_SAMPLES, SpeechDetector
from portraitanim.types import AudioTrack

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_SECONDS = 4.0
_SPEECH, _NO_SPEECH = 0.5, 0.2  # probabilities; what lies between counts as neither
_FEWEST_SECONDS = 0.3
"""Below this much speech, or of pauses, nothing is said about it."""


def check_sound(
    source: str | Path | AudioTrack, *, start_seconds: float = 0.0, duration_seconds: float | None = None
) -> CheckReport:
    """Judge a sound before any network of the animation is loaded.

    The limits were set by looking at the speech and talking videos that this project is tried on: clean speech
    lies 11 dB or more above its pauses, speech over music 0 to 3 dB.

    Args:
        source: a file as `portraitanim.media.audio.load_audio` reads it, in flat memory, or a track.
        start_seconds: where to start; for files.
        duration_seconds: how much to judge; for files.

    Returns:
        ``duration``, ``sample rate``, ``loudness``, ``clipping``, ``leading silence``, ``trailing silence``,
        ``speech``, ``speech above background``.

    Raises:
        InputError: a start or duration that makes no sense.
        MediaError: the file has no usable sound.
        MissingWeightsError: the silero-vad package is not installed.
    """
    if isinstance(source, AudioTrack):
        chunks = _chunks(source)
    else:
        chunks = iter_audio(
            source, chunk_seconds=_CHUNK_SECONDS, start_seconds=start_seconds, duration_seconds=duration_seconds
        )
    first = next(chunks)
    rate_hz, num_channels = first.sample_rate_hz, first.samples.shape[0]
    meter, speech = LevelMeter(rate_hz, num_channels), _SpeechMeter(rate_hz)
    # Speech is looked for beside reading and measuring: half the time, and one piece ahead at most.
    with ThreadPoolExecutor(max_workers=1) as worker:
        for chunk in chain([first], chunks):
            looking = worker.submit(speech.add, chunk.samples.mean(axis=0, dtype=np.float32))
            meter.add(chunk.samples)
            looking.result()
    speech.finish()
    return CheckReport(subject="sound", findings=(*_level_findings(meter.result(), rate_hz), *_speech_findings(speech)))


def _level_findings(levels: AudioLevels, rate_hz: int) -> Iterator[Finding]:
    yield judge(
        "duration",
        levels.duration_seconds,
        "s",
        warn_below=1.0,
        bad_below=0.2,
        advice="Use at least a second of sound.",
    )
    yield judge(
        "sample rate",
        rate_hz,
        "Hz",
        warn_below=SPEECH_RATE_HZ,
        advice=f"Sound below {SPEECH_RATE_HZ} Hz lacks the sharp consonants; use a better recording if there is one.",
    )
    yield judge(
        "loudness",
        levels.loudness_lufs,
        "LUFS",
        warn_below=-38.0,
        bad_below=-60.0,
        advice="The sound is very quiet or silent; make it louder (about -20 LUFS), or check that it is the right one.",
    )
    yield judge(
        "clipping",
        levels.clipped_fraction,
        warn_above=0.001,
        advice="The recording is overdriven (samples at full scale); use a quieter recording of it.",
    )
    if levels.silent_fraction == 1.0:
        return
    yield judge(
        "leading silence",
        levels.leading_silence_seconds,
        "s",
        warn_above=2.0,
        advice="The portrait is silent for that long at first; begin later with --start.",
    )
    yield judge(
        "trailing silence",
        levels.trailing_silence_seconds,
        "s",
        warn_above=2.0,
        advice="The portrait is silent for that long at the end; stop earlier with --duration.",
    )


def _speech_findings(meter: _SpeechMeter) -> Iterator[Finding]:
    share = meter.speech_seconds / meter.seconds if meter.seconds else 0.0
    verdict: Verdict = "ok"
    advice = ""
    if meter.speech_seconds < _FEWEST_SECONDS:
        verdict, advice = (
            "bad",
            "Nobody is heard to speak: the mouth will hardly move; check that it is the right file.",
        )
    elif share < 0.3:
        verdict, advice = (
            "warn",
            "Speech is heard in a small part only; if music hides it, try --separate-vocals.",
        )
    yield Finding(name="speech", value=share, unit="", verdict=verdict, advice=advice)
    if min(meter.speech_seconds, meter.pause_seconds) < _FEWEST_SECONDS:
        what = "speech" if meter.speech_seconds < _FEWEST_SECONDS else "a pause"
        yield Finding(
            name="speech above background",
            value=None,
            unit="dB",
            verdict="not measured",
            advice=f"There is not enough of {what} to compare.",
        )
        return
    yield judge(
        "speech above background",
        meter.speech_dbfs - meter.pause_dbfs,
        "dB",
        warn_below=8.0,
        advice="Music or noise is nearly as loud as the voice; take the voice alone with --separate-vocals.",
    )


class _SpeechMeter:
    """How much speech there is, and how loud it and the pauses are."""

    def __init__(self, rate_hz: int) -> None:
        self._stream = SpeechDetector().stream()
        self._resampler = soxr.ResampleStream(rate_hz, SPEECH_RATE_HZ, 1, dtype="float32", quality="HQ")
        self._waiting = np.zeros(0, np.float32)
        self._num_windows = 0
        self._num = {"speech": 0, "pause": 0}
        self._energy = {"speech": 0.0, "pause": 0.0}

    def add(self, samples: np.ndarray) -> None:
        """Take the next mono samples at the sound's own rate."""
        self._look(self._resampler.resample_chunk(samples, last=False))

    def finish(self) -> None:
        """Let out what the resampler holds back, and fill the last window with silence."""
        self._look(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        if len(self._waiting):
            self._look(np.zeros(WINDOW_SAMPLES - len(self._waiting), np.float32))

    def _look(self, at_16_khz: np.ndarray) -> None:
        probabilities = self._stream.add(at_16_khz)
        joined = np.concatenate([self._waiting, at_16_khz])
        num_samples = len(probabilities) * WINDOW_SAMPLES
        power = np.square(joined[:num_samples]).reshape(-1, WINDOW_SAMPLES).mean(axis=1, dtype=np.float64)
        self._waiting = joined[num_samples:]
        self._num_windows += len(probabilities)
        for kind, chosen in (("speech", probabilities > _SPEECH), ("pause", probabilities < _NO_SPEECH)):
            self._num[kind] += int(chosen.sum())
            self._energy[kind] += float(power[chosen].sum())

    @property
    def seconds(self) -> float:
        return self._num_windows * WINDOW_SAMPLES / SPEECH_RATE_HZ

    @property
    def speech_seconds(self) -> float:
        return self._num["speech"] * WINDOW_SAMPLES / SPEECH_RATE_HZ

    @property
    def pause_seconds(self) -> float:
        return self._num["pause"] * WINDOW_SAMPLES / SPEECH_RATE_HZ

    @property
    def speech_dbfs(self) -> float:
        return self._dbfs("speech")

    @property
    def pause_dbfs(self) -> float:
        return self._dbfs("pause")

    def _dbfs(self, kind: str) -> float:
        return 10.0 * math.log10(max(self._energy[kind] / max(1, self._num[kind]), 1e-12))


def _chunks(track: AudioTrack) -> Iterator[AudioTrack]:
    size = max(1, round(_CHUNK_SECONDS * track.sample_rate_hz))
    for start in range(0, max(1, track.samples.shape[1]), size):
        yield AudioTrack(samples=track.samples[:, start : start + size], sample_rate_hz=track.sample_rate_hz)
