"""The data that crosses floors. Arrays from media and faces are numpy, what the network reads is torch.

Axis order everywhere: (batch, frames, channels, height, width).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from portraitanim.errors import InputError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch

NUM_LANDMARKS = 478
"""Points of the MediaPipe face mesh with irises (topology mediapipe-478)."""

REGION_NAMES = ("pose", "expression", "lip")
"""Order of the facial regions wherever they share an axis (Hallo, section 3.2)."""


@dataclass(frozen=True, kw_only=True)
class VideoFrames:
    """Decoded pictures.

    Attributes:
        data: uint8 ``(frames, channels, height, width)``, RGB.
        fps: frames per second.
    """

    data: np.ndarray
    fps: float

    def __post_init__(self) -> None:
        if self.data.ndim != 4 or self.data.dtype != "uint8":
            raise ShapeError(
                f"Frames must be uint8 (frames, channels, height, width), got {self.data.dtype} {self.data.shape}."
            )
        if not self.fps > 0:
            raise InputError(f"Frames per second must be positive, got {self.fps}.")

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, kw_only=True)
class AudioTrack:
    """Sound.

    Attributes:
        samples: float32 ``(channels, samples)`` in [-1, 1].
        sample_rate_hz: samples per second.
    """

    samples: np.ndarray
    sample_rate_hz: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != "float32":
            raise ShapeError(
                f"Sound must be float32 (channels, samples), got {self.samples.dtype} {self.samples.shape}."
            )

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return self.samples.shape[1] / self.sample_rate_hz


@dataclass(frozen=True, kw_only=True)
class FaceLandmarks:
    """Face points over time.

    Attributes:
        points: float32 ``(frames, 478, 3)`` in pixels; z has the scale of x, nearer is smaller.
    """

    points: np.ndarray

    def __post_init__(self) -> None:
        if self.points.ndim != 3 or self.points.shape[1:] != (NUM_LANDMARKS, 3):
            raise ShapeError(f"Landmarks must be (frames, {NUM_LANDMARKS}, 3), got {self.points.shape}.")

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, kw_only=True)
class AudioFeatures:
    """States of an audio encoder.

    Attributes:
        states: ``(steps, layers, dim)``.
        rate_hz: steps per second; the video rate for wav2vec2 and log-mel, 50 for Whisper.
        encoder: name of the encoder, as in `portraitanim.config.schema.AudioConfig`.
        num_padding_steps: how many steps at the end stand for appended silence, not for sound of the file.
    """

    states: torch.Tensor
    rate_hz: float
    encoder: str
    num_padding_steps: int = 0

    @property
    def num_valid_steps(self) -> int:
        """Number of steps that stand for sound of the file."""
        return len(self.states) - self.num_padding_steps


@dataclass(frozen=True, kw_only=True)
class RegionWeights:
    """Strength of each region's audio attention; 1 is as trained, 0 switches the region off."""

    pose: float = 1.0
    expression: float = 1.0
    lip: float = 1.0

    def as_tuple(self) -> tuple[float, float, float]:
        """Weights in the order of `REGION_NAMES`."""
        return (self.pose, self.expression, self.lip)


@dataclass(frozen=True, kw_only=True)
class RegionMasks:
    """Where each region's audio attention acts, for every depth of the UNet.

    Attributes:
        levels: one tensor per depth, shallowest first, ``(batch, frames or 1, 3, tokens)`` in [0, 1]; the regions
            are in the order of `REGION_NAMES`, tokens run row by row over the feature map.
    """

    levels: tuple[torch.Tensor, ...]

    def __post_init__(self) -> None:
        for level in self.levels:
            if level.ndim != 4 or level.shape[2] != len(REGION_NAMES):
                raise ShapeError(f"Each mask level must be (batch, frames, 3, tokens), got {tuple(level.shape)}.")

    def at(self, level: int) -> torch.Tensor:
        """Masks ``(batch, frames or 1, 3, tokens)`` for one depth of the UNet."""
        return self.levels[level]

    def window(self, frames: Sequence[int]) -> RegionMasks:
        """The masks of some frames; masks that hold for all frames stay as they are."""
        return RegionMasks(levels=tuple(_take_frames(level, frames) for level in self.levels))

    @classmethod
    def joined(cls, pieces: Sequence[RegionMasks]) -> RegionMasks:
        """The masks of successive frames; masks that hold for all frames are those of the first piece."""
        import torch

        if all(level.shape[1] == 1 for level in pieces[0].levels):
            return pieces[0]
        levels = zip(*(piece.levels for piece in pieces), strict=True)
        return cls(levels=tuple(torch.cat(level, dim=1) for level in levels))

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> RegionMasks:
        """The same masks elsewhere or in another number format."""
        return RegionMasks(levels=tuple(level.to(device=device, dtype=dtype) for level in self.levels))


