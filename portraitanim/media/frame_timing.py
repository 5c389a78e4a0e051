"""When frames are shown: their time stamps, and what a constant rate shows of them."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from portraitanim.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST_STILL_SECONDS = 600
_DEFAULT_FPS = Fraction(25)


def mean_rate(stream: Any) -> Fraction:
    """Mean frame rate of a stream as its file states it; 25 where it states none or nonsense."""
    rate = stream.average_rate or stream.guessed_rate or _DEFAULT_FPS
    return Fraction(rate) if 0 < rate <= 1000 else _DEFAULT_FPS


def shown_spans(
    frames: Iterator[Any], zero: Fraction, stream: Any, path: Path
) -> Iterator[tuple[Any, Fraction, Fraction]]:
    """Give each frame its time and the time of the next one; frames out of order are left out."""
    period = 1 / mean_rate(stream)
    held: tuple[Any, Fraction] | None = None
    for frame in frames:
        if frame.pts is not None and frame.time_base:
            time = frame.pts * Fraction(frame.time_base) - zero
        else:
            time = held[1] + period if held else Fraction(0)
        if held is None:
            held = (frame, time)
            continue
        if time <= held[1]:
            continue
        if time - held[1] > _LONGEST_STILL_SECONDS:
            raise MediaError(
                f"{path} has no frame for {float(time - held[1]):.0f} s after {float(held[1]):.1f} s. "
                f"Expected gaps below {_LONGEST_STILL_SECONDS} s: the file is damaged, export it again."
            )
        period = time - held[1]
        yield held[0], held[1], time
        held = (frame, time)
    if held is not None:
        own = (held[0].duration or 0) * Fraction(held[0].time_base or 0)
        yield held[0], held[1], held[1] + (own if 0 < own <= _LONGEST_STILL_SECONDS else period)


def own_frames(
    shown: Iterator[tuple[Any, Fraction, Fraction]], start: Fraction, stop: Fraction | None
) -> Iterator[tuple[Any, Fraction]]:
    """The source's own frames from ``start`` to ``stop``, each with its seconds after ``start``."""
    for frame, time, _ in shown:
        if stop is not None and time >= stop:
            return
        if time >= start:
            yield frame, time - start


def constant_rate(
    shown: Iterator[tuple[Any, Fraction, Fraction]], rate: Fraction, start: Fraction, stop: Fraction | None
) -> Iterator[tuple[Any, Fraction]]:
    """Show at each ``start + k / rate`` the frame nearest in time, until the last frame's time is over."""
    index = 0
    last: tuple[Any, Fraction] | None = None
    for frame, time, end in shown:
        if last is not None:
            middle = (last[1] + time) / 2
            while start + index / rate <= middle:
                if stop is not None and start + index / rate >= stop:
                    return
                yield last[0], index / rate
                index += 1
        last, last_end = (frame, time), end
    if last is None:
        return
    # The number of frames is rounded: half a frame more or less than the source is the nearest there is.
    total = round(((last_end if stop is None else min(stop, last_end)) - start) * rate)
    while index < max(total, 1 if start < last_end else 0):
        yield last[0], index / rate
        index += 1
