"""Which frames are denoised together: clip after clip, or overlapping windows over the whole video."""

from __future__ import annotations

from dataclasses import dataclass

from portraitanim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames that are made together.

    Attributes:
        frames: indices into the conditioning; a last, short clip repeats its last frame to keep its length.
        num_new: so many leading frames belong to the video, the rest is padding.
    """

    frames: tuple[int, ...]
    num_new: int


def sequential_clip(number: int, num_frames: int, num_frames_per_clip: int) -> Clip:
    """One of the clips of a video that is made clip after clip, as Hallo: every frame once, all of one length.

    Args:
        number: of the clip.
        num_frames: frames of the video, or as many as are known of one that goes on behind this clip.
        num_frames_per_clip: length of every clip.

    Raises:
        InputError: the video has no such clip.
    """
    _require_positive(num_frames - number * num_frames_per_clip, num_frames_per_clip)
    start = number * num_frames_per_clip
    return Clip(
        frames=tuple(min(frame, num_frames - 1) for frame in range(start, start + num_frames_per_clip)),
        num_new=min(num_frames_per_clip, num_frames - start),
    )


def overlapping_windows(
    num_frames: int, num_frames_per_window: int, num_overlap_frames: int, shift: int = 0
) -> list[tuple[int, ...]]:
    """Windows around the closed circle of all frames, as EchoMimic.

    A video that fits into one window is one window. Otherwise windows start every ``window - overlap`` frames, and
    the last ones run on from the end into the beginning. ``shift`` turns the circle, from step to step, so that the
    seams do not stay in one place.

    Args:
        num_frames: frames of the video.
        num_frames_per_window: frames that are denoised together.
        num_overlap_frames: frames that neighbouring windows share.
        shift: added to every index, modulo ``num_frames``.

    Raises:
        InputError: there is nothing to make, or the overlap is not smaller than the window.
    """
    _require_positive(num_frames, num_frames_per_window)
    if not 0 <= num_overlap_frames < num_frames_per_window:
        raise InputError(
            f"The overlap must be from 0 to {num_frames_per_window - 1} frames (less than the window), "
            f"got {num_overlap_frames}."
        )
    length = min(num_frames, num_frames_per_window)
    stride = num_frames if length == num_frames else num_frames_per_window - num_overlap_frames
    return [
        tuple((start + index + shift) % num_frames for index in range(length)) for start in range(0, num_frames, stride)
    ]


def window_weights(windows: list[tuple[int, ...]], num_frames: int) -> list[float]:
    """For each frame, the weight that makes the sum of its windows a mean."""
    counts = [0] * num_frames
    for window in windows:
        for frame in window:
            counts[frame] += 1
    return [1.0 / count for count in counts]


def _require_positive(num_frames: int, length: int) -> None:
    if num_frames < 1 or length < 1:
        raise InputError(f"Need at least one frame and one frame per clip, got {num_frames} and {length}.")
