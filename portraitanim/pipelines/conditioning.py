"""Portrait and driving signal → what the networks read, made clip by clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from portraitanim.config.schema import Preset
from portraitanim.face.drawing import draw_landmarks
from portraitanim.face.moving_portrait import MovingPortrait
from portraitanim.face.regions import mask_pyramid
from portraitanim.pipelines.driving import no_sound_windows
from portraitanim.pipelines.portrait import Portrait
from portraitanim.types import PortraitConditioning, RegionMasks, RegionWeights


class Sound(Protocol):
    """States of a sound: `SoundStates` of a whole one, `SoundStream` of one that is read as the video is made."""

    @property
    def num_frames(self) -> int:
        """Frames that the networks make for the whole sound."""
        ...

    def frames_until(self, stop: int) -> int:
        """See `portraitanim.types.Conditioning`."""
        ...

    def goes_on(self, frame: int) -> bool:
        """See `portraitanim.types.Conditioning`."""
        ...

    def sounding_until(self, stop: int) -> int:
        """How many frames before ``stop``, which were made already, belong to the sound."""
        ...

    def release(self, first_frame: int) -> None:
        """See `portraitanim.types.Conditioning`."""
        ...

    def windows(self, frames: Sequence[int]) -> torch.Tensor:
        """``(1, frames, rows, layers, width)``."""
        ...


class Motion(Protocol):
    """Landmarks of the portrait over time."""

    def landmarks(self, frames: Sequence[int]) -> np.ndarray:
        """Float32 ``(frames, 478, 2)`` in pixels of the portrait."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class AnimationConditioning:
    """The conditions of one video, of which only the frames in hand exist as tensors. A `types.Conditioning`.

    Attributes:
        reference_image: ``(1, 3, size, size)`` in [-1, 1].
        identity_embedding: ``(1, 512)`` or ``None``.
        region_masks: one set for all frames, or ``None`` for networks without regional audio attention.
        region_weights: strength of each region.
        num_motion_frames: frames to make where only landmarks drive; where there is sound, it decides.
        sound: states of the sound, or ``None`` where only landmarks drive.
        silence_shape: rows, layers and width of the audio windows where there is no sound.
        face_map: ``(1, 1, channels, size, size)`` in [0, 1], or ``None``.
        motion: driving landmarks, or ``None``.
        parts: face parts that are drawn.
        draws_landmarks: whether the condition map is a drawing; black where nothing drives.
        moving: the portrait, for networks that see it where the driving landmarks say that it is; else ``None``.
        device: where windows are made.
        dtype: their number format.
    """

    reference_image: torch.Tensor
    identity_embedding: torch.Tensor | None
    region_masks: RegionMasks | None
    region_weights: RegionWeights
    num_motion_frames: int
    sound: Sound | None
    silence_shape: tuple[int, int, int]
    face_map: torch.Tensor | None
    motion: Motion | None
    parts: tuple[str, ...]
    draws_landmarks: bool
    moving: MovingPortrait | None = None
    device: torch.device | None = None
    dtype: torch.dtype | None = None

    @property
    def batch_size(self) -> int:
        """One portrait."""
        return 1

    @property
    def num_frames(self) -> int:
        """See `portraitanim.types.Conditioning`."""
        return self.num_motion_frames if self.sound is None else self.sound.num_frames

    def frames_until(self, stop: int) -> int:
        """See `portraitanim.types.Conditioning`."""
        return min(stop, self.num_motion_frames) if self.sound is None else self.sound.frames_until(stop)

    def goes_on(self, frame: int) -> bool:
        """See `portraitanim.types.Conditioning`."""
        return frame < self.num_motion_frames if self.sound is None else self.sound.goes_on(frame)

    def shown_until(self, stop: int) -> int:
        """How many frames before ``stop``, which were made already, the video shows: no surplus behind the sound."""
        return min(stop, self.num_motion_frames) if self.sound is None else self.sound.sounding_until(stop)

    def release(self, first_frame: int) -> None:
        """See `portraitanim.types.Conditioning`."""
        if self.sound is not None:
            self.sound.release(first_frame)

    def window(self, frames: Sequence[int]) -> PortraitConditioning:
        """The conditions of some frames, as tensors."""
        if self.sound is not None:
            audio = self.sound.windows(frames)
        else:
            audio = no_sound_windows(*self.silence_shape, len(frames))
        points = self._points(frames)
        made = PortraitConditioning(
            reference_image=self.reference_image,
            audio_windows=audio,
            condition_map=self._condition_map(points),
            identity_embedding=self.identity_embedding,
            region_masks=self.region_masks,
            region_weights=self.region_weights,
            moved_portrait=self._moved_portrait(points),
        )
        return made.to(self.device, self.dtype)

    def condition_map(self, frames: Sequence[int]) -> torch.Tensor | None:
        """Face box or landmark drawing ``(1, frames or 1, channels, size, size)`` in [0, 1]."""
        return self._condition_map(self._points(frames))

    def _points(self, frames: Sequence[int]) -> np.ndarray | None:
        return None if self.motion is None else self.motion.landmarks(frames)

    def _condition_map(self, points: np.ndarray | None) -> torch.Tensor | None:
        if not self.draws_landmarks:
            return self.face_map
        height, width = self.reference_image.shape[-2:]
        if points is None:
            return torch.zeros(1, 1, 3, height, width)
        size = (height, width)
        drawings = np.stack([draw_landmarks(face, size, size, self.parts) for face in points])
        return torch.from_numpy(drawings)[None].float() / 255

    def _moved_portrait(self, points: np.ndarray | None) -> torch.Tensor | None:
        if self.moving is None or points is None:
            return None
        return torch.from_numpy(self.moving.moved(points, self.parts))[None].float() / 127.5 - 1

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> AnimationConditioning:
        """The same conditions, whose windows are made elsewhere or in another number format."""
        identity = self.identity_embedding
        return replace(
            self,
            reference_image=self.reference_image.to(device=device, dtype=dtype),
            identity_embedding=None if identity is None else identity.to(device=device, dtype=dtype),
            device=device,
            dtype=dtype,
        )


