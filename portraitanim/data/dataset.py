"""Pieces of prepared clips for training: which frames a sample reads, and what is stored about them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from portraitanim.config.training import ClipConfig
from portraitanim.data.records import ClipRecord, read_manifest
from portraitanim.errors import InputError
from portraitanim.media.audio import load_audio
from portraitanim.media.video import iter_video

logger = logging.getLogger(__name__)

_MAX_OPEN_FILES = 64


@dataclass(frozen=True, kw_only=True)
class ClipPiece:
    """What one sample reads of a clip.

    Attributes:
        record: the clip.
        first_frame: of the piece.
        num_frames: of the piece.
        num_motion_frames: frames before it that are read as well.
        reference_frame: the portrait, where it is no still.
        reference_still: number of the still that is the portrait, or ``None``.
    """

    record: ClipRecord
    first_frame: int
    num_frames: int
    num_motion_frames: int
    reference_frame: int
    reference_still: int | None = None

    @property
    def frames(self) -> range:
        """Numbers of the frames of the piece."""
        return range(self.first_frame, self.first_frame + self.num_frames)

    @property
    def motion_frames(self) -> range:
        """Numbers of the motion frames."""
        return range(self.first_frame - self.num_motion_frames, self.first_frame)


class ClipDataset:
    """The clips of one split, cut into pieces.

    Which piece a number means depends on the seed and the number alone: a run that goes on from sample ``n`` reads what
    it would have read. Within an epoch every clip comes as often as pieces fit into it.

    Args:
        config: which clips and how long pieces.
        seed: of order and places.

    Raises:
        InputError: no clip of the split is long enough.
    """

    def __init__(self, config: ClipConfig, seed: int = 0) -> None:
        self.config, self.seed, self.root = config, seed, Path(config.root)
        needed = config.num_frames + config.num_motion_frames
        found = [record for record in read_manifest(self.root) if record.split == config.split]
        if not found and config.split == "test":
            raise InputError(
                f"{self.root} has no clip of split 'test'. prep holds some out of two clips or more: run it again, "
                "with more video where it kept one."
            )
        self.records = [record for record in found if record.num_frames >= needed]
        if not self.records:
            raise InputError(
                f"{self.root} has no clip of split {config.split!r} with {needed} frames (num_frames + "
                f"num_motion_frames); it has {len(found)} clips of that split. Prepare more, or read shorter pieces."
            )
        if len(found) > len(self.records):
            logger.warning("%d of %d clips are shorter than %d frames and are not read.",
                           len(found) - len(self.records), len(found), needed)  # fmt: skip
        self._places = [
            clip for clip, record in enumerate(self.records) for _ in range(max(1, record.num_frames // needed))
        ]

    def __len__(self) -> int:
        """Samples of one epoch."""
        return len(self._places)

    def piece(self, number: int) -> ClipPiece:
        """The piece of sample ``number``, counted on over all epochs."""
        epoch, place = divmod(number, len(self._places))
        clip = self._places[_order(self.seed, epoch, len(self._places))[place]]
        record = self.records[clip]
        random = np.random.default_rng((self.seed, 1, number))
        config = self.config
        last = record.num_frames - config.num_frames
        first = int(random.integers(config.num_motion_frames, last + 1))
        return ClipPiece(
            record=record,
            first_frame=first,
            num_frames=config.num_frames,
            num_motion_frames=config.num_motion_frames,
            reference_frame=self._reference(random, record.num_frames, first),
            reference_still=self._reference_still(random, record),
        )

    def _reference(self, random: np.random.Generator, num_frames: int, first: int) -> int:
        distance = self.config.min_reference_distance
        far = [
            frame
            for frame in range(num_frames)
            if frame <= first - distance or frame >= first + self.config.num_frames - 1 + distance
        ]
        return int(random.choice(far)) if distance and far else int(random.integers(num_frames))

    def _reference_still(self, random: np.random.Generator, record: ClipRecord) -> int | None:
        if record.stills is None or not self.config.stills or random.random() >= self.config.stills:
            return None
        return int(random.integers(len(_open(self.root / record.stills).get_tensor("landmarks"))))

    def latents(self, piece: ClipPiece, fingerprint: str) -> tuple[Tensor, Tensor, Tensor]:
        """Cached latents of the frames, the motion frames and the reference frame, float32.

        Args:
            piece: what to read.
            fingerprint: of the autoencoder that must have made them, from `portraitanim.data.latents`.

        Raises:
            InputError: there are none, or another autoencoder made them.
        """
        record = piece.record
        if record.latents is None:
            raise InputError(no_latents(record))
        file = _open(self.root / record.latents)
        made_by = (file.metadata() or {}).get("autoencoder")
        if made_by != fingerprint:
            raise InputError(
                f"The latents of clip {record.clip_id} were made by another autoencoder ({made_by}) than is used now "
                f"({fingerprint}). Cache them again."
            )
        rows = file.get_slice("latents")
        start, stop = piece.motion_frames.start, piece.frames.stop
        run = torch.as_tensor(rows[start:stop]).float()
        still = piece.reference_still
        portraits, row = (rows, piece.reference_frame) if still is None else (file.get_slice("stills"), still)
        reference = torch.as_tensor(portraits[row : row + 1])[0].float()
        return run[piece.num_motion_frames :], run[: piece.num_motion_frames], reference

    def pictures(self, piece: ClipPiece) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pictures of the frames, the motion frames and the reference frame, uint8 ``(n, 3, height, width)``."""
        run = self._frames(piece.record, piece.motion_frames.start, piece.num_motion_frames + piece.num_frames)
        return run[piece.num_motion_frames :], run[: piece.num_motion_frames], self.reference_picture(piece)

    def reference_picture(self, piece: ClipPiece) -> np.ndarray:
        """The portrait, uint8 ``(3, height, width)``."""
        if piece.reference_still is not None and piece.record.stills is not None:
            return self._still(piece.record.stills, "pictures", piece.reference_still)
        return self._frames(piece.record, piece.reference_frame, 1)[0]

    def _still(self, stills: str, what: str, number: int) -> np.ndarray:
        row: np.ndarray = _open(self.root / stills).get_slice(what)[number : number + 1][0].numpy()
        return row

    def _frames(self, record: ClipRecord, first: int, count: int) -> np.ndarray:
        images: list[np.ndarray] = []
        # A quarter of a frame early, so that rounding never skips the one that is meant.
        start = max(first - 0.25, 0.0) / record.fps
        for frame in iter_video(self.root / record.video, start_seconds=start):
            images.append(frame.image)
            if len(images) == count:
                return np.stack(images)
        raise InputError(
            f"{self.root / record.video} ends before frame {first + count - 1}; the manifest says it has "
            f"{record.num_frames}. Prepare the clip again."
        )

    def landmarks(self, piece: ClipPiece) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks of the frames ``(frames, 478, 3)`` and of the reference ``(478, 3)``, in pixels of the clip."""
        points = self.face(piece.record)["landmarks"]
        reference = points[piece.reference_frame]
        if piece.reference_still is not None and piece.record.stills is not None:
            reference = self._still(piece.record.stills, "landmarks", piece.reference_still)
        return points[list(piece.frames)], reference

    def face(self, record: ClipRecord) -> dict[str, np.ndarray]:
        """What is stored about the face: landmarks, masks, and the identity where there is one."""
        return _tensors(self.root / record.face)

    def audio_states(self, record: ClipRecord, encoder: str) -> Tensor | None:
        """Stored states of an audio encoder ``(frames, layers, dim)`` float32; ``None`` if there are none.

        Args:
            record: the clip.
            encoder: what they are stored under, ``states_name`` of `portraitanim.config.audio.AudioConfig`.

        Raises:
            InputError: the file holds states of another encoder.
        """
        path = record.audio_states.get(encoder)
        if path is None:
            return None
        file = _open(self.root / path)
        made_by = (file.metadata() or {}).get("encoder", encoder)
        if made_by != encoder:
            raise InputError(
                f"{self.root / path} holds states of the audio encoder {made_by}, and the manifest says {encoder}. "
                f"Remove it and run prep again with --audio-encoder."
            )
        return torch.as_tensor(file.get_tensor("states")).float()

    def waveform(self, record: ClipRecord, sample_rate_hz: int = 16000) -> Tensor:
        """The clip's sound ``(samples,)``; silence for a clip without."""
        num_samples = round(record.duration_seconds * sample_rate_hz)
        if record.audio is None:
            return torch.zeros(num_samples)
        samples = load_audio(self.root / record.audio, sample_rate_hz=sample_rate_hz).samples.mean(axis=0)
        return torch.from_numpy(np.ascontiguousarray(samples, np.float32))


def no_latents(record: ClipRecord) -> str:
    """What is wrong where a clip's latents are asked for and were never made."""
    return (
        f"Clip {record.clip_id} has no cached latents. Run prep again with --latents WEIGHTS, or train with "
        "--set data.latents=encode, which encodes the frames in every step."
    )


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(count)


@lru_cache(maxsize=_MAX_OPEN_FILES)
def _open(path: Path) -> safe_open:
    if not path.is_file():
        raise InputError(f"{path} is missing, though the manifest names it. Prepare the clip again.")
    return safe_open(path, framework="pt")


@lru_cache(maxsize=1024)
def _tensors(path: Path) -> dict[str, np.ndarray]:
    file = _open(path)
    return {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118 - not a mapping
