"""One call of the pipeline: what stays the same while its clips and steps go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from portraitanim.config.schema import SamplingConfig
from portraitanim.diffusion.guidance import Guidance
from portraitanim.diffusion.windows import overlapping_windows, window_weights
from portraitanim.errors import ShapeError
from portraitanim.models.portrait_network import PortraitNetwork, ReferenceFeatures
from portraitanim.models.unet_context import UNetContext
from portraitanim.types import BatchLayout, Branch, Conditioning, RegionMasks

Generators = torch.Generator | list[torch.Generator] | None

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

    @classmethod
    def start(
        cls,
        network: PortraitNetwork,
        sampling: SamplingConfig,
        conditioning: Conditioning,
        encode: Callable[[Tensor], Tensor],
        generator: Generators,
        latents: Tensor | None,
    ) -> SamplingRun:
        """Read the portraits, once for the whole video."""
        portrait_latents = encode(conditioning.reference_image)
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
        features = network.encode_reference(rows, portrait, sampling.num_motion_frames)
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
            encode=encode,
        )

    def initial_latents(self, first_frame: int, num_frames: int) -> Tensor:
        """Noise ``(portraits, num_frames, channels, height, width)`` for the frames from ``first_frame`` on.

        Raises:
            ShapeError: latents were given and do not fit.
        """
        batch, channels, height, width = self.portrait_latents.shape
        if self.latents is not None:
            noise = self.latents[:, first_frame : first_frame + num_frames]
            if noise.shape != (batch, num_frames, channels, height, width):
                raise ShapeError(
                    f"latents for frames {first_frame} to {first_frame + num_frames - 1} must be "
                    f"{(batch, num_frames, channels, height, width)}, got {tuple(noise.shape)}."
                )
        else:
            # Channels before frames, as the published code draws: the same seed gives the same noise.
            noise = randn_tensor(
                (batch, channels, num_frames, height, width),
                generator=self.generator,
                device=self.portrait_latents.device,
                dtype=self.portrait_latents.dtype,
            ).transpose(1, 2)
        clamp = self.sampling.noise_clamp
        noise = noise if clamp is None else noise.clamp(-clamp, clamp)
        return noise if self.sampling.noise_scale == 1 else noise * self.sampling.noise_scale

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
                conditions.append(network.condition_encoder(piece.condition_map))
            if piece.region_masks is not None:
                masks.append(piece.region_masks)
            if piece.moved_portrait is not None:
                pictures = piece.moved_portrait
                moved.append(self.encode(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2]))
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

    def window_contexts(self) -> Callable[[Sequence[int]], UNetContext]:
        """A function that gives the conditions of a window of the video."""
        num_frames = self.conditioning.num_frames
        if num_frames > _MAX_FRAMES_PROJECTED_AT_ONCE:
            return self.clip_context
        return self.clip_context(range(num_frames)).window

    def clip_velocity(self, sample: Tensor, timestep: Tensor, step: int, context: UNetContext) -> Tensor:
        """Guided velocity of the frames of one clip or window.

        Args:
            sample: latents as the scheduler scales them, ``(portraits, frames, channels, height, width)``.
            timestep: of the training schedule.
            step: number of the step, which decides whether guidance acts.
            context: the conditions of these frames.
        """
        branches = self.guidance.branches(step, self.sampling.num_inference_steps)
        if branches != self.branches:
            context = context.full_branch(len(sample))
        velocity = self.network.denoise(sample.repeat(len(branches), 1, 1, 1, 1), timestep, context)
        return self.guidance.combine(velocity, branches)

    def video_velocity(
        self, sample: Tensor, timestep: Tensor, step: int, context_of: Callable[[Sequence[int]], UNetContext]
    ) -> Tensor:
        """Guided velocity of all frames of the video: each frame's mean over the windows that hold it."""
        sampling, num_frames = self.sampling, sample.shape[1]
        windows = overlapping_windows(
            num_frames,
            sampling.num_frames_per_clip,
            sampling.num_overlap_frames,
            shift=sampling.window_shift_per_step * step,
        )
        total = torch.zeros_like(sample)
        for window in windows:
            index = list(window)
            total[:, index] += self.clip_velocity(sample[:, index], timestep, step, context_of(window))
        guided = len(self.guidance.branches(step, sampling.num_inference_steps)) > 1
        if self.network.quirks.sum_overlaps_without_guidance and not guided:
            return total
        return total * total.new_tensor(window_weights(windows, num_frames))[:, None, None, None]
