"""Write a kept clip: picture, sound, landmarks and masks, all at once or not at all."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

from portraitanim.data.preparation.speech import SAMPLE_RATE_HZ
from portraitanim.data.records import AUDIO, FACE, VIDEO
from portraitanim.errors import MediaError
from portraitanim.face.alignment import FaceCrop
from portraitanim.face.regions import training_region_masks
from portraitanim.media.audio import save_audio
from portraitanim.media.files import publish, write_error
from portraitanim.media.video_writer import VideoWriter
from portraitanim.types import AudioTrack

_HASH_GRID = 32
_HASH_SIDE = 8


def write_clip(
    folder: Path,
    work: Path,
    frames: Iterable[np.ndarray],
    points_px: np.ndarray,
    samples: np.ndarray | None,
    *,
    crop: FaceCrop,
    fps: float,
    crf: int,
) -> str:
    """Make the clip's folder.

    Args:
        folder: what to make; replaced where it exists.
        work: a folder of this process alone, on the same disk.
        frames: uint8 RGB ``(3, height, width)``, as many as there are points.
        points_px: landmarks ``(frames, 478, 3)`` in pixels of these frames.
        samples: float32 ``(samples,)`` at 16 kHz, as long as the frames, or ``None``.
        crop: the square that is kept.
        fps: frames per second.
        crf: quality of the H.264 picture, lower is better.

    Returns:
        The perceptual hash of the mean picture: 16 hexadecimal digits, near ones look alike.

    Raises:
        MediaError: there are fewer frames than points, or the disk refuses.
    """
    draft = work / folder.name
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    total = np.zeros((crop.size_px, crop.size_px), np.float64)
    with VideoWriter(draft / VIDEO, fps, crf=crf) as writer:
        for image in frames:
            square = crop.apply(image)
            total += square.mean(axis=0)
            writer.write(square)
        if writer.num_frames != len(points_px):
            raise MediaError(f"{folder.name}: read {writer.num_frames} frames where {len(points_px)} were measured.")
    if samples is not None:
        save_audio(AudioTrack(samples=samples[None], sample_rate_hz=SAMPLE_RATE_HZ), draft / AUDIO)
    landmarks = crop.points(points_px)
    masks = training_region_masks(list(landmarks), crop.size_px, crop.size_px)
    try:
        save_file({"landmarks": landmarks, "masks": masks}, draft / FACE)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    publish(draft, folder)
    return picture_hash(total / len(points_px))


def picture_hash(grey: np.ndarray) -> str:
    """64 bits that tell what a picture ``(height, width)`` looks like, whatever its size and compression.

    The signs of the lowest frequencies of its cosine transform, the mean left out, about their median.
    """
    small = cv2.resize(grey.astype(np.float32), (_HASH_GRID, _HASH_GRID), interpolation=cv2.INTER_AREA)
    waves = cv2.dct(small)[:_HASH_SIDE, :_HASH_SIDE].ravel()
    bits = waves > np.median(waves[1:])
    return np.packbits(bits).tobytes().hex()


def work_folder(root: Path) -> Path:
    """A folder for unfinished clips of this process."""
    return root / "work" / f"{socket.gethostname()}-{os.getpid()}"
