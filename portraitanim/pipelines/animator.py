"""Portrait and sound in, talking video out: the one call behind ``portraitanim animate``."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from portraitanim.config.animation import AnimationOptions
from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.schema import Preset, to_dict
from portraitanim.diffusion.schedule import make_scheduler
from portraitanim.errors import InputError, PortraitAnimError
from portraitanim.media.contact_sheet import contact_sheet, spread_indices
from portraitanim.media.image import save_image
from portraitanim.media.live_sound import LiveSound
from portraitanim.media.video_formats import video_format
from portraitanim.media.video_writer import VideoWriter
from portraitanim.pipelines.animation_inputs import AnimationInputs, InputReader
from portraitanim.pipelines.animation_plan import AnimationPlan, fit_to_parts, plan_animation
from portraitanim.pipelines.animation_result import AnimationResult, peak_device_bytes, peak_host_bytes
from portraitanim.pipelines.animator_parts import AnimatorParts, OutputOptions
from portraitanim.pipelines.clip_folder import ClipFolder, work_folder
from portraitanim.pipelines.clip_store import ClipStore
from portraitanim.pipelines.drift_guard import DriftGuard
from portraitanim.pipelines.feature_cache import PortraitMemory
from portraitanim.pipelines.frame_output import FrameOutput, debug_views
from portraitanim.pipelines.memory_retry import is_out_of_memory, take_smaller_plan
from portraitanim.pipelines.named_files import check_files
from portraitanim.pipelines.provenance import (
    container_metadata,
    content_sha256,
    sidecar_path,
    write_sidecar,
    xmp_packet,
)
from portraitanim.progress import ProgressReporter, SilentProgress
from portraitanim.runtime import noise_generator

logger = logging.getLogger(__name__)

_PREVIEW_FRAMES = 12


class Animator:
    """Weights that are loaded once and animate any number of portraits.

    Example:
        >>> animator = open_animator("hallo", device="cuda")  # doctest: +SKIP
        >>> animator.animate("ref.jpg", "speech.wav", output="talk.mp4")  # doctest: +SKIP
    """

    def __init__(self, parts: AnimatorParts) -> None:
        self.parts = parts
        parts.pipeline.set_progress_bar_config(disable=True)

    @property
    def preset(self) -> Preset:
        """The system that the weights belong to."""
        return self.parts.preset

    def plan(
        self,
        audio: str | Path | LiveSound | None,
        driving: str | Path | None,
        options: AnimationOptions | None = None,
    ) -> AnimationPlan:
        """What a run would do; see `plan_animation` and `fit_to_parts`."""
        options = options or AnimationOptions()
        plan = plan_animation(
            options,
            self.preset,
            has_audio=audio is not None,
            has_driving=driving is not None,
            is_live=isinstance(audio, LiveSound),
        )
        has_small_decoder = self.parts.small_decoder is not None
        return fit_to_parts(plan, options, execution=self.parts.execution, has_small_decoder=has_small_decoder)

    def animate(
        self,
        portrait: str | Path,
        audio: str | Path | LiveSound | None = None,
        *,
        output: str | Path,
        driving: str | Path | None = None,
        options: AnimationOptions | None = None,
        files: OutputOptions | None = None,
        progress: ProgressReporter | None = None,
        **chosen: Any,
    ) -> AnimationResult:
        """Make a video.

        Args:
            portrait: a picture.
            audio: a sound file, a video whose sound is taken, or sound that still arrives.
            output: the video; its suffix chooses the format. Without a suffix, a folder of pictures.
            driving: a driving video, landmark file or pose folder.
            options: how the video is made.
            files: where it goes.
            progress: told the frames that are made.
            **chosen: fields of `AnimationOptions`, instead of ``options``.

        Raises:
            InputError: a file or option that cannot be used; nothing is written then.
            FaceError: no usable face.
            MissingWeightsError: something that these weights need is not installed.
        """
        if options is not None and chosen:
            raise InputError("Give options, or single options by name, not both.")
        options = options or AnimationOptions(**chosen)
        files, reporter = files or OutputOptions(), progress or SilentProgress()
        try:
            return self._animate(portrait, audio, driving, Path(output), options, files, reporter)
        except Exception as error:
            # Sound that has arrived does not arrive again.
            if not (is_out_of_memory(error) and self.parts.smaller_plans) or isinstance(audio, LiveSound):
                raise
        # Behind the handler, which keeps what the failed run held.
        take_smaller_plan(self.parts)
        again = replace(files, resume=work_folder(Path(output)).is_dir())
        return self._animate(portrait, audio, driving, Path(output), options, again, reporter)

    def _animate(
        self,
        portrait: str | Path,
        audio: str | Path | LiveSound | None,
        driving: str | Path | None,
        output: Path,
        options: AnimationOptions,
        files: OutputOptions,
        reporter: ProgressReporter,
    ) -> AnimationResult:
        audio_file = None if isinstance(audio, LiveSound) else audio
        check_files(portrait, audio_file, driving, output, overwrite=files.overwrite)
        plan = self.plan(audio, driving, options)
        if isinstance(audio, LiveSound):
            files.check_live()
        started = time.perf_counter()
        hashes = _hashes(portrait=portrait, audio=audio_file, driving=driving)
        store = (
            None if isinstance(audio, LiveSound) else ClipFolder(work_folder(output), self._job(plan, options, hashes))
        )
        if store is not None:
            store.open(resume=files.resume)
        with InputReader(self.parts, plan, options, reporter) as reader:
            inputs = reader.read(Path(portrait), audio, driving)
            inputs.notes += plan.notes
            guard = self._guard(inputs, plan, options, reader)
            facts = self._facts(plan, hashes)
            sink = self._sink(output, inputs, options, files, facts, started)
            with (
                debug_views(files.debug_folder, inputs, self.parts.pipeline),
                sink.writer,
                reporter.task("Animating", inputs.num_frames) as task,
            ):
                length = plan.sampling.num_frames_per_clip
                of_all = "" if inputs.num_frames is None else f" of {-(-inputs.num_frames // length)}"
                for number, frame in enumerate(self._frames(inputs, plan, guard, store)):
                    if number % length == 0 and plan.sampling.plan == "sequential":
                        task.describe(f"Animating, clip {number // length + 1}{of_all}")
                    sink.write(frame)
                    task.advance()
        result = self._result(sink, inputs, plan, options, files, guard, store, started)
        if options.provenance == "sidecar":
            record = {**facts, "result": result.to_dict(), "options": to_dict(options), "config": to_dict(plan.preset)}
            record["face_box_px"] = [round(edge, 1) for edge in inputs.portrait.face_box_px]
            record["crop_transform"] = inputs.portrait.crop.transform.round(6).tolist()
            record["clips"] = [clip.to_dict() for clip in guard.clips] if guard else []
            write_sidecar(output, record)
        if store is not None:
            store.remove()
        return result

    def stream(
        self,
        portrait: str | Path,
        audio: str | Path | None = None,
        *,
        driving: str | Path | None = None,
        options: AnimationOptions | None = None,
        progress: ProgressReporter | None = None,
        clip_store: ClipStore | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield the frames, uint8 ``(3, size, size)``, as soon as they exist; arguments as in `animate`.

        ``clip_store`` is given the latents of each clip, see `ClipStore`.
        """
        return self._stream(portrait, audio, driving, options, progress, clip_store)

    def stream_live(
        self,
        portrait: str | Path,
        sound: LiveSound | Iterable[Any] | BinaryIO,
        sample_rate_hz: int | None = None,
        *,
        driving: str | Path | None = None,
        options: AnimationOptions | None = None,
        progress: ProgressReporter | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield frames while the sound still arrives, reading no more of it than they need.

        The log-mel encoder of ``tiny`` waits for the end of a clip and 90 ms more, and the frames are those that
        `stream` gives for a file with this sound. wav2vec 2.0 and Whisper are made for whole files: here they hear 8 s
        before a frame and ``options.look_ahead_seconds`` behind it, so the frames differ from those of a file. Systems
        with overlapping windows take the open plan (``sampling.plan``), unless ``options.overrides`` choose another.

        Args:
            portrait: a picture.
            sound: chunks ``(samples,)`` or ``(channels, samples)``, floating point in [-1, 1] or integers, arrays or
                tensors of any length; or a stream of bytes with a WAV file, such as a pipe.
            sample_rate_hz: of the chunks.
            driving: see `animate`.
            options: see `animate`.
            progress: see `animate`.

        Yields:
            uint8 ``(3, size, size)``.

        Raises:
            InputError: the sound cannot be used, or an option needs the whole of it.
        """
        return self._stream(portrait, LiveSound.of(sound, sample_rate_hz), driving, options, progress)

    def _stream(
        self,
        portrait: str | Path,
        audio: str | Path | LiveSound | None,
        driving: str | Path | None,
        options: AnimationOptions | None,
        progress: ProgressReporter | None,
        clip_store: ClipStore | None = None,
    ) -> Iterator[np.ndarray]:
        options = options or AnimationOptions()
        plan = self.plan(audio, driving, options)
        with InputReader(self.parts, plan, options, progress or SilentProgress()) as reader:
            inputs = reader.read(Path(portrait), audio, driving)
            yield from self._frames(inputs, plan, self._guard(inputs, plan, options, reader), clip_store)

    def _frames(
        self, inputs: AnimationInputs, plan: AnimationPlan, guard: DriftGuard | None, store: ClipStore | None
    ) -> Iterator[np.ndarray]:
        """The frames of the video; what the networks make beyond its end is left out."""
        pipeline = self.parts.pipeline
        pipeline.scheduler = make_scheduler(plan.scheduler)
        pipeline.register_to_config(quirks=to_dict(plan.preset.quirks))
        made = pipeline.stream(
            inputs.conditioning,
            generator=noise_generator(plan.sampling.seed),
            next_motion=guard.next_motion if guard else None,
            clip_store=store,
            execution=self._execution(inputs),
            small_decoder=self.parts.small_decoder,
            memory=PortraitMemory(self.parts.cache, *self._way_of_computing()),
            **to_dict(plan.sampling),
        )
        num_made = 0
        for pixels in made:
            first, num_made = num_made, num_made + pixels.shape[1]
            num_shown = inputs.conditioning.shown_until(num_made)
            wanted = pixels[0, : num_shown - first]
            # Bytes are made where the pictures are: a quarter of the numbers comes to the host.
            pictures = (wanted * 255).round().to(torch.uint8).cpu().numpy()
            if not bool(torch.isfinite(wanted).all()):
                raise PortraitAnimError(
                    "The networks gave values that are not numbers. Use --dtype fp32 or --dtype bf16."
                )
            yield from pictures
            if num_shown < num_made:
                return

    def _way_of_computing(self) -> tuple[str, ...]:
        """What the networks' results depend on beside their inputs, down to the rounding."""
        unet = self.parts.pipeline.denoising_unet
        threads = str(torch.get_num_threads()) if self.parts.pipeline.device.type == "cpu" else ""
        return (self.parts.fingerprint, str(unet.dtype), str(self.parts.pipeline.device), torch.__version__, threads)

    def _execution(self, inputs: AnimationInputs) -> ExecutionConfig | None:
        """How much is computed at once. A thread that works ahead would wait for sound that nobody may ever send."""
        chosen = self.parts.execution
        if not isinstance(inputs.sound, LiveSound):
            return chosen
        return replace(chosen or ExecutionConfig.for_device(self.parts.pipeline.device.type), work_ahead=False)

    def _job(self, plan: AnimationPlan, options: AnimationOptions, hashes: dict[str, str]) -> dict[str, Any]:
        """Everything that decides what the latents are."""
        chosen = to_dict(options)
        for name in ("paste_back", "provenance", "overrides"):
            del chosen[name]
        return {
            "inputs": hashes,
            "weights": self.parts.fingerprint,
            "options": chosen,
            "config": to_dict(plan.preset),
            "dtype": str(self.parts.pipeline.denoising_unet.dtype),
        }

    def _facts(self, plan: AnimationPlan, hashes: dict[str, str]) -> dict[str, Any]:
        """What the marks in the video say."""
        from portraitanim import __version__

        return {
            "tool": "portraitanim",
            "version": __version__,
            "weights": self.parts.name,
            "weights_sha256": self.parts.fingerprint,
            "audio_encoder": self.preset.audio.encoder,
            "audio_encoder_hash": self.preset.audio.fingerprint or "",
            "preset": self.preset.name,
            "mode": plan.mode,
            "seed": plan.sampling.seed,
            "inputs_sha256": hashes,
        }

    def _guard(
        self, inputs: AnimationInputs, plan: AnimationPlan, options: AnimationOptions, reader: InputReader
    ) -> DriftGuard | None:
        num_motion = plan.sampling.num_motion_frames
        if not options.drift_guard or plan.sampling.plan != "sequential" or not num_motion:
            return None
        return DriftGuard(inputs.portrait.landmarks, reader.find_face, num_motion)

    def _sink(
        self,
        output: Path,
        inputs: AnimationInputs,
        options: AnimationOptions,
        files: OutputOptions,
        facts: dict[str, Any],
        started: float,
    ) -> FrameOutput:
        marked = options.provenance != "none"
        holds_sound = video_format(output).audio_codec is not None
        if inputs.sound is not None and not holds_sound:
            inputs.notes.append("GIFs and folders of pictures hold no sound. Use .mp4, .mov, .mkv or .webm to hear it.")
        writer = VideoWriter(
            output,
            inputs.fps,
            audio=inputs.sound if holds_sound else None,
            audio_start_seconds=options.start_seconds if holds_sound and inputs.sound else 0.0,
            crf=files.crf,
            metadata=container_metadata(output, facts) if marked else None,
            xmp=xmp_packet(facts) if marked and video_format(output).holds_xmp else None,
        )
        wanted = set(spread_indices(inputs.num_frames or 1, _PREVIEW_FRAMES)) if files.preview else set()
        return FrameOutput(
            writer=writer, inputs=inputs, paste_back=options.paste_back, preview_at=wanted, started=started
        )

    def _result(
        self,
        sink: FrameOutput,
        inputs: AnimationInputs,
        plan: AnimationPlan,
        options: AnimationOptions,
        files: OutputOptions,
        guard: DriftGuard | None,
        store: ClipFolder | None,
        started: float,
    ) -> AnimationResult:
        output = sink.writer.path
        preview = None
        if files.preview:
            preview = output.with_name(f"{output.name}.preview.png")
            save_image(contact_sheet(sink.previews), preview)
        return AnimationResult(
            output=output,
            sidecar=sidecar_path(output) if options.provenance == "sidecar" else None,
            preview=preview,
            mode=plan.mode,
            weights=self.parts.name,
            preset=self.preset.name,
            seed=plan.sampling.seed,
            num_frames=sink.num_frames,
            fps=float(inputs.fps),
            width_px=sink.size[1],
            height_px=sink.size[0],
            compute_seconds=round(time.perf_counter() - started, 3),
            first_frame_seconds=round(sink.first_frame_seconds, 3),
            num_restored_clips=store.num_restored if store else 0,
            peak_host_bytes=peak_host_bytes(),
            peak_device_bytes=peak_device_bytes(self.parts.pipeline.device),
            face=inputs.face,
            notes=tuple(inputs.notes),
            drift=guard.summary() if guard else None,
        )


def _hashes(**paths: str | Path | None) -> dict[str, str]:
    return {name: content_sha256(path) for name, path in paths.items() if path is not None}