def make_conditioning(
    portrait: Portrait,
    preset: Preset,
    *,
    sound: Sound | None,
    motion: Motion | None,
    num_motion_frames: int = 0,
    parts: tuple[str, ...] = (),
    weights: RegionWeights | None = None,
) -> AnimationConditioning:
    """Bring portrait and driving signal together.

    Args:
        portrait: from `prepare_portrait`.
        preset: the system.
        sound: its states, or ``None``.
        motion: landmarks of the portrait over time, or ``None``.
        num_motion_frames: frames to make where there is no sound.
        parts: which parts of the landmarks are drawn.
        weights: strength of each region.
    """
    size_px = portrait.crop.size_px
    regional = preset.network.denoising_unet.audio_attention_dim is not None
    num_levels = len(preset.network.denoising_unet.block_out_channels)
    pixels = torch.from_numpy(portrait.image).float() / 127.5 - 1
    face_map = portrait.face_map
    return AnimationConditioning(
        reference_image=pixels[None],
        identity_embedding=None if portrait.identity is None else torch.from_numpy(portrait.identity)[None],
        region_masks=mask_pyramid(portrait.masks, (size_px, size_px), num_levels) if regional else None,
        region_weights=weights or RegionWeights(),
        num_motion_frames=num_motion_frames,
        sound=sound,
        silence_shape=silence_shape(preset),
        face_map=None if face_map is None else torch.from_numpy(face_map)[None, None].float() / 255,
        motion=motion,
        parts=parts,
        draws_landmarks=preset.condition_map == "landmarks",
        moving=MovingPortrait(portrait.image, portrait.landmarks) if preset.moves_portrait else None,
    )


def silence_shape(preset: Preset) -> tuple[int, int, int]:
    """Rows, layers and width of the audio windows that these networks read."""
    projection = preset.network.audio_projection
    if projection is not None:
        return (projection.window, projection.num_layers, projection.feature_dim)
    width = preset.network.denoising_unet.cross_attention_dim or 0
    # EchoMimic: ten rows of all five depths of Whisper tiny. Other encoders have other depths, and zeros say the same
    # whatever their number: without biases, attention to them is zero.
    return (10, 5, width)