@dataclass(frozen=True, kw_only=True)
class PortraitConditioning:
    """What the networks read to animate a batch of portraits.

    Attributes:
        reference_image: ``(batch, 3, height, width)`` in [-1, 1].
        audio_windows: the encoder states that each frame sees, ``(batch, frames, steps, layers, dim)``.
        condition_map: face box or landmark drawing, ``(batch, frames or 1, channels, height, width)`` in [0, 1].
        identity_embedding: raw ArcFace vectors ``(batch, 512)``, or ``None`` where the network reads none.
        region_masks: where audio acts, or ``None`` for networks without regional audio attention.
        region_weights: how strongly it acts there.
        moved_portrait: the portrait where the landmarks of each frame say that it is, ``(batch, frames, 3, height,
            width)`` in [-1, 1], or ``None``, see `portraitanim.face.moving_portrait`.
    """

    reference_image: torch.Tensor
    audio_windows: torch.Tensor
    condition_map: torch.Tensor | None = None
    identity_embedding: torch.Tensor | None = None
    region_masks: RegionMasks | None = None
    region_weights: RegionWeights = field(default_factory=RegionWeights)
    moved_portrait: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.reference_image.ndim != 4:
            raise ShapeError(f"reference_image must be (batch, 3, h, w), got {tuple(self.reference_image.shape)}.")
        if self.audio_windows.ndim != 5:
            raise ShapeError(
                f"audio_windows must be (batch, frames, steps, layers, dim), got {tuple(self.audio_windows.shape)}."
            )
        if self.condition_map is not None and self.condition_map.ndim != 5:
            raise ShapeError(
                f"condition_map must be (batch, frames, channels, h, w), got {tuple(self.condition_map.shape)}."
            )

    @property
    def batch_size(self) -> int:
        """Number of portraits."""
        return self.reference_image.shape[0]

    @property
    def num_frames(self) -> int:
        """Number of video frames to make."""
        return self.audio_windows.shape[1]

    def frames_until(self, stop: int) -> int:
        """See `Conditioning`."""
        return min(stop, self.num_frames)

    def goes_on(self, frame: int) -> bool:
        """See `Conditioning`."""
        return frame < self.num_frames

    def release(self, first_frame: int) -> None:
        """See `Conditioning`; all of them are kept."""

    def window(self, frames: Sequence[int]) -> PortraitConditioning:
        """The conditioning of some frames, in the given order."""
        condition_map = None if self.condition_map is None else _take_frames(self.condition_map, frames)
        return replace(
            self,
            audio_windows=self.audio_windows[:, list(frames)],
            condition_map=condition_map,
            moved_portrait=None if self.moved_portrait is None else _take_frames(self.moved_portrait, frames),
            region_masks=None if self.region_masks is None else self.region_masks.window(frames),
        )

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> PortraitConditioning:
        """The same conditioning elsewhere or in another number format."""
        moved: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name).to(device=device, dtype=dtype)
            for name in (
                "reference_image",
                "audio_windows",
                "condition_map",
                "identity_embedding",
                "region_masks",
                "moved_portrait",
            )
        }
        return replace(self, **moved)


class Conditioning(Protocol):
    """What a pipeline animates: a `PortraitConditioning`, or something that makes one for any frames on request.

    A long video's conditions do not fit into memory at once, so the pipeline asks for one clip at a time. The end of
    sound that still arrives is not known: the pipeline asks only for the frames that it makes next.
    """

    @property
    def reference_image(self) -> torch.Tensor:
        """See `PortraitConditioning`."""
        ...

    @property
    def identity_embedding(self) -> torch.Tensor | None:
        """See `PortraitConditioning`."""
        ...

    @property
    def batch_size(self) -> int:
        """Number of portraits."""
        ...

    @property
    def num_frames(self) -> int:
        """Number of video frames to make. Where the sound still arrives, this waits for its end."""
        ...

    def frames_until(self, stop: int) -> int:
        """Wait for what frames before ``stop`` read, and for no more; fewer than ``stop`` is the end of the video."""
        ...

    def goes_on(self, frame: int) -> bool:
        """Whether the video has this frame; waits for no more than it takes to know that."""
        ...

    def release(self, first_frame: int) -> None:
        """Frames before this one will not be asked for again."""
        ...

    def window(self, frames: Sequence[int]) -> PortraitConditioning:
        """The conditioning of some frames, in the given order."""
        ...

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Conditioning:
        """The same conditioning elsewhere or in another number format."""
        ...


class Branch(Enum):
    """One evaluation of the denoising network for guidance, in the order in which branches share a batch."""

    UNCONDITIONAL = "unconditional"
    """Nothing: null identity, no reference, no condition map, no audio."""
    WITHOUT_AUDIO = "without audio"
    """The portrait, but no audio."""
    FULL = "full"
    """Portrait and audio."""


@dataclass(frozen=True, kw_only=True)
class BatchLayout:
    """How a batch is made of branches: all portraits of the first branch, then all of the next.

    What is missing is missing from leading items: so it is a number, and never a mask.

    Attributes:
        num_portraits: portraits that are animated at once.
        branches: the branches, in the order of `Branch`.
    """

    num_portraits: int
    branches: tuple[Branch, ...] = (Branch.FULL,)

    def __post_init__(self) -> None:
        order = list(Branch)
        if not self.branches or list(self.branches) != sorted(set(self.branches), key=order.index):
            raise InputError(f"Branches must be distinct and in the order of Branch, got {self.branches}.")

    @property
    def num_items(self) -> int:
        """Batch items in all."""
        return self.num_portraits * len(self.branches)

    @property
    def num_without_reference(self) -> int:
        """Leading items that see neither reference nor condition map."""
        return self.num_portraits * self.branches.count(Branch.UNCONDITIONAL)

    @property
    def num_without_audio(self) -> int:
        """Leading items that hear nothing."""
        return self.num_portraits * sum(branch is not Branch.FULL for branch in self.branches)


def _take_frames(tensor: torch.Tensor, frames: Sequence[int]) -> torch.Tensor:
    return tensor if tensor.shape[1] == 1 else tensor[:, list(frames)]
