"""The pipeline: conditioning in, frames out, clip by clip or by overlapping windows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.schema import Quirks, SamplingConfig, from_dict, to_dict
from portraitanim.diffusion.schedule import check_scheduler
from portraitanim.diffusion.windows import Clip, sequential_clip
from portraitanim.errors import ConfigError, InputError
from portraitanim.models.denoising_unet import DenoisingUNet
from portraitanim.models.embedders import AudioProjection, ConditionEncoder, IdentityProjection
from portraitanim.models.portrait_network import PortraitNetwork
from portraitanim.models.reference_unet import ReferenceUNet
from portraitanim.pipelines.clip_store import ClipStore, keep_clip, restore_clip
from portraitanim.pipelines.conditioning_check import check_conditioning
from portraitanim.pipelines.feature_cache import PortraitMemory
from portraitanim.pipelines.frame_decoding import decode_frames
from portraitanim.pipelines.open_windows import open_latents
from portraitanim.pipelines.sampling_run import Generators, SamplingRun
from portraitanim.types import Conditioning

StepCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor]]

NextMotion = Callable[[int, Tensor], Tensor]
"""Given the number of a finished clip and its frames ``(batch, frames, 3, height, width)`` in [0, 1], the pictures
that the next clip reads as its motion frames: by default the last ones."""


@dataclass
class PortraitAnimationOutput(BaseOutput):
    """Result of `PortraitAnimationPipeline`.

    Attributes:
        frames: ``(batch, frames, 3, height, width)`` in [0, 1] as tensor or array, a list of lists of PIL images, or
            latents ``(batch, frames, channels, height / 8, width / 8)``.
    """

    frames: Tensor | np.ndarray | list[list[Image.Image]]


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
        execution: ExecutionConfig | None = None,
        small_decoder: AutoencoderTiny | None = None,
        memory: PortraitMemory | None = None,
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
            clip_store: keeps finished clips and gives them back instead of computing them again. A closed loop of
                windows is one clip; the open plan keeps nothing.
            execution: how much is computed at once; ``None`` for what suits the device. Where it works ahead,
                ``callback_on_step_end`` and ``clip_store`` are called from another thread.
            small_decoder: decodes where ``sampling.decoder`` is ``small``.
            memory: keeps what is computed of the portraits for later calls.
            **sampling: see `__call__`.

        Raises:
            InputError: the small decoder is chosen and not given.
            ConfigError: ``execution`` works ahead and the networks are offloaded: two would be needed at once.
        """
        given = {name: value for name, value in sampling.items() if value is not None}
        options: SamplingConfig = from_dict(SamplingConfig, {**self.config.sampling, **given}, "sampling")
        check_conditioning(conditioning, options, self.denoising_unet, self.vae)
        device, dtype = self._execution_device, self.denoising_unet.dtype
        execution = self._execution(execution, device)
        conditioning = conditioning.to(device, dtype)
        memory = memory or PortraitMemory(None)
        run = SamplingRun.start(
            self.network,
            options,
            conditioning,
            self._encode,
            generator,
            None if latents is None else latents.to(device, dtype),
            execution,
            self._decoder(options, small_decoder),
            memory,
        )
        try:
            if options.plan == "sequential":
                yield from self._clip_by_clip(run, callback_on_step_end, decode, next_motion, clip_store)
            elif options.plan == "open":
                if callback_on_step_end is not None:
                    raise InputError("sampling.plan=open has no step of all frames: leave out callback_on_step_end.")
                pieces = open_latents(run, self.scheduler)
                yield from (made for piece in pieces for made in (self._decode(run, piece) if decode else [piece]))
            else:
                yield from self._by_windows(run, callback_on_step_end, decode, clip_store)
        finally:  # also where the caller has enough frames, or an error stops the video
            self.maybe_free_model_hooks()

    def _decoder(self, sampling: SamplingConfig, small: AutoencoderTiny | None) -> Any:
        if sampling.decoder == "small" and small is None:
            raise InputError("sampling.decoder is 'small': give small_decoder, diffusers' AutoencoderTiny.")
        return self.vae if sampling.decoder == "full" else small

    def _execution(self, chosen: ExecutionConfig | None, device: torch.device) -> ExecutionConfig:
        is_offloaded = any(hasattr(part, "_hf_hook") for part in self.components.values())
        if chosen is None:
            suited = ExecutionConfig.for_device(device.type)
            return replace(suited, work_ahead=False) if is_offloaded else suited
        if chosen.work_ahead and is_offloaded:
            raise ConfigError("work_ahead needs two networks at once, and offloading keeps one. Leave one of them out.")
        return chosen

    def _clip_by_clip(
        self,
        run: SamplingRun,
        on_step_end: StepCallback | None,
        decode: bool,
        next_motion: NextMotion | None,
        store: ClipStore | None,
    ) -> Iterator[Tensor]:
        num_motion, length = run.sampling.num_motion_frames, run.sampling.num_frames_per_clip
        make = partial(self._make_clip, run, on_step_end, store)
        making: Callable[[], tuple[Tensor, Clip]] = partial(make, 0, None)
        with _worker(run) as start:
            for number in count():
                latents, clip = making()
                is_last = not run.conditioning.goes_on((number + 1) * length)
                head, tail = latents[:, : length - num_motion], latents[:, length - num_motion :]
                motion, pixels = None, []
                if num_motion and next_motion is not None and (decode or not is_last):
                    # It looks at whole clips, and for its own record at the last one too.
                    pixels = list(self._decode(run, latents))
                    motion = next_motion(number, torch.cat(pixels, dim=1))
                elif num_motion and not is_last:
                    # The frames that the next clip reads come first: it need not wait for the others.
                    motion = torch.cat(list(self._decode(run, tail)), dim=1)
                if not is_last:
                    making = start(make, number + 1, motion)
                if decode and not pixels:
                    pixels = [*self._decode(run, head), *(self._decode(run, tail) if motion is None else [motion])]
                yield (torch.cat(pixels, dim=1) if decode else latents)[:, : clip.num_new]
                if is_last:
                    return

    @torch.no_grad()  # a setting of the thread
    def _make_clip(
        self,
        run: SamplingRun,
        on_step_end: StepCallback | None,
        store: ClipStore | None,
        number: int,
        motion: Tensor | None,
    ) -> tuple[Tensor, Clip]:
        """Latents of one clip, made or restored; ``motion`` are the pictures that it reads, none for the first."""
        num_motion, length = run.sampling.num_motion_frames, run.sampling.num_frames_per_clip
        run.conditioning.release(number * length)
        clip = sequential_clip(number, run.conditioning.frames_until((number + 1) * length), length)
        noise = run.initial_latents(number * length, length)
        made = restore_clip(store, number, noise, run.generator)
        if made is None:
            if motion is None:
                before = run.portrait_latents[:, None].expand(-1, num_motion, -1, -1, -1)
            else:
                # Motion frames take the way through pixels, as the weights learned them.
                before = run.encode_pictures(motion * 2 - 1)
            context = run.clip_context(clip.frames, run.motion_features(before) if num_motion else None)
            velocity = partial(run.clip_velocity, context=context, deep=run.deep_features())
            made = self._denoise(run, noise, velocity, on_step_end, store, number)
            keep_clip(store, number, made, run.generator)
        return made, clip

    def _by_windows(
        self, run: SamplingRun, on_step_end: StepCallback | None, decode: bool, store: ClipStore | None
    ) -> Iterator[Tensor]:
        noise = run.initial_latents(0, run.conditioning.num_frames)
        latents = restore_clip(store, 0, noise, run.generator)
        if latents is None:
            deep_of = run.window_deep_features()
            velocity = partial(run.video_velocity, context_of=run.window_contexts(), deep_of=deep_of)
            latents = self._denoise(run, noise, velocity, on_step_end, store, 0)
            keep_clip(store, 0, latents, run.generator)
        if decode:
            yield from self._decode(run, latents)
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
        # The scheduler's own numbers stay on the host: it looks at them, and each look at a GPU would wait for it.
        self.scheduler.set_timesteps(run.sampling.num_inference_steps, device="cpu")
        timesteps = self.scheduler.timesteps
        on_device = timesteps.to(noise.device)
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
                run.raise_if_stopped()
                velocity = velocity_of(self.scheduler.scale_model_input(latents, timestep), on_device[step], step)
                latents = self.scheduler.step(velocity, timestep, latents, **extra, return_dict=False)[0]
                if on_step_end is not None:
                    latents = on_step_end(self, step, timestep, {"latents": latents}).get("latents", latents)
                # A step that reads what an earlier one kept cannot be the first after a new start.
                starts_anew = (step + 1) % run.sampling.deep_every_steps == 0
                if steps_kept is not None and starts_anew and step + 1 < len(timesteps):
                    steps_kept.save_step(number, step + 1, latents)
                progress.update()
        return latents

    def _encode(self, pixels: Tensor) -> Tensor:
        """Scaled mean latents of pictures ``(n, 3, height, width)`` in [-1, 1]."""
        posterior = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist
        return (posterior.mode() * self.vae.config.scaling_factor).to(self.denoising_unet.dtype)

    def _decode(self, run: SamplingRun, latents: Tensor) -> Iterator[Tensor]:
        return decode_frames(run.decoder, latents, run.execution.num_frames_per_decode)

    @staticmethod
    def _as_output_type(frames: Tensor, output_type: str) -> Tensor | np.ndarray | list[list[Image.Image]]:
        if output_type in ("pt", "latent"):
            return frames
        if output_type == "np":
            return frames.float().numpy()
        pixels = (frames * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2).numpy()
        return [[Image.fromarray(frame) for frame in video] for video in pixels]


@contextmanager
def _worker(run: SamplingRun) -> Iterator[Callable[..., Callable[[], tuple[Tensor, Clip]]]]:
    """Gives a function that starts a call in another thread and returns how to get its result.

    Where the run does not work ahead, the call is made when its result is asked for.
    """
    if not run.execution.work_ahead:
        yield partial
        return
    with ThreadPoolExecutor(1, "portraitanim-clips") as pool:
        try:
            yield lambda function, *args: pool.submit(function, *args).result
        finally:
            run.stop()  # nobody reads what is being made
