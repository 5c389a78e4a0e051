"""Samples of prepared clips, as the networks read them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from portraitanim.audio.encoder_folders import link_encoder
from portraitanim.audio.encoders import AudioEncoder
from portraitanim.audio.frame_windows import frame_windows
from portraitanim.config.audio import AUDIO_ENCODER_FOLDER
from portraitanim.config.schema import Preset
from portraitanim.config.training import AugmentationConfig, LandmarkConfig, TrainingConfig
from portraitanim.data.dataset import ClipDataset, ClipPiece, no_latents
from portraitanim.data.latents import autoencoder_fingerprint
from portraitanim.diffusion.noise import mixed_noise
from portraitanim.errors import InputError
from portraitanim.face.drawing import draw_landmarks
from portraitanim.face.mesh_topology import mirror_points
from portraitanim.face.mouth_reader import MOUTH_READER, MouthReader
from portraitanim.face.moving_portrait import MovingPortrait
from portraitanim.face.regions import face_box, face_region_map, mask_pyramid, region_masks, union_box
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from portraitanim.pipelines.weights_folder import write_preset
from portraitanim.training.augmentation import change_colour, change_sound, choose_parts
from portraitanim.training.portrait_objective import PortraitObjective
from portraitanim.types import AudioFeatures

logger = logging.getLogger(__name__)

_NOISE_STREAM, _CHOICE_STREAM, _SOUND_STREAM, _PICTURE_STREAM = 2, 3, 4, 5


class PortraitTask:
    """See `portraitanim.training.task.TrainingTask`.

    How the drawing of landmarks is chosen decides what the weights can do at inference. A drawing with a mouth moves
    the mouth; one without leaves it to the sound; none at all leaves everything to the sound, which says little about
    the head: so most samples keep eyes, brows and nose, which say where the head is, and lose the mouth.

    Args:
        pipeline: networks and autoencoder to go on from.
        preset: the system.
        config: the recipe.
        encoder: encodes sound where no states are stored, or where sound is changed; made on first use.
        carried_encoder: folder of the audio encoder, which becomes a part of the weights; ``None``: it does not.

    Attributes:
        mouth_reader: becomes a part of the weights, where there is one.
    """

    def __init__(
        self,
        pipeline: PortraitAnimationPipeline,
        preset: Preset,
        config: TrainingConfig,
        encoder: Callable[[], AudioEncoder],
        carried_encoder: Path | None = None,
    ) -> None:
        self.pipeline, self.preset, self.config = pipeline, preset, config
        self._make_encoder, self._carried_encoder = encoder, carried_encoder
        self._encoder: AudioEncoder | None = None
        self.mouth_reader: MouthReader | None = None
        self.dataset = ClipDataset(config.data, config.engine.seed)
        for record in self.dataset.records:
            if abs(record.fps - preset.sampling.fps) > 1e-3 or record.size_px != preset.sampling.size_px:
                raise InputError(
                    f"Clip {record.clip_id} is {record.size_px} px at {record.fps:g} fps, {preset.name} reads "
                    f"{preset.sampling.size_px} px at {preset.sampling.fps:g} fps. Prepare the dataset for it: "
                    f"prep --size {preset.sampling.size_px} --set fps={preset.sampling.fps:g}."
                )
            if config.data.latents == "cached" and record.latents is None:
                raise InputError(no_latents(record))
        self.network = pipeline.network
        self.module = PortraitObjective(self.network, pipeline.vae, preset, config)
        self._fingerprint = autoencoder_fingerprint(pipeline.vae) if config.data.latents == "cached" else ""

    def sample(self, number: int) -> dict[str, Any]:
        """See `TrainingTask.sample`."""
        piece = self.dataset.piece(number)
        random = np.random.default_rng((self.config.engine.seed, _CHOICE_STREAM, number))
        flipped = random.random() < self.config.augmentation.flip
        values: dict[str, Any] = self._pictures(piece, number, flipped)
        values |= self._drawn_values(number, values)
        values["audio_windows"] = self._audio_windows(piece, number)
        values |= self._face_values(piece, random, flipped, portrait=self._portrait(piece, values))
        drops = self.config.drops
        chances = dict(zip(("reference", "audio", "motion", "first_clip"), random.random(4), strict=True))
        values["without_reference"] = chances["reference"] < drops.reference
        values["with_audio"] = torch.tensor(float(chances["audio"] >= drops.audio))
        values["is_first_clip"] = torch.tensor(bool(chances["first_clip"] < drops.first_clip))
        values["motion_is_grey"] = torch.tensor(bool(chances["motion"] < drops.motion))
        return values

    def fixed_values(self, piece: ClipPiece) -> dict[str, Any]:
        """What a piece has without any random choice: audio windows, a condition map of all parts, identity."""
        every = replace(self.config, landmarks=LandmarkConfig())
        values = self._face_values(piece, np.random.default_rng(0), flipped=False, config=every)
        return {**values, "audio_windows": self._audio_windows(piece, None)}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """See `TrainingTask.collate`. Samples without reference come first, as `PortraitNetwork.forward` wants."""
        samples = sorted(samples, key=lambda sample: not sample["without_reference"])
        batch: dict[str, Any] = {
            name: torch.stack([sample[name] for sample in samples])
            for name, value in samples[0].items()
            if isinstance(value, Tensor)
        }
        if "masks" in samples[0]:
            batch["masks"] = [torch.cat(levels) for levels in zip(*[s["masks"] for s in samples], strict=True)]
        batch["num_without_reference"] = sum(sample["without_reference"] for sample in samples)
        return batch

    def save(self, folder: Path, device: torch.device) -> None:
        """Write the pipeline, the preset that it was built from, mouth reader, and the audio encoder it hears by."""
        del device
        self.pipeline.save_pretrained(folder)
        write_preset(self.preset, folder)
        if self.mouth_reader is not None:
            self.mouth_reader.save(folder / MOUTH_READER)
        if self._carried_encoder is not None:
            link_encoder(self._carried_encoder, folder / AUDIO_ENCODER_FOLDER)

    def _pictures(self, piece: ClipPiece, number: int, flipped: bool) -> dict[str, Tensor]:
        if self.config.data.latents == "cached":
            latents, motion, reference = self.dataset.latents(piece, self._fingerprint)
            return {"latents": latents, "motion": motion, "reference": reference}
        run, motion_run, reference_picture = self.dataset.pictures(piece)
        counts = (len(run), len(motion_run), 1)
        pictures = torch.from_numpy(np.concatenate([run, motion_run, reference_picture[None]])).float() / 127.5 - 1
        random = np.random.default_rng((self.config.engine.seed, _PICTURE_STREAM, number))
        if random.random() < self.config.augmentation.colour:
            pictures = change_colour(pictures, self.config.augmentation.colour_strength, random)
        if flipped:
            pictures = pictures.flip(-1)
        frames, motion_frames, last = pictures.split(counts)
        return {"pictures": frames, "motion_pictures": motion_frames, "reference_picture": last[0]}

    def _drawn_values(self, number: int, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Timestep and noise of the sample, from a generator of its own."""
        generator = torch.Generator().manual_seed(self.config.engine.seed * 1_000_003 + number * 8 + _NOISE_STREAM)
        objective = self.config.objective
        channels = self.network.denoising_unet.config.in_channels
        if "latents" in values:
            size = tuple(values["latents"].shape[-2:])
        else:
            factor = 2 ** (len(self.pipeline.vae.config.block_out_channels) - 1)
            size = tuple(side // factor for side in values["pictures"].shape[-2:])
        num_frames = self.config.data.num_frames
        timestep = self.module.schedule.draw_timestep(objective.sampling_timesteps, generator)
        noise = torch.randn(num_frames, channels, *size, generator=generator)
        sampling = self.preset.sampling
        if sampling.shared_noise:
            common = torch.randn(1, channels, *size, generator=generator)
            noise = mixed_noise(noise, common, sampling.shared_noise)
        # The mean of each channel is shifted for the clip as a whole, so that it can be learned (noise offset).
        noise = noise + objective.noise_offset * torch.randn(1, channels, 1, 1, generator=generator)
        noise = noise * (sampling.noise_scale if objective.noise_scale is None else objective.noise_scale)
        count = objective.spatial_frames or num_frames
        frames = torch.randperm(num_frames, generator=generator)[:count]
        return {"timesteps": torch.tensor(timestep), "noise": noise, "spatial_frames": frames}

    def _audio_windows(self, piece: ClipPiece, number: int | None) -> Tensor:
        audio = self.preset.audio
        states = None
        rate_hz = piece.record.fps if audio.window == "centred" else 50.0
        changes = AugmentationConfig() if number is None else self.config.augmentation
        if not changes.changes_sound:
            states = self.dataset.audio_states(piece.record, audio.states_name)
        if states is None:
            if self._encoder is None:
                if piece.record.audio_states and not changes.changes_sound:
                    stored = ", ".join(sorted(piece.record.audio_states))
                    logger.warning(
                        "Sound is encoded in every step: clip %s has states of %s, none of %s. To store them: prep "
                        "--audio-encoder.", piece.record.clip_id, stored, audio.states_name,
                    )  # fmt: skip
                self._encoder = self._make_encoder()
            waveform = self.dataset.waveform(piece.record, audio.sample_rate_hz)
            random = np.random.default_rng((self.config.engine.seed, _SOUND_STREAM, number or 0))
            waveform = change_sound(waveform, changes, random, audio.sample_rate_hz)
            features = self._encoder.encode(waveform, piece.record.fps)
        else:
            features = AudioFeatures(states=states, rate_hz=rate_hz, encoder=audio.states_name)
        count = len(features.states) if audio.window == "centred" else piece.record.num_frames
        frames = [min(frame, count - 1) for frame in piece.frames]
        return frame_windows(
            features, audio.window, piece.record.fps, window=self.preset.audio_window_rows, frames=frames
        )

    def _portrait(self, piece: ClipPiece, values: dict[str, Tensor]) -> np.ndarray | None:
        """The reference frame, uint8 ``(3, size, size)``, as the sample shows it, for networks that see it moved."""
        if not self.preset.moves_portrait:
            return None
        if "reference_picture" in values:
            return ((values["reference_picture"] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
        return self.dataset.reference_picture(piece)

    def _face_values(
        self,
        piece: ClipPiece,
        random: np.random.Generator,
        flipped: bool,
        config: TrainingConfig | None = None,
        portrait: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Condition map, region masks, identity of the sample, and its portrait moved to where the landmarks say."""
        points, reference = self.dataset.landmarks(piece)
        face = self.dataset.face(piece.record)
        size = piece.record.size_px
        masks = face["masks"]
        if self.config.data.masks == "reference":
            masks = region_masks(reference, size, size)
        if flipped:
            points, reference, masks = mirror_points(points, size), mirror_points(reference, size), masks[..., ::-1]
        levels = len(self.preset.network.denoising_unet.block_out_channels)
        values: dict[str, Any] = {
            "masks": mask_pyramid(np.ascontiguousarray(masks), (size, size), levels).levels,
        }
        parts: tuple[str, ...] = ()
        if self.preset.condition_map == "landmarks":
            parts = choose_parts((config or self.config).landmarks, random)
        values["condition_map"] = torch.from_numpy(self._condition_map(points, size, parts))
        if portrait is not None:
            values["moved_pictures"] = torch.from_numpy(MovingPortrait(portrait, reference).moved(points, parts))
        if self.preset.network.identity_projection is not None:
            if "identity" not in face:
                raise InputError(
                    f"Clip {piece.record.clip_id} has no identity embedding, which {self.preset.name} reads. Prepare "
                    "the dataset again with the identity encoder's weights installed ('portraitanim weights')."
                )
            values["identity"] = torch.from_numpy(face["identity"]).float()
        return values

    def _condition_map(self, points: np.ndarray, size: int, parts: tuple[str, ...]) -> np.ndarray:
        """uint8 ``(frames or 1, channels, size, size)``: drawings with some parts, or the face box of the piece."""
        if self.preset.condition_map == "landmarks":
            return np.stack([draw_landmarks(frame, (size, size), (size, size), parts) for frame in points])
        box = union_box([face_box(frame, size, size, 1.0) for frame in points])
        channels = self.preset.network.condition_encoder.in_channels
        return face_region_map(box, size, size, (size, size))[None, :channels]
