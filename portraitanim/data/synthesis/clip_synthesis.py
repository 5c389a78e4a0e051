"""Synthetic training clips, from portraits and motions to a dataset folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from portraitanim.data.records import (
    AUDIO,
    FACE,
    FORMAT_VERSION,
    SETTINGS,
    STILLS,
    VIDEO,
    ClipRecord,
    Split,
    write_manifest,
)
from portraitanim.data.synthesis.clip_motion import ClipMotion, MotionSource
from portraitanim.data.synthesis.driver_motion import carry_to_portrait
from portraitanim.data.synthesis.mesh_warp import PortraitWarper
from portraitanim.data.synthesis.mouth_interior import MouthLook
from portraitanim.data.synthesis.portrait_bank import BankPortrait
from portraitanim.data.synthesis.portrait_variants import VariantOdds, portrait_variants
from portraitanim.data.synthesis.stills import Stills, draw_smile, draw_stills, smiling
from portraitanim.data.synthesis.talking_tracks import SOUND_RATE_HZ, TRACK_FPS
from portraitanim.errors import InputError
from portraitanim.face.regions import training_region_masks
from portraitanim.media.audio import save_audio
from portraitanim.media.files import sha256_of, whole_file
from portraitanim.media.video_writer import VideoWriter
from portraitanim.types import AudioTrack

RECORD = "record.json"


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """What clips are made.

    Attributes:
        size_px: side of the frames.
        frames: fewest and most frames of a clip, at 25 per second.
        test_every: one clip in so many shows a held-out portrait with synthetic speech, for the test split; 0: none.
        crf: quality of H.264; lower is better.
        seed: with the number of the clip it decides everything.
        odds: how portraits are varied.
    """

    size_px: int = 256
    frames: tuple[int, int] = (50, 100)
    test_every: int = 25
    crf: int = 14
    seed: int = 0
    odds: VariantOdds = field(default_factory=VariantOdds)

    def __post_init__(self) -> None:
        if not 1 <= self.frames[0] <= self.frames[1] or self.size_px % 2 or self.size_px < 64:
            raise InputError(f"Clips need 1 <= fewest <= most frames and an even size from 64, got {self}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticClip:
    """One clip before it is written; frames are drawn when they are asked for.

    Attributes:
        portrait: whom it shows.
        motion: what happens.
        landmarks: float32 ``(frames, 478, 3)``: those by which the portrait is moved, in pixels.
        look: how the inside of the mouth looks.
        stills: other portraits of the person.
        split: ``train`` or ``test``.
    """

    portrait: BankPortrait
    motion: ClipMotion
    landmarks: np.ndarray
    look: MouthLook
    stills: Stills
    split: Split

    def frames(self) -> Iterator[np.ndarray]:
        """The frames, uint8 ``(3, size, size)``."""
        return PortraitWarper(self.portrait, self.look).frames(self.landmarks)


class ClipSynthesizer:
    """Makes clip number ``n``, the same each time but for the hiss in espeak-ng's consonants, which is not seeded.

    Args:
        bank: portraits to train on.
        test_bank: held-out portraits for the test split; may be empty.
        motions: where motion and sound come from.
        config: what clips are made.
    """

    def __init__(
        self,
        bank: Sequence[BankPortrait],
        test_bank: Sequence[BankPortrait],
        motions: MotionSource,
        config: SynthesisConfig,
    ) -> None:
        self._bank, self._test_bank = list(bank), list(test_bank)
        self._motions, self._config = motions, config

    def clip(self, number: int) -> SyntheticClip:
        """Clip ``number``, from 0."""
        config = self._config
        rng = np.random.default_rng([config.seed, number])
        split: Split = "train"
        if config.test_every and self._test_bank and number % config.test_every == 0:
            split = "test"
        if split == "train":
            portrait = portrait_variants(self._bank, rng, config.size_px, config.odds)
        else:
            plain = VariantOdds(single=1.0, flip=0.0, new_background=0.0, max_tilt_degrees=0.0)
            portrait = portrait_variants(self._test_bank, rng, config.size_px, plain)
        num_frames = int(rng.integers(config.frames[0], config.frames[1] + 1))
        motion = self._motions.draw(num_frames, rng, "speech" if split == "test" else None)
        basis = self._motions.basis
        rest = basis.with_closed_lips(portrait.points)
        smile = draw_smile(portrait, rng)
        landmarks = carry_to_portrait(
            smiling(motion.shapes, basis, smile),
            motion.neutral,
            motion.poses,
            rest,
            0.0 if motion.kind == "real" else rng.uniform(0.1, 0.45),
        )
        look = MouthLook.random(rng, skin_colour(portrait))
        return SyntheticClip(
            portrait=portrait,
            motion=motion,
            landmarks=landmarks.astype(np.float32),
            look=look,
            stills=draw_stills(portrait, rest, basis, PortraitWarper(portrait, look), smile, rng),
            split=split,
        )

    def write(self, number: int, root: Path) -> ClipRecord:
        """Make clip ``number`` and write its folder below ``root``, unless it is there already."""
        clip_id = f"synthetic-{self._config.seed:03d}-{number:06d}"
        folder = root / "clips" / clip_id
        if (folder / RECORD).is_file():
            return ClipRecord.from_json((folder / RECORD).read_text(encoding="utf-8"), str(folder))
        clip = self.clip(number)
        partial = folder.with_name(f"{clip_id}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            record = self._write_files(clip, clip_id, partial)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return record

    def _write_files(self, clip: SyntheticClip, clip_id: str, folder: Path) -> ClipRecord:
        size = self._config.size_px
        with VideoWriter(folder / VIDEO, TRACK_FPS, crf=self._config.crf) as writer:
            for frame in clip.frames():
                writer.write(frame)
        save_audio(AudioTrack(samples=clip.motion.sound[None], sample_rate_hz=SOUND_RATE_HZ), folder / AUDIO)
        masks = training_region_masks(list(clip.landmarks), size, size)
        save_file({"landmarks": clip.landmarks, "masks": masks}, folder / FACE)
        save_file({"pictures": clip.stills.pictures, "landmarks": clip.stills.landmarks}, folder / STILLS)
        files = {name: f"clips/{clip_id}/{name}" for name in (VIDEO, AUDIO, FACE, STILLS)}
        record = ClipRecord(
            clip_id=clip_id,
            identity=clip.portrait.name,
            split=clip.split,
            video=files[VIDEO],
            audio=files[AUDIO],
            face=files[FACE],
            stills=files[STILLS],
            num_frames=len(clip.landmarks),
            fps=TRACK_FPS,
            size_px=size,
            source={"made_by": "synthesis", "kind": clip.motion.kind, "motion": clip.motion.source},
            sha256={path: sha256_of(folder / name) for name, path in files.items()},
        )
        (folder / RECORD).write_text(record.to_json() + "\n", encoding="utf-8")
        return record


def skin_colour(portrait: BankPortrait) -> np.ndarray:
    """Mean RGB of cheeks and nose."""
    places = portrait.points[[50, 280, 205, 425, 195, 5], :2]
    x, y = np.clip(np.rint(places).astype(int), 1, portrait.size_px - 2).T
    mean: np.ndarray = portrait.image[:, y, x].astype(np.float64).mean(1)
    return mean


def gather_manifest(root: Path, config: SynthesisConfig) -> int:
    """Write manifest and settings for all clips that are whole; returns how many."""
    records = [
        ClipRecord.from_json(path.read_text(encoding="utf-8"), str(path))
        for path in sorted((root / "clips").glob(f"*/{RECORD}"))
        if not path.parent.name.endswith(".partial")
    ]
    write_manifest(root, records)
    settings = {"format_version": FORMAT_VERSION, "size_px": config.size_px, "fps": TRACK_FPS}
    with whole_file(root / SETTINGS, is_shared=True) as partial:
        partial.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    return len(records)
