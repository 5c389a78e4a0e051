"""One call of the pipeline: what stays the same while its clips and steps go by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.schema import SamplingConfig, to_dict
from portraitanim.diffusion.guidance import Guidance
from portraitanim.diffusion.noise import mixed_noise
from portraitanim.diffusion.windows import overlapping_windows, window_weights
from portraitanim.errors import InputError, ShapeError
from portraitanim.models.deep_features import DeepFeatures
from portraitanim.models.portrait_network import PortraitNetwork, ReferenceFeatures
from portraitanim.models.unet_context import UNetContext
from portraitanim.pipelines.feature_cache import PortraitMemory
from portraitanim.types import BatchLayout, Branch, Conditioning, RegionMasks

Generators = torch.Generator | list[torch.Generator] | None
_ContextOf = Callable[[Sequence[Sequence[int]]], UNetContext]

_MAX_FRAMES_PROJECTED_AT_ONCE = 480
"""Overlapping windows read keys and values of the whole video up to this length (at full size about 5 MB a frame);
beyond it each window projects its own again, which costs a tenth of a per cent."""

_MAX_FRAMES_READ_AT_ONCE = 32
"""Condition maps are pictures: those of a whole video at once would fill the memory."""


@dataclass(frozen=True, kw_only=True)
class SamplingRun:
    """The networks with the conditions of one video.

    Attributes:
        network: the networks.
        sampling: the resolved options of the call.
        guidance: how branches are combined.
        branches: the branches that guided steps evaluate.
        conditioning: what the networks read, on their device and in their number format.
        portrait_latents: scaled latents of the portraits ``(portraits, channels, height, width)``.
        identity: identity tokens of all batch items (null for the unconditional branch), or ``None``.
        reference: the portraits' features, projected.
        generator: source of the noise.
        latents: noise that was given, ``(portraits, frames, channels, height, width)``, or ``None``.
        encode: pictures ``(n, 3, height, width)`` in [-1, 1] → scaled latents.
        execution: how much is computed at once.
        decoder: autoencoder that makes pictures.
        common_noise: what the noise of all frames shares, ``(portraits, channels, 1, height, width)``, or ``None``.
    """

    network: PortraitNetwork
    sampling: SamplingConfig
    guidance: Guidance
    branches: tuple[Branch, ...]
    conditioning: Conditioning
    portrait_latents: Tensor
    identity: Tensor | None
    reference: ReferenceFeatures
    generator: Generators
    latents: Tensor | None
    encode: Callable[[Tensor], Tensor]
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    decoder: Any = None
    common_noise: Tensor | None = None
    _stopped: Event = field(default_factory=Event)

    @classmethod
    def start(
        cls,
        network: PortraitNetwork,
        sampling: SamplingConfig,
        conditioning: Conditioning,
        encode: Callable[[Tensor], Tensor],
        generator: Generators,
        latents: Tensor | None,
        execution: ExecutionConfig,
        decoder: Any,
        memory: PortraitMemory,
    ) -> SamplingRun:
        """Read the portraits, once for the whole video."""
        pixels = conditioning.reference_image
        portrait_latents = memory.remembered("latents", (pixels,), lambda: {"latents": encode(pixels)})["latents"]
        portrait_latents = portrait_latents.to(pixels)
        guidance = Guidance.from_scales(
            sampling.guidance_scale,
            sampling.image_guidance_scale,
            sampling.audio_guidance_scale,
            sampling.guidance_interval,
        )
        branches = guidance.all_branches(sampling.num_inference_steps)
        portrait = identity = network.identity_tokens(conditioning.identity_embedding)
        null = network.null_identity_tokens(conditioning.identity_embedding)
        rows = portrait_latents
        if portrait is not None and null is not None:
            identity = torch.cat([null if branch is Branch.UNCONDITIONAL else portrait for branch in branches])
            if network.quirks.tile_reference_rows and Branch.UNCONDITIONAL in branches:
                # Published: the portrait is also read with the null identity, and half of the frames see that.
                portrait, rows = torch.cat([null, portrait]), torch.cat([rows, rows])
        num_motion = sampling.num_motion_frames
        features = memory.remembered(
            "reference",
            (rows, portrait, num_motion, to_dict(network.quirks)),
            lambda: network.encode_reference(rows, portrait, num_motion),
        )
        features = {name: feature.to(rows) for name, feature in features.items()}
        return cls(
            network=network,
            sampling=sampling,
            guidance=guidance,
            branches=branches,
            conditioning=conditioning,
            portrait_latents=portrait_latents,
            identity=identity,
            reference=network.project_reference(features, identity, portrait_latents),
            generator=generator,
            latents=latents,
            common_noise=_noise(portrait_latents, 1, generator) if sampling.shared_noise and latents is None else None,
            encode=encode,
            execution=execution,
            decoder=decoder,
        )

    def stop(self) -> None:
        """Let a thread that still makes a clip end at its next step."""
        self._stopped.set()

    def raise_if_stopped(self) -> None:
        """End the calling thread's work where nobody wants it any more."""
        if self._stopped.is_set():
            raise CancelledError

    def initial_latents(self, first_frame: int, num_frames: int) -> Tensor:
        """Noise ``(portraits, num_frames, channels, height, width)`` for the frames from ``first_frame`` on.

        Raises:
            ShapeError: latents were given and do not fit.
        """
        batch, channels, height, width = self.portrait_latents.shape
        if self.latents is not None:
            noise = self.latents[:, first_frame : first_frame + num_frames]
            if noise.shape != (batch, num_frames, channels, height, width):
                wanted, last = (batch, num_frames, channels, height, width), first_frame + num_frames - 1
                raise ShapeError(
                    f"latents for frames {first_frame} to {last} must be {wanted}, got {tuple(noise.shape)}."
                )
        else:
            noise = _noise(self.portrait_latents, num_frames, self.generator)
            if self.common_noise is not None:
                noise = mixed_noise(noise, self.common_noise, self.sampling.shared_noise)
            noise = noise.transpose(1, 2)
        clamp = self.sampling.noise_clamp
        noise = noise if clamp is None else noise.clamp(-clamp, clamp)
        return noise if self.sampling.noise_scale == 1 else noise * self.sampling.noise_scale

    def encode_pictures(self, pixels: Tensor) -> Tensor:
        """Scaled latents of frames ``(portraits, frames, 3, height, width)`` in [-1, 1], as many at once as decoded."""
        pieces = pixels.flatten(0, 1).split(self.execution.num_frames_per_decode)
        return torch.cat([self.encode(piece) for piece in pieces]).unflatten(0, pixels.shape[:2])

    def motion_features(self, latents: Tensor) -> dict[str, Tensor]:
        """Features of the frames before a clip ``(portraits, motion frames, channels, height, width)``."""
        if self.identity is None:
            return self.network.encode_motion(latents, None)
        return self.network.encode_motion(latents.repeat(len(self.branches), 1, 1, 1, 1), self.identity)

    def clip_context(self, frames: Sequence[int], motion: Mapping[str, Tensor] | None = None) -> UNetContext:
        """Conditions of some frames of the video."""
        network = self.network
        tokens: list[Tensor] = []
        conditions: list[Tensor] = []
        masks: list[RegionMasks] = []
        moved: list[Tensor] = []
        for start in range(0, len(frames), _MAX_FRAMES_READ_AT_ONCE):
            piece = self.conditioning.window(frames[start : start + _MAX_FRAMES_READ_AT_ONCE])
            tokens.append(network.audio_tokens(piece.audio_windows))
            if piece.condition_map is not None and not (conditions and piece.condition_map.shape[1] == 1):
                maps = piece.condition_map.split(self.execution.num_frames_per_decode, dim=1)
                conditions += [network.condition_encoder(part) for part in maps]
            if piece.region_masks is not None:
                masks.append(piece.region_masks)
            if piece.moved_portrait is not None:
                moved.append(self.encode_pictures(piece.moved_portrait))
        return network.prepare(
            BatchLayout(num_portraits=piece.batch_size, branches=self.branches),
            reference=self.reference,
            audio_tokens=torch.cat(tokens, dim=1),
            condition=torch.cat(conditions, dim=1) if conditions else None,
            motion=motion,
            masks=RegionMasks.joined(masks) if masks else None,
            weights=piece.region_weights,
            moved_latents=torch.cat(moved, dim=1) if moved else None,
        )

    def deep_features(self) -> DeepFeatures | None:
        """A place for what a clip's deep stages make, where not every step computes them."""
        return DeepFeatures() if self.sampling.deep_every_steps > 1 else None

    def window_deep_features(self) -> Mapping[int, DeepFeatures] | None:
        """The same for each group of windows of a video, by the number of its first window.

        Raises:
            InputError: the video is so long that this would fill the memory.
        """
        if self.sampling.deep_every_steps == 1:
            return None
        if self.conditioning.num_frames > _MAX_FRAMES_PROJECTED_AT_ONCE:
            raise InputError(
                f"sampling.deep_every_steps keeps features of every frame of a video that is made by overlapping "
                f"windows: at most {_MAX_FRAMES_PROJECTED_AT_ONCE} frames, got {self.conditioning.num_frames}. "
                "Use --set sampling.deep_every_steps=1, or make the video in parts."
            )
        return defaultdict(DeepFeatures)

    def window_contexts(self) -> _ContextOf:
        """A function that gives the conditions of some windows of the video, which are read at once."""
        num_frames = self.conditioning.num_frames
        if num_frames <= _MAX_FRAMES_PROJECTED_AT_ONCE:
            return self.clip_context(range(num_frames)).windows

        def projected(windows: Sequence[Sequence[int]]) -> UNetContext:
            frames = [frame for window in windows for frame in window]
            length = len(windows[0])
            return self.clip_context(frames).windows([range(i, i + length) for i in range(0, len(frames), length)])

        return projected

    def clip_velocity(
        self, sample: Tensor, timestep: Tensor, step: int, context: UNetContext, deep: DeepFeatures | None = None
    ) -> Tensor:
        """Guided velocity of the frames of one clip or window.

        Args:
            sample: latents as the scheduler scales them, ``(portraits, frames, channels, height, width)``.
            timestep: of the training schedule.
            step: number of the step, which decides whether guidance acts.
            context: the conditions of these frames.
            deep: what earlier steps kept of these frames, where not every step computes the deep stages.
        """
        branches = self.guidance.branches(step, self.sampling.num_inference_steps)
        if branches != self.branches:
            context = context.full_branch(len(sample))
        if deep is not None and step % self.sampling.deep_every_steps == 0:
            deep.forget()
        if self.execution.branches_one_by_one and len(branches) > 1:
            if deep is not None:
                raise InputError("branches_one_by_one cannot be used with sampling.deep_every_steps above 1.")
            count = len(sample)
            parts = [context.items(first, first + count) for first in range(0, count * len(branches), count)]
            velocity = torch.cat([self.network.denoise(sample, timestep, part) for part in parts])
        else:
            velocity = self.network.denoise(sample.repeat(len(branches), 1, 1, 1, 1), timestep, context, deep)
        return self.guidance.combine(velocity, branches)

    def video_velocity(
        self,
        sample: Tensor,
        timestep: Tensor,
        step: int,
        context_of: _ContextOf,
        deep_of: Mapping[int, DeepFeatures] | None = None,
    ) -> Tensor:
        """Guided velocity of all frames of the video: each frame's mean over the windows that hold it.

        ``deep_of`` holds what deep stages made by the first window of a group: until it is made anew, windows stay.
        """
        sampling, num_frames = self.sampling, sample.shape[1]
        moved = step - step % sampling.deep_every_steps
        windows = overlapping_windows(
            num_frames,
            sampling.num_frames_per_clip,
            sampling.num_overlap_frames,
            shift=sampling.window_shift_per_step * moved,
        )
        total = torch.zeros_like(sample)
        at_once = self.execution.num_windows_per_call
        for first in range(0, len(windows), at_once):
            group = windows[first : first + at_once]
            # Windows are rows of the batch beside one another: (portraits · windows, frames, …).
            rows = sample[:, [list(window) for window in group]].flatten(0, 1)
            deep = None if deep_of is None else deep_of[first]
            velocity = self.clip_velocity(rows, timestep, step, context_of(group), deep)
            velocity = velocity.unflatten(0, (-1, len(group)))
            for number, window in enumerate(group):
                total[:, list(window)] += velocity[:, number]
        guided = len(self.guidance.branches(step, sampling.num_inference_steps)) > 1
        if self.network.quirks.sum_overlaps_without_guidance and not guided:
            return total
        return total * total.new_tensor(window_weights(windows, num_frames))[:, None, None, None]


def _noise(like: Tensor, num_frames: int, generator: Generators) -> Tensor:
    """``(portraits, channels, num_frames, height, width)``: drawn as the published code does, for the same seeds."""
    batch, channels, height, width = like.shape
    size = (batch, channels, num_frames, height, width)
    return randn_tensor(size, generator=generator, device=like.device, dtype=like.dtype)
