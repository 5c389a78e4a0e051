"""Short videos made of real ones: as they are, and spoilt in one way each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from portraitanim.media.audio import load_audio, to_mono
from portraitanim.media.image import load_image, resize_image
from portraitanim.media.video import iter_video
from portraitanim.media.video_writer import VideoWriter
from portraitanim.types import AudioTrack

MEDIA = next(
    (p / "shared" / "media" for p in Path(__file__).resolve().parents if (p / "shared" / "media").is_dir()), None
)
needs_media = pytest.mark.skipif(MEDIA is None, reason="shared/media is not beside this clone")

FPS, RATE_HZ, SIDE_PX = 25, 16000, 256
START_SECONDS = 4.0
SPEAKER, OTHER, WILD = "liveportrait_d11.mp4", "liveportrait_d10.mp4", "liveportrait_d12.mp4"


@lru_cache(maxsize=8)
def talking(name: str, num_frames: int, side_px: int = SIDE_PX) -> np.ndarray:
    """Frames of a real video at 25 fps, from `START_SECONDS` on, uint8 ``(frames, 3, side, side)``."""
    assert MEDIA is not None
    path = MEDIA / "talking" / name
    frames = iter_video(path, FPS, start_seconds=START_SECONDS, duration_seconds=num_frames / FPS)
    return np.stack([resize_image(frame.image, side_px, side_px, "bilinear") for frame in frames])


def sound_of(name: str, num_frames: int) -> np.ndarray:
    """The sound of the same video, float32 at 16 kHz."""
    assert MEDIA is not None
    track = to_mono(load_audio(MEDIA / "talking" / name, RATE_HZ, start_seconds=START_SECONDS)).samples[0]
    return track[: round(num_frames / FPS * RATE_HZ)]


def still(name: str, num_frames: int, seed: int = 0) -> np.ndarray:
    """A portrait with camera noise, uint8 ``(frames, 3, side, side)``."""
    assert MEDIA is not None
    image = resize_image(load_image(MEDIA / "portraits" / name), SIDE_PX, SIDE_PX)
    noise = np.random.default_rng(seed).normal(0, 2.5, (num_frames, *image.shape))
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def music(num_frames: int) -> np.ndarray:
    """Plucked notes, float32 at 16 kHz."""
    random, sound = np.random.default_rng(3), np.zeros(round(num_frames / FPS * RATE_HZ), np.float32)
    for start in range(0, len(sound), RATE_HZ // 3):
        times = np.arange(len(sound) - start) / RATE_HZ
        pitch = 220 * 2 ** (random.integers(0, 12) / 12)
        sound[start:] += (0.2 * np.exp(-4 * times) * np.sin(2 * np.pi * pitch * times)).astype(np.float32)
    return sound


def shaken(frames: np.ndarray, reach_px: int = 6) -> np.ndarray:
    """The same frames from a camera that is shaken."""
    random = np.random.default_rng(5)
    shifts = random.integers(-reach_px, reach_px + 1, (len(frames), 2))
    return np.stack(
        [
            cv2.warpAffine(
                np.ascontiguousarray(image.transpose(1, 2, 0)),
                np.array([[1, 0, dx], [0, 1, dy]], np.float64),
                image.shape[:0:-1],
                borderMode=cv2.BORDER_REPLICATE,
            ).transpose(2, 0, 1)
            for image, (dx, dy) in zip(frames, shifts, strict=True)
        ]
    )


def blurred(frames: np.ndarray, sigma: float) -> np.ndarray:
    """The same frames out of focus."""
    return np.stack([cv2.GaussianBlur(image.transpose(1, 2, 0), (0, 0), sigma).transpose(2, 0, 1) for image in frames])


def late(sound: np.ndarray, num_frames: int) -> np.ndarray:
    """The same sound, that many frames later."""
    delay = num_frames * RATE_HZ // FPS
    return np.concatenate([np.zeros(delay, np.float32), sound[:-delay]])


def save(path: Path, frames: Sequence[np.ndarray] | np.ndarray, sound: np.ndarray | None) -> Path:
    """Encode frames and sound as a video."""
    track = None if sound is None else AudioTrack(samples=sound[None].astype(np.float32), sample_rate_hz=RATE_HZ)
    with VideoWriter(path, FPS, audio=track) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def make_bad_clips(folder: Path) -> dict[str, str]:
    """A folder of videos, all but ``good`` spoilt.

    Returns:
        Name of the video → the score for which it must be dropped; empty for what must be kept.
    """
    speaker, speech = talking(SPEAKER, 125)[:104], sound_of(SPEAKER, 104)
    short, other, wild = speaker[:52], talking(OTHER, 52), talking(WILD, 52)
    made: dict[str, tuple[np.ndarray, np.ndarray | None, str]] = {
        "good": (speaker, speech, ""),
        "good_again": (blurred(speaker, 0.7), speech, "copy_distance"),
        "late_sound": (speaker, late(speech, 6), "sync_offset_frames"),
        "two_faces": (np.concatenate([short, other], axis=3), speech, "second_face_share"),
        "silence": (short, np.zeros_like(speech), "speech_fraction"),
        "shake": (shaken(wild), sound_of(WILD, 52), "camera_speed"),
        "blur": (blurred(short, 4.0), speech, "sharpness"),
        "still_with_music": (still("liveportrait_s9.jpg", 52), music(52), "speech_fraction"),
        "still_with_speech": (still("liveportrait_s9.jpg", 52), speech[: 52 * 640], "mouth_motion"),
        "no_face": (still("../portraits_hard/cat.jpg", 52), speech, "face_tracked_fraction"),
    }
    for name, (frames, sound, _) in made.items():
        save(folder / f"{name}.mp4", frames, sound)
    (folder / "damaged.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    return {name: score for name, (_, _, score) in made.items()} | {"damaged": "unreadable"}
