"""A small prepared dataset, written as `prep` writes one: moving pictures, a face that talks, a tone that rises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from portraitanim.data.records import ClipRecord, write_manifest
from portraitanim.face.regions import training_region_masks
from portraitanim.media.audio import save_audio
from portraitanim.media.video_writer import VideoWriter
from portraitanim.types import AudioTrack

SAMPLE_RATE_HZ = 16000


def write_dataset(
    root: Path,
    num_clips: int = 3,
    num_frames: int = 16,
    size_px: int = 32,
    fps: float = 25.0,
    states: dict[str, tuple[int, ...]] | None = None,
    identity_dim: int | None = None,
) -> Path:
    """Write clips of ``size_px``; ``states`` are the encoders whose states are stored, with (layers, dim)."""
    records = []
    for number in range(num_clips):
        clip_id = f"clip-{number:03d}"
        folder = root / "clips" / clip_id
        folder.mkdir(parents=True)
        random = np.random.default_rng(number)
        with VideoWriter(folder / "video.mp4", fps) as writer:
            writer.write(_pictures(random, num_frames, size_px))
        times = np.arange(int(num_frames / fps * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        tone = 0.3 * np.sin(2 * np.pi * (200 + 100 * number) * times * (1 + times)).astype(np.float32)
        save_audio(AudioTrack(samples=tone[None], sample_rate_hz=SAMPLE_RATE_HZ), folder / "audio.flac")
        points = _landmarks(random, num_frames, size_px)
        face = {
            "landmarks": torch.from_numpy(points),
            "masks": torch.from_numpy(training_region_masks(points, size_px, size_px)),
        }
        if identity_dim is not None:
            face["identity"] = torch.from_numpy(random.standard_normal(identity_dim).astype(np.float32))
        save_file(face, folder / "face.safetensors")
        stored = {}
        for encoder, shape in (states or {}).items():
            stored[encoder] = f"clips/{clip_id}/audio-{encoder}.safetensors"
            # Whisper's states keep their own rate of 50 Hz, which its windows read.
            count = round(num_frames / fps * 50) + 8 if encoder.startswith("whisper") else num_frames
            values = torch.from_numpy(random.standard_normal((count, *shape)).astype(np.float32))
            save_file({"states": values}, root / stored[encoder])
        records.append(
            ClipRecord(
                clip_id=clip_id,
                identity=f"person-{number}",
                split="train",
                video=f"clips/{clip_id}/video.mp4",
                face=f"clips/{clip_id}/face.safetensors",
                audio=f"clips/{clip_id}/audio.flac",
                audio_states=stored,
                num_frames=num_frames,
                fps=fps,
                size_px=size_px,
            )
        )
    write_manifest(root, records)
    return root


def _pictures(random: np.random.Generator, num_frames: int, size_px: int) -> np.ndarray:
    rows, columns = np.mgrid[0:size_px, 0:size_px] / size_px
    phases = random.uniform(0, 6, 3)
    frames = [
        np.stack([np.sin(3 * rows + 2 * columns + phase + 0.2 * frame) for phase in phases])
        for frame in range(num_frames)
    ]
    return (127.5 + 120 * np.stack(frames)).astype(np.uint8)


def _landmarks(random: np.random.Generator, num_frames: int, size_px: int) -> np.ndarray:
    """Points of a face that fills the picture and moves a little; no real face, but spread like one."""
    shape = random.normal(0.5, 0.12, (478, 3)).clip(0.1, 0.9)
    moves = 0.02 * np.sin(np.arange(num_frames))[:, None, None]
    return ((shape + moves) * size_px).astype(np.float32)
