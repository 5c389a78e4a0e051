"""Read what a person gave: portrait, sound and driving motion become conditioning."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch

from portraitanim.audio.log_mel import LogMelAudioEncoder
from portraitanim.audio.separation import RATE_HZ, VocalSeparator
from portraitanim.config.animation import AnimationOptions
from portraitanim.errors import InputError, MissingWeightsError
from portraitanim.face.detection import FaceSearch, select_face
from portraitanim.face.idle_motion import IdleMotion
from portraitanim.face.kept_search import search_from_tensors, search_to_tensors
from portraitanim.face.landmarker_task import LandmarkerTask
from portraitanim.face.landmarks import MIN_SCORE, FaceMesh
from portraitanim.media.audio import iter_audio, resample, to_mono
from portraitanim.media.containers import MAX_FRAME_PIXELS
from portraitanim.media.frame_rate import exact_fps
from portraitanim.media.image import load_image
from portraitanim.media.live_sound import LiveSound
from portraitanim.pipelines.animation_plan import AnimationPlan
from portraitanim.pipelines.conditioning import AnimationConditioning, Motion, Sound, make_conditioning
from portraitanim.pipelines.driving import DrivenMotion, encode_sound, read_waveform
from portraitanim.pipelines.driving_motion import has_sound, load_driving, portrait_motion
from portraitanim.pipelines.feature_cache import PortraitMemory
from portraitanim.pipelines.portrait import Portrait, prepare_portrait
from portraitanim.pipelines.sound_mouth import SoundMouth
from portraitanim.pipelines.sound_source import count_samples, file_chunks, stream_sound
from portraitanim.progress import ProgressReporter
from portraitanim.types import AudioTrack

if TYPE_CHECKING:
    from portraitanim.pipelines.animator_parts import AnimatorParts

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class AnimationInputs:
    """Everything of one video that the networks and the file need.

    Attributes:
        portrait: the prepared portrait.
        conditioning: what the networks read.
        num_frames: frames of the video, or ``None`` where its sound still arrives.
        fps: exact frame rate.
        sound: what the video's sound is taken from, or ``None``.
        face: which face was taken.
        notes: what a person should know.
    """

    portrait: Portrait
    conditioning: AnimationConditioning
    num_frames: int | None
    fps: Fraction
    sound: Path | LiveSound | None
    face: str
    notes: list[str] = field(default_factory=list)


class InputReader:
    """Reads files with the face model and encoders of an animator. A context manager: it holds the face model.

    Args:
        parts: of the animator.
        plan: the resolved run.
        options: what the person chose.
        progress: told what is being read.
    """

    def __init__(
        self, parts: AnimatorParts, plan: AnimationPlan, options: AnimationOptions, progress: ProgressReporter
    ) -> None:
        self._parts, self._plan, self._options, self._progress = parts, plan, options, progress
        model = LandmarkerTask(parts.landmarker) if parts.landmarker is not None else None
        self._memory = PortraitMemory(parts.cache)
        self._mesh = FaceMesh(min_score=options.face_threshold or MIN_SCORE, model=model)
        self._chunks: Iterator[np.ndarray] | None = None

    def __enter__(self) -> InputReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mesh.close()
        if isinstance(self._chunks, Generator):
            self._chunks.close()  # and with it the file

    def read(
        self, portrait_path: Path, audio: str | Path | LiveSound | None, driving: str | Path | None
    ) -> AnimationInputs:
        """Read all files, and sound that still arrives not at all.

        Raises:
            InputError: a file that cannot be used.
            FaceError: no usable face.
        """
        notes: list[str] = []
        portrait, face = self.read_portrait(portrait_path)
        sound, num_sounding = (None, None) if audio is None else self.read_sound(audio)
        points = None if driving is None else self.read_motion(Path(driving), portrait)
        if sound is not None:
            notes += self._notes(num_sounding, points)
        motion: Motion | None = None if points is None else DrivenMotion(points)
        parts = self._plan.parts
        if self._plan.idle_motion:
            mouth = None if sound is None else self._sound_mouth(sound, portrait)
            sampling = self._plan.sampling
            motion = IdleMotion(portrait.landmarks, sampling.fps, sampling.seed, mouth=mouth)
            parts = parts if mouth is None else (*parts, "mouth")
        conditioning = make_conditioning(
            portrait,
            self._plan.preset,
            sound=sound,
            motion=motion,
            num_motion_frames=0 if points is None else len(points),
            parts=parts,
            weights=self._plan.region_weights,
        )
        own = audio if audio is None or isinstance(audio, LiveSound) else Path(audio)
        if own is None and driving is not None and has_sound(Path(driving)):
            own = Path(driving)
        return AnimationInputs(
            portrait=portrait,
            conditioning=conditioning,
            num_frames=conditioning.num_motion_frames if sound is None else num_sounding,
            fps=exact_fps(self._plan.sampling.fps),
            sound=own,
            face=face,
            notes=notes,
        )

    def _sound_mouth(self, sound: Sound, portrait: Portrait) -> SoundMouth | None:
        reader = self._parts.mouth_reader
        if reader is None:
            return None
        projection = self._parts.pipeline.audio_projection
        return SoundMouth(reader, projection, sound, portrait.landmarks, self._plan.region_weights.lip)

    def read_portrait(self, path: Path) -> tuple[Portrait, str]:
        """The portrait, and a sentence that says which face was taken."""
        picture = load_image(path)
        face, sentence = select_face(self._search(picture), self._options.face, source=path.name)
        portrait = prepare_portrait(
            picture,
            face,
            self._plan.preset,
            self._plan.sampling.size_px,
            framing=self._options.crop,
            identity_of=self._identity if self._parts.identity_encoder is not None else None,
        )
        if self._options.paste_back and picture.shape[1] * picture.shape[2] > MAX_FRAME_PIXELS:
            raise InputError(
                f"{path.name} is {picture.shape[2]}x{picture.shape[1]}: a video can be as large as 8K (7680x4320). "
                "Scale the picture down, or leave out --paste-back."
            )
        return portrait, sentence

    def read_sound(self, audio: str | Path | LiveSound) -> tuple[Sound, int | None]:
        """The encoder's states, and how many frames belong to the sound; ``None`` where it still arrives.

        The log-mel encoder reads on as the video is made. The transformers read a file as a whole, which is what they
        are made for, and sound that still arrives a stretch at a time.
        """
        parts, options, preset = self._parts, self._options, self._plan.preset
        rate_hz, dtype = preset.audio.sample_rate_hz, parts.pipeline.denoising_unet.dtype
        if isinstance(audio, LiveSound):
            self._chunks = audio.mono(rate_hz, options.duration_seconds)
            ahead = options.look_ahead_seconds
            return stream_sound(self._chunks, parts.audio_encoder, self._plan.preset, dtype, ahead), None
        path = Path(audio)
        with self._progress.task("Reading the sound"):
            if options.separate_vocals:
                waveform = self._vocals(path, rate_hz)
            elif isinstance(parts.audio_encoder, LogMelAudioEncoder):
                # Once through to find its length and whatever is wrong with it, before anything is made.
                excerpt = (path, rate_hz, options.start_seconds, options.duration_seconds)
                num_samples = count_samples(file_chunks(*excerpt))
                self._chunks = file_chunks(*excerpt)
                stream = stream_sound(self._chunks, parts.audio_encoder, preset, dtype)
                return stream, stream.rows.num_sounding(num_samples)
            else:
                waveform = read_waveform(path, rate_hz, options.start_seconds, options.duration_seconds)
            if isinstance(parts.audio_encoder, LogMelAudioEncoder):
                stream = stream_sound(iter([waveform.numpy()]), parts.audio_encoder, preset, dtype)
                return stream, stream.rows.num_sounding(len(waveform))
            states = encode_sound(
                waveform,
                parts.audio_encoder,
                preset.audio,
                self._plan.sampling,
                window=preset.audio_window_rows,
                dtype=dtype,
            )
            return states, states.num_sounding_frames

    def read_motion(self, path: Path, portrait: Portrait) -> np.ndarray:
        """Landmarks of the portrait, moved as the driver moves, ``(frames, 478, 2)``."""
        options = self._options
        track = load_driving(
            path,
            self._plan.sampling.fps,
            self._mesh,
            face=options.driving_face,
            on_missing=options.on_missing or "hold",
            start_seconds=options.start_seconds,
            duration_seconds=options.duration_seconds,
            progress=self._progress,
        )
        if track.num_missing:
            logger.warning("%s shows no face in %d of its frames.", path, track.num_missing)
        return portrait_motion(track, portrait, method=options.motion_sync, smoothing=options.smoothing or "savgol")

    def find_face(self, picture: np.ndarray) -> np.ndarray | None:
        """Landmarks of the largest face of a made frame, or ``None``."""
        faces = self._mesh.search(picture).faces
        return faces[0].points if faces else None

    def _search(self, picture: np.ndarray) -> FaceSearch:
        """All faces of the portrait's picture, which may have been looked at before."""
        inputs = (picture, self._mesh.source, self._options.face_threshold or MIN_SCORE, version("mediapipe"))
        found = self._memory.remembered("faces", inputs, lambda: search_to_tensors(self._mesh.search(picture)))
        return search_from_tensors(found)

    def _identity(self, picture: np.ndarray, points: np.ndarray) -> np.ndarray:
        encoder = self._parts.identity_encoder
        assert encoder is not None  # asked for only then
        inputs = (picture, points, type(encoder).__name__)
        found = self._memory.remembered(
            "identity", inputs, lambda: {"identity": torch.from_numpy(encoder.encode(picture, points))}
        )
        return np.asarray(found["identity"].numpy())

    def _notes(self, num_sounding: int | None, points: np.ndarray | None) -> list[str]:
        """What is worth saying about the length of the sound, where it is known."""
        fps, notes = self._plan.sampling.fps, []
        if num_sounding is None:
            return []
        if points is not None and len(points) < num_sounding - 1:  # one is rounding: sound counts up
            seconds = len(points) / fps
            notes.append(f"The driving motion lasts {seconds:.2f} s: it runs back and forth until the sound ends.")
        if self._options.duration_seconds is not None:
            asked = math.floor(self._options.duration_seconds * fps + 1e-6)
            if num_sounding < asked:
                notes.append(
                    f"The sound ends after {num_sounding / fps:.2f} s, "
                    f"before the {self._options.duration_seconds:g} s asked for."
                )
        return notes

    def _vocals(self, path: Path, rate_hz: int) -> torch.Tensor:
        """The voice in a sound file, ``(samples,)``."""
        if self._parts.separator is None:
            raise MissingWeightsError(
                "--separate-vocals needs a separation network that is not installed. "
                "Run: portraitanim weights pull kim-vocal-2"
            )
        separator = VocalSeparator.load(self._parts.separator)
        start, duration = self._options.start_seconds, self._options.duration_seconds
        chunks = iter_audio(path, RATE_HZ, start_seconds=start, duration_seconds=duration)
        stereo = (chunk if chunk.samples.shape[0] <= 2 else to_mono(chunk) for chunk in chunks)
        voice = [to_mono(piece).samples for piece in separator.stream(stereo)]
        track = AudioTrack(samples=np.concatenate(voice, axis=1), sample_rate_hz=RATE_HZ)
        return torch.from_numpy(resample(track, rate_hz).samples[0])
