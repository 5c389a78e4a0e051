"""The pipeline: conditioning in, frames out, clip by clip or by overlapping windows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from PIL.Image import Image
from torch import Tensor

from portraitanim.config.schema import Quirks, SamplingConfig, from_dict, to_dict
from portraitanim.diffusion.schedule import check_scheduler
from portraitanim.diffusion.windows import sequential_clips
from portraitanim.errors import InputError, ShapeError
from portraitanim.models.denoising_unet import DenoisingUNet
from portraitanim.models.embedders import AudioProjection, ConditionEncoder, IdentityProjection
from portraitanim.models.portrait_network import PortraitNetwork
from portraitanim.models.reference_unet import ReferenceUNet
from portraitanim.pipelines.sampling_run import Generators, SamplingRun
from portraitanim.types import Conditioning, RegionMasks, RegionWeights

StepCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor]]

NextMotion = Callable[[int, Tensor], Tensor]
"""Given the number of a finished clip and its frames ``(batch, frames, 3, height, width)`` in [0, 1], the pictures
that the next clip reads as its motion frames: by default the last ones."""


class ClipStore(Protocol):
    """Keeps finished clips, so that an interrupted video can go on."""

    def load(self, number: int) -> tuple[Tensor, Tensor | None] | None:
        """Latents of a finished clip and the state of the noise generator after it, or ``None``."""
        ...

    def save(self, number: int, latents: Tensor, generator_state: Tensor | None) -> None:
        """Keep a clip that was just finished."""
        ...

    def load_step(self, number: int) -> tuple[int, Tensor] | None:
        """How many steps of an unfinished clip are done, and its latents after them, or ``None``."""
        ...

    def save_step(self, number: int, num_steps_done: int, latents: Tensor) -> None:
        """Take note of a step; a store may keep some only."""
        ...


@dataclass
class PortraitAnimationOutput(BaseOutput):
    """Result of `PortraitAnimationPipeline`.

    Attributes:
        frames: ``(batch, frames, 3, height, width)`` in [0, 1] as tensor or array, a list of lists of PIL images, or
            latents ``(batch, frames, channels, height / 8, width / 8)``.
    """

    frames: Tensor | np.ndarray | list[list[Image]]


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

    model_cpu_offload_seq = (
        "identity_projection->audio_projection->condition_encoder->reference_unet->denoising_unet->vae"
    )
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
            sampling=to_dict(from_dict(SamplingConfig, dict(sampling or {}), "sampling")),
            quirks=to_dict(from_dict(Quirks, dict(quirks or {}), "quirks")),
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
        conditioning: Conditioning,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: Generators = None,
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
        return PortraitAnimationOutput(frames=frames) if return_dict else (frames,)

    @torch.no_grad()
    def stream(
        self,
        conditioning: Conditioning,
        generator: Generators = None,
        latents: Tensor | None = None,
        callback_on_step_end: StepCallback | None = None,
        decode: bool = True,
        next_motion: NextMotion | None = None,
        clip_store: ClipStore | None = None,
        **sampling: Any,
    ) -> Iterator[Tensor]:
        """Yield frames as soon as they exist, ``(batch, frames, 3, height, width)`` in [0, 1] (or latents).

        What was yielded is not kept, so memory does not grow with the video. The arguments are those of `__call__`,
        and these:

        Args:
            conditioning: what the networks read; for long videos something that makes it clip by clip.
            generator: see `__call__`.
            latents: see `__call__`.
            callback_on_step_end: see `__call__`.
            decode: whether to yield pictures; latents otherwise.
            next_motion: chooses the motion frames of the next clip, where videos are made clip after clip.
            clip_store: keeps finished clips and gives them back instead of computing them again. A video that is made
                by overlapping windows is one clip.
            **sampling: see `__call__`.
        """
        given = {name: value for name, value in sampling.items() if value is not None}
        options: SamplingConfig = from_dict(SamplingConfig, {**self.config.sampling, **given}, "sampling")
        self._check(conditioning, options)
        device, dtype = self._execution_device, self.denoising_unet.dtype
        conditioning = conditioning.to(device, dtype)
        run = SamplingRun.start(
            self.network,
            options,
            conditioning,
            self._encode,
            generator,
            None if latents is None else latents.to(device, dtype),
        )
        try:
            if options.plan == "sequential":
                yield from self._clip_by_clip(run, callback_on_step_end, decode, next_motion, clip_store)
            else:
                yield from self._by_windows(run, callback_on_step_end, decode, clip_store)
        finally:  # also where the caller has enough frames, or an error stops the video
            self.maybe_free_model_hooks()

    def _check(self, conditions: Conditioning, sampling: SamplingConfig) -> None:
        conditioning = conditions.window([0])
        height, width = conditioning.reference_image.shape[-2:]
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        if height % factor or width % factor:
            raise ShapeError(f"Height and width must be multiples of {factor}, got {height} by {width}.")
        longest = sampling.num_frames_per_clip + sampling.num_motion_frames
        if longest > self.denoising_unet.config.max_motion_positions:
            raise InputError(
                f"num_frames_per_clip + num_motion_frames is {longest}, the motion modules know "
                f"{self.denoising_unet.config.max_motion_positions} positions. Choose a shorter clip."
            )
        if self.denoising_unet.has_regional_audio and conditioning.region_masks is None:
            raise InputError("This network's audio attention works by region: give region_masks.")
        condition_map = conditioning.condition_map
        if condition_map is not None and condition_map.shape[-2:] != (height, width):
            raise ShapeError(
                f"The condition map is {condition_map.shape[-2]} by {condition_map.shape[-1]}, "
                f"the portrait {height} by {width}: they must be equal."
            )
        if conditioning.region_masks is not None:
            _check_masks(conditioning.region_masks, height // factor, width // factor)
        if not self.denoising_unet.has_regional_audio and conditioning.region_weights != RegionWeights():
            raise InputError("This network has no regional audio attention: region weights would have no effect.")

    def _clip_by_clip(
        self,
        run: SamplingRun,
        on_step_end: StepCallback | None,
        decode: bool,
        next_motion: NextMotion | None,
        store: ClipStore | None,
    ) -> Iterator[Tensor]:
        num_frames, num_motion = run.conditioning.num_frames, run.sampling.num_motion_frames
        length = run.sampling.num_frames_per_clip
        before = run.portrait_latents[:, None].expand(-1, num_motion, -1, -1, -1)
        tail: Tensor | None = None
        for number, clip in enumerate(sequential_clips(num_frames, length)):
            noise = run.initial_latents(number * length, length)
            made = _restore(store, number, noise, run.generator)
            if made is None:
                if tail is not None:
                    # Motion frames take the way through pixels, as the weights learned them.
                    before = self._encode((tail * 2 - 1).flatten(0, 1)).unflatten(0, tail.shape[:2])
                context = run.clip_context(clip.frames, run.motion_features(before) if num_motion else None)
                velocity = partial(run.clip_velocity, context=context)
                made = self._denoise(run, noise, velocity, on_step_end, store, number)
                _keep(store, number, made, run.generator)
            is_last = (number + 1) * length >= num_frames
            if decode or (num_motion and not is_last):
                pixels = torch.cat(list(self._decode(made)), dim=1)
                if num_motion:
                    tail = pixels[:, length - num_motion :] if next_motion is None else next_motion(number, pixels)
                made = pixels if decode else made
            yield made[:, : clip.num_new]

    def _by_windows(
        self, run: SamplingRun, on_step_end: StepCallback | None, decode: bool, store: ClipStore | None
    ) -> Iterator[Tensor]:
        noise = run.initial_latents(0, run.conditioning.num_frames)
        latents = _restore(store, 0, noise, run.generator)
        if latents is None:
            velocity = partial(run.video_velocity, context_of=run.window_contexts())
            latents = self._denoise(run, noise, velocity, on_step_end, store, 0)
            _keep(store, 0, latents, run.generator)
        if decode:
            yield from self._decode(latents)
        else:
            yield latents

    def _denoise(
        self,
        run: SamplingRun,
        noise: Tensor,
        velocity_of: Callable[[Tensor, Tensor, int], Tensor],
        on_step_end: StepCallback | None,
        store: ClipStore | None = None,
        number: int = 0,
    ) -> Tensor:
        """All steps of one clip, or of the whole video by windows; those that ``store`` knows are not made again."""
        # Multistep schedulers remember their last outputs: every clip starts anew.
        self.scheduler.set_timesteps(run.sampling.num_inference_steps, device=noise.device)
        timesteps = self.scheduler.timesteps
        latents = noise * self.scheduler.init_noise_sigma
        # Only DDIM's steps depend on nothing but the latents: other schedulers start the clip again.
        steps_kept = store if isinstance(self.scheduler, DDIMScheduler) else None
        kept = steps_kept.load_step(number) if steps_kept else None
        num_done, latents = (0, latents) if kept is None else (kept[0], kept[1].to(latents))
        extra = {}
        if "generator" in inspect.signature(self.scheduler.step).parameters and run.generator is not None:
            extra["generator"] = run.generator
        with self.progress_bar(total=len(timesteps)) as progress:
            for step, timestep in enumerate(timesteps[num_done:], num_done):
                velocity = velocity_of(self.scheduler.scale_model_input(latents, timestep), timestep, step)
                latents = self.scheduler.step(velocity, timestep, latents, **extra, return_dict=False)[0]
                if on_step_end is not None:
                    latents = on_step_end(self, step, timestep, {"latents": latents}).get("latents", latents)
                if steps_kept is not None and step + 1 < len(timesteps):
                    steps_kept.save_step(number, step + 1, latents)
                progress.update()
        return latents

    def _encode(self, pixels: Tensor) -> Tensor:
        """Scaled mean latents of pictures ``(n, 3, height, width)`` in [-1, 1]."""
        posterior = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist
        return (posterior.mode() * self.vae.config.scaling_factor).to(self.denoising_unet.dtype)

    def _decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Yield pictures ``(batch, 1, 3, height, width)`` in [0, 1], one frame after another."""
        for frame in latents.unbind(dim=1):
            pixels = self.vae.decode((frame / self.vae.config.scaling_factor).to(self.vae.dtype)).sample
            yield (pixels / 2 + 0.5).clamp(0, 1).float()[:, None]

    @staticmethod
    def _as_output_type(frames: Tensor, output_type: str) -> Tensor | np.ndarray | list[list[Image]]:
        if output_type in ("pt", "latent"):
            return frames
        if output_type == "np":
            return frames.float().numpy()
        from PIL import Image as PillowImage

        pixels = (frames * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2).numpy()
        return [[PillowImage.fromarray(frame) for frame in video] for video in pixels]


def _restore(store: ClipStore | None, number: int, noise: Tensor, generator: Generators) -> Tensor | None:
    """A clip that was finished before, and the generator as it was then."""
    kept = None if store is None else store.load(number)
    if kept is None:
        return None
    latents, state = kept
    if isinstance(generator, torch.Generator) and state is not None:
        generator.set_state(state)
    return latents.to(noise)


def _keep(store: ClipStore | None, number: int, latents: Tensor, generator: Generators) -> None:
    if store is not None and bool(torch.isfinite(latents).all()):  # a broken clip is not worth going on from
        state = generator.get_state() if isinstance(generator, torch.Generator) else None
        store.save(number, latents, state)


def _check_masks(masks: RegionMasks, height: int, width: int) -> None:
    """Raise unless each level of the masks has the tokens of that depth of the UNet."""
    for level, mask in enumerate(masks.levels):
        expected = -(-height // 2**level) * -(-width // 2**level)
        if mask.shape[-1] != expected:
            raise ShapeError(
                f"Region masks at level {level} have {mask.shape[-1]} tokens, latents of {height} by {width} need "
                f"{expected}. Make them for the size of the portrait."
            )
