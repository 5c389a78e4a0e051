"""Frame rates as exact fractions, so that time does not drift over a long video."""

from __future__ import annotations

from fractions import Fraction

from portraitanim.errors import InputError

_MAX_FPS = 240
_NTSC_TOLERANCE = Fraction(1, 200)


def exact_fps(fps: float | int | str | Fraction) -> Fraction:
    """The frame rate that a number stands for.

    A rate that is not a whole number but lies near one of the NTSC family (23.976, 29.97, 59.94 ...) becomes that one:
    ``29.97`` is ``30000/1001``.

    Args:
        fps: frames per second, also as text (``"25"``, ``"30000/1001"``).

    Raises:
        InputError: not a number, not above 0, or above 240.
    """
    try:
        value = Fraction(fps) if not isinstance(fps, float) else Fraction(repr(fps))
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise InputError(f"{fps!r} is no frame rate. Expected a number such as 25 or 29.97.") from error
    if not 0 < value <= _MAX_FPS:
        raise InputError(f"Frames per second must lie above 0 and at most at {_MAX_FPS}, got {fps}.")
    if value.denominator != 1:
        ntsc = Fraction(round(value * Fraction(1001, 1000)) * 1000, 1001)
        if ntsc and abs(ntsc - value) < _NTSC_TOLERANCE:
            return ntsc
    return value.limit_denominator(1001)
