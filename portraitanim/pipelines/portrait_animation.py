"""The pipeline: conditioning in, frames out, clip by clip or by overlapping windows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL.Image import Image
from torch import Tensor

from portraitanim.config.schema import Quirks, SamplingConfig, from_dict
from portraitanim.diffusion.guidance import Guidance
from portraitanim.diffusion.schedule import check_scheduler
from portraitanim.diffusion.windows import overlapping_windows, sequential_clips
from portraitanim.errors import InputError, ShapeError
from portraitanim.models.denoising_unet import DenoisingUNet
from portraitanim.models.embedders import AudioProjection, ConditionEncoder, IdentityProjection
from portraitanim.models.portrait_network import PortraitNetwork, ReferenceFeatures
from portraitanim.models.reference_unet import ReferenceUNet
from portraitanim.models.unet_context import UNetContext
from portraitanim.types import BatchLayout, Branch, PortraitConditioning

StepCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor]]

_MAX_FRAMES_PROJECTED_AT_ONCE = 480
"""Overlapping windows read keys and values of the whole video up to this length (at full size about 5 MB a frame);
beyond it each window projects its own again, which costs a tenth of a per cent."""


@dataclass
class PortraitAnimationOutput(BaseOutput):
    """Result of `PortraitAnimationPipeline`.

    Attributes:
        frames: ``(batch, frames, 3, height, width)`` in [0, 1] as tensor or array, a list of lists of PIL images, or
            latents ``(batch, frames, channels, height / 8, width / 8)``.
    """

    frames: Tensor | np.ndarray | list[list[Image]]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What stays the same during one call."""

    network: PortraitNetwork
    sampling: SamplingConfig
    guidance: Guidance
    branches: tuple[Branch, ...]
    conditioning: PortraitConditioning
    portrait_latents: Tensor
    identity: Tensor | None
    null_identity: Tensor | None
    reference: ReferenceFeatures
    generator: torch.Generator | list[torch.Generator] | None
    latents: Tensor | None
    on_step_end: StepCallback | None

    @property
    def layout(self) -> BatchLayout:
        return BatchLayout(num_portraits=self.conditioning.batch_size, branches=self.branches)


class PortraitAnimationPipeline(DiffusionPipeline):
    """Animate portraits with Hallo, EchoMimic or networks of the same family.

    Args:
        vae: autoencoder of the latents.
        reference_unet: reads the portrait.
        denoising_unet: predicts the velocity of the frames.
        condition_encoder: reads the face box or landmark drawing.
        scheduler: any diffusers scheduler with v-prediction, see `portraitanim.diffusion.schedule`.
        identity_projection: reads the face embedding; ``None`` for networks without.
        audio_projection: makes audio tokens; ``None`` for networks that read encoder states.
        sampling: defaults of a call, the fields of `SamplingConfig`.
        quirks: the fields of `Quirks` that the weights need.
        preset: name of the system that the weights belong to.
    """

    model_cpu_offload_seq = "identity_projection->audio_projection->condition_encoder->reference_unet->denoising_unet->vae"
    _optional_components = ["identity_projection", "audio_projection"]  # noqa: RUF012 - diffusers reads a list
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(
        self,
        vae: AutoencoderKL,
        reference_unet: ReferenceUNet,
        denoising_unet: DenoisingUNet,
        condition_encoder: ConditionEncoder,
        scheduler: SchedulerMixin,
        identity_projection: IdentityProjection | None = None,
        audio_projection: AudioProjection | None = None,
        sampling: dict[str, Any] | None = None,
        quirks: dict[str, Any] | None = None,
        preset: str = "",
    ) -> None:
        super().__init__()
        check_scheduler(scheduler)
        self.register_modules(
            vae=vae,
            reference_unet=reference_unet,
            denoising_unet=denoising_unet,
            condition_encoder=condition_encoder,
            scheduler=scheduler,
            identity_projection=identity_projection,
            audio_projection=audio_projection,
        )
        self.register_to_config(
            sampling=dict(sampling or asdict(SamplingConfig())),
            quirks=dict(quirks or asdict(Quirks())),
            preset=preset,
        )

    @property
    def network(self) -> PortraitNetwork:
        """The networks as one module: what training wraps."""
        return PortraitNetwork(
            self.reference_unet,
            self.denoising_unet,
            self.condition_encoder,
            self.identity_projection,
            self.audio_projection,
            from_dict(Quirks, dict(self.config.quirks), "quirks"),
        )

    @torch.no_grad()
    def __call__(
        self,
        conditioning: PortraitConditioning,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pt",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        **sampling: Any,
    ) -> PortraitAnimationOutput | tuple:
        """Animate the portraits of ``conditioning``.

        Args:
            conditioning: what the networks read.
            num_inference_steps: denoising steps; by default those of the weights.
            guidance_scale: one scale for portrait and sound; 1 or less is no guidance.
            generator: source of the noise, on the CPU by preference: then a seed means the same on every device.
            latents: initial noise ``(batch, frames, channels, height / 8, width / 8)`` instead; for clip by clip,
                frames fill whole clips.
            output_type: ``pt``, ``np``, ``pil`` or ``latent``.
            return_dict: whether to return `PortraitAnimationOutput` or a tuple.
            callback_on_step_end: called as ``callback(pipe, step, timestep, {"latents": …})`` after each step; what it
                returns under ``latents`` replaces them.
            **sampling: any other field of `SamplingConfig`, such as ``audio_guidance_scale``, ``image_guidance_scale``,
                ``guidance_interval``, ``num_frames_per_clip`` or ``num_overlap_frames``.

        Raises:
            InputError: an unknown option or output type.
            ShapeError: sizes that do not fit the networks.
        """
        if output_type not in ("pt", "np", "pil", "latent"):
            raise InputError(f"output_type must be pt, np, pil or latent, got {output_type!r}.")
        pieces = self.stream(
            conditioning,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            generator=generator,
            latents=latents,
            callback_on_step_end=callback_on_step_end,
            decode=output_type != "latent",
            **sampling,
        )
        frames = self._as_output_type(torch.cat([piece.cpu() for piece in pieces], dim=1), output_type)
        self.maybe_free_model_hooks()
        return PortraitAnimationOutput(frames=frames) if return_dict else (frames,)

    @torch.no_grad()
    def stream(
        self,
        conditioning: PortraitConditioning,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        callback_on_step_end: StepCallback | None = None,
        decode: bool = True,
        **sampling: Any,
    ) -> Iterator[Tensor]:
        """Yield frames as soon as they exist, ``(batch, frames, 3, height, width)`` in [0, 1] (or latents).

        Arguments are those of `__call__`; what was yielded is not kept, so memory does not grow with the video.
        """
        run = self._start(conditioning, sampling, generator, latents, callback_on_step_end)
        self.scheduler.set_timesteps(run.sampling.num_inference_steps, device=self._execution_device)
        if run.sampling.plan == "sequential":
            yield from self._clip_by_clip(run, decode)
        else:
            yield from self._by_windows(run, decode)

    def _start(
        self,
        conditioning: PortraitConditioning,
        options: dict[str, Any],
        generator: torch.Generator | list[torch.Generator] | None,
        latents: Tensor | None,
        on_step_end: StepCallback | None,
    ) -> _Run:
        given = {name: value for name, value in options.items() if value is not None}
        sampling: SamplingConfig = from_dict(SamplingConfig, {**self.config.sampling, **given}, "sampling")
        self._check(conditioning, sampling)
        guidance = Guidance.from_scales(
            sampling.guidance_scale,
            sampling.image_guidance_scale,
            sampling.audio_guidance_scale,
            sampling.guidance_interval,
        )
        network = self.network
        conditioning = conditioning.to(self._execution_device, self.denoising_unet.dtype)
        branches = guidance.all_branches(sampling.num_inference_steps)
        identity = network.identity_tokens(conditioning.identity_embedding)
        null_identity = None
        if identity is not None and conditioning.identity_embedding is not None:
            null_identity = network.identity_tokens(torch.zeros_like(conditioning.identity_embedding))
        portrait_latents = self._encode(conditioning.reference_image)
        features = network.encode_reference(
            *self._reference_rows(network, portrait_latents, identity, null_identity, branches),
            num_motion_frames=sampling.num_motion_frames,
        )
        return _Run(
            network=network,
            sampling=sampling,
            guidance=guidance,
            branches=branches,
            conditioning=conditioning,
            portrait_latents=portrait_latents,
            identity=identity,
            null_identity=null_identity,
            reference=network.project_reference(features, _of_branches(branches, identity, null_identity)),
            generator=generator,
            latents=None if latents is None else latents.to(self._execution_device, self.denoising_unet.dtype),
            on_step_end=on_step_end,
        )

    def _reference_rows(
        self,
        network: PortraitNetwork,
        latents: Tensor,
        identity: Tensor | None,
        null_identity: Tensor | None,
        branches: tuple[Branch, ...],
    ) -> tuple[Tensor, Tensor | None]:
        """Rows of the reference pass: the portraits, preceded by the same with null identity where a quirk needs it."""
        if network.quirks.tile_reference_rows and Branch.UNCONDITIONAL in branches and identity is not None:
            return torch.cat([latents, latents]), torch.cat([null_identity, identity])
        return latents, identity

    def _check(self, conditioning: PortraitConditioning, sampling: SamplingConfig) -> None:
        height, width = conditioning.reference_image.shape[-2:]
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        if height % factor or width % factor:
            raise ShapeError(f"Height and width must be multiples of {factor}, got {height}×{width}.")
        longest = sampling.num_frames_per_clip + sampling.num_motion_frames
        if longest > self.denoising_unet.config.max_motion_positions:
            raise InputError(
                f"num_frames_per_clip + num_motion_frames is {longest}, the motion modules know "
                f"{self.denoising_unet.config.max_motion_positions} positions. Choose a shorter clip."
            )
        if self.denoising_unet.has_regional_audio and conditioning.region_masks is None:
            raise InputError("This network's audio attention works by region: give region_masks.")
        if not self.denoising_unet.has_regional_audio and conditioning.region_weights.as_tuple() != (1.0, 1.0, 1.0):
            raise InputError("This network has no regional audio attention: region weights would have no effect.")

    def _clip_by_clip(self, run: _Run, decode: bool) -> Iterator[Tensor]:
        num_motion = run.sampling.num_motion_frames
        motion_pixels = run.conditioning.reference_image[:, None].expand(-1, num_motion, -1, -1, -1)
        first = 0
        for clip in sequential_clips(run.conditioning.num_frames, run.sampling.num_frames_per_clip):
            motion = self._encode_motion(run, motion_pixels) if num_motion else None
            context = self._prepare(run, run.conditioning.window(clip.frames), motion)
            latents = self._initial_latents(run, first, len(clip.frames))
            latents = self._denoise(run, latents, lambda frames, context=context: context)
            first += len(clip.frames)
            if not decode and not num_motion:
                yield latents[:, : clip.num_new]
                continue
            pixels = torch.cat(list(self._decode(latents)), dim=1)
            motion_pixels = (pixels[:, len(clip.frames) - num_motion :] * 2 - 1).to(latents.dtype)
            yield (pixels if decode else latents)[:, : clip.num_new]

    def _by_windows(self, run: _Run, decode: bool) -> Iterator[Tensor]:
        num_frames = run.conditioning.num_frames
        if num_frames <= _MAX_FRAMES_PROJECTED_AT_ONCE:
            context_of = self._prepare(run, run.conditioning, None).window
        else:

            def context_of(frames: tuple[int, ...]) -> UNetContext:
                return self._prepare(run, run.conditioning.window(frames), None)

        latents = self._denoise(run, self._initial_latents(run, 0, num_frames), context_of)
        if decode:
            yield from self._decode(latents)
        else:
            yield latents

    def _denoise(
        self, run: _Run, latents: Tensor, context_of: Callable[[tuple[int, ...]], UNetContext]
    ) -> Tensor:
        """All steps of one clip, or of the whole video by windows."""
        # Multistep schedulers remember their last outputs: every clip starts anew.
        self.scheduler.set_timesteps(run.sampling.num_inference_steps, device=latents.device)
        timesteps = self.scheduler.timesteps
        extra = {}
        if "generator" in inspect.signature(self.scheduler.step).parameters and run.generator is not None:
            extra["generator"] = run.generator
        with self.progress_bar(total=len(timesteps)) as progress:
            for step, timestep in enumerate(timesteps):
                velocity = self._velocity(run, latents, timestep, step, len(timesteps), context_of)
                latents = self.scheduler.step(velocity, timestep, latents, **extra, return_dict=False)[0]
                if run.on_step_end is not None:
                    changed = run.on_step_end(self, step, timestep, {"latents": latents})
                    latents = changed.get("latents", latents)
                progress.update()
        return latents

    def _velocity(
        self,
        run: _Run,
        latents: Tensor,
        timestep: Tensor,
        step: int,
        num_steps: int,
        context_of: Callable[[tuple[int, ...]], UNetContext],
    ) -> Tensor:
        """Guided velocity of all frames: the mean over the windows that hold a frame."""
        branches = run.guidance.branches(step, num_steps)
        windows = self._windows(run, latents.shape[1], step)
        scaled = self.scheduler.scale_model_input(latents, timestep)
        total = torch.zeros_like(latents)
        counts = [0] * latents.shape[1]
        for window in windows:
            context = context_of(window)
            if branches != run.branches:
                context = context.full_branch(len(latents))
            sample = scaled[:, list(window)].repeat(len(branches), 1, 1, 1, 1)
            velocity = run.guidance.combine(run.network.denoise(sample, timestep, context), branches)
            if len(windows) == 1 and run.sampling.plan == "sequential":
                return velocity
            total[:, list(window)] += velocity
            for frame in window:
                counts[frame] += 1
        if len(branches) == 1 and run.network.quirks.sum_overlaps_without_guidance:
            return total
        return total / torch.tensor(counts, device=total.device, dtype=total.dtype)[:, None, None, None]

    def _windows(self, run: _Run, num_frames: int, step: int) -> list[tuple[int, ...]]:
        sampling = run.sampling
        if sampling.plan == "sequential":
            return [tuple(range(num_frames))]
        return overlapping_windows(
            num_frames,
            sampling.num_frames_per_clip,
            sampling.num_overlap_frames,
            shift=sampling.window_shift_per_step * step,
        )

    def _prepare(
        self, run: _Run, conditioning: PortraitConditioning, motion: dict[str, Tensor] | None
    ) -> UNetContext:
        network = run.network
        condition_map = conditioning.condition_map
        return network.prepare(
            run.layout,
            reference=run.reference,
            audio_tokens=network.audio_tokens(conditioning.audio_windows),
            condition=None if condition_map is None else network.condition_encoder(condition_map),
            motion=motion,
            masks=conditioning.region_masks,
            weights=conditioning.region_weights,
        )

    def _encode_motion(self, run: _Run, pixels: Tensor) -> dict[str, Tensor]:
        """Features of the frames before a clip, for every branch that differs in them."""
        latents = self._encode(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        if run.identity is None:
            return run.network.encode_motion(latents, None)
        tokens = _of_branches(run.branches, run.identity, run.null_identity)
        return run.network.encode_motion(latents.repeat(len(run.branches), 1, 1, 1, 1), tokens)

    def _encode(self, pixels: Tensor) -> Tensor:
        """Scaled mean latents of pictures ``(n, 3, height, width)`` in [-1, 1]."""
        posterior = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist
        return (posterior.mode() * self.vae.config.scaling_factor).to(self.denoising_unet.dtype)

    def _decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Yield pictures ``(batch, 1, 3, height, width)`` in [0, 1], one frame after another."""
        for frame in latents.unbind(dim=1):
            pixels = self.vae.decode((frame / self.vae.config.scaling_factor).to(self.vae.dtype)).sample
            yield (pixels / 2 + 0.5).clamp(0, 1).float()[:, None]

    def _initial_latents(self, run: _Run, first_frame: int, num_frames: int) -> Tensor:
        batch, channels, height, width = run.portrait_latents.shape
        if run.latents is not None:
            latents = run.latents[:, first_frame : first_frame + num_frames]
            if latents.shape != (batch, num_frames, channels, height, width):
                raise ShapeError(
                    f"latents for frames {first_frame} to {first_frame + num_frames - 1} must be "
                    f"{(batch, num_frames, channels, height, width)}, got {tuple(latents.shape)}."
                )
        else:
            # Channels before frames, as the published code draws: the same seed gives the same noise.
            noise = randn_tensor(
                (batch, channels, num_frames, height, width),
                generator=run.generator,
                device=run.portrait_latents.device,
                dtype=run.portrait_latents.dtype,
            )
            latents = noise.transpose(1, 2)
        if run.sampling.noise_clamp is not None:
            latents = latents.clamp(-run.sampling.noise_clamp, run.sampling.noise_clamp)
        return latents * self.scheduler.init_noise_sigma

    @staticmethod
    def _as_output_type(frames: Tensor, output_type: str) -> Tensor | np.ndarray | list[list[Image]]:
        if output_type in ("pt", "latent"):
            return frames
        if output_type == "np":
            return frames.float().numpy()
        from PIL import Image as PillowImage

        pixels = (frames * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2).numpy()
        return [[PillowImage.fromarray(frame) for frame in video] for video in pixels]


def _of_branches(branches: tuple[Branch, ...], identity: Tensor | None, null_identity: Tensor | None) -> Tensor | None:
    """Identity tokens of all batch items: null for the unconditional branch, the portrait's for the others."""
    if identity is None or null_identity is None:
        return None
    return torch.cat([null_identity if branch is Branch.UNCONDITIONAL else identity for branch in branches])

