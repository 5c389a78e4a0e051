"""What a training recipe says, as frozen dataclasses. No torch here, as in `portraitanim.config.schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from portraitanim.config.checks import require

Tracker = Literal["tensorboard", "wandb"]


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How the steps are made, whatever is trained.

    A step reads ``batch_size · accumulation_steps`` samples in each process. ``mixed_precision`` ``auto`` is bf16 where
    the device multiplies it natively and fp32 elsewhere. ``decay`` says how the learning rate falls after the warm-up;
    ``cosine`` ends at ``final_learning_rate_ratio`` of it. ``ema_decay`` ``None`` keeps no average.

    ``optimizer`` decides how much memory is needed beside weights and gradients: ``adamw`` keeps two numbers for each
    parameter that learns, ``adamw-8bit`` a quarter of that, ``adafactor`` (arXiv 1804.04235) sums over rows and
    columns, ``sgd`` nothing. For ``adafactor`` the learning rate is a share of each tensor's own size; neither it nor
    ``sgd`` reads ``betas`` and ``epsilon``.
    """

    num_steps: int = 1000
    batch_size: int = 1
    accumulation_steps: int = 1
    learning_rate: float = 1e-5
    warmup_steps: int = 0
    decay: Literal["constant", "cosine"] = "constant"
    final_learning_rate_ratio: float = 0.0
    optimizer: Literal["adamw", "adamw-8bit", "adafactor", "sgd"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-2
    epsilon: float = 1e-8
    max_gradient_norm: float = 1.0
    mixed_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    gradient_checkpointing: bool = False
    ema_decay: float | None = 0.999
    seed: int = 42
    num_workers: int = 0
    checkpoint_every_steps: int = 500
    keep_checkpoints: int = 2
    log_every_steps: int = 10
    trackers: tuple[str, ...] = ("tensorboard",)
    """Where the log goes besides ``log.jsonl``: some of `Tracker`."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "accumulation_steps", "checkpoint_every_steps", "keep_checkpoints"):
            require(getattr(self, name) >= 1, f"engine.{name}", ">= 1", getattr(self, name))
        require(self.log_every_steps >= 1, "engine.log_every_steps", ">= 1", self.log_every_steps)
        known = get_args(Tracker)
        for tracker in self.trackers:
            require(tracker in known, "engine.trackers", f"some of {', '.join(known)}", repr(tracker))
        require(self.learning_rate > 0, "engine.learning_rate", "> 0", self.learning_rate)
        require(self.max_gradient_norm > 0, "engine.max_gradient_norm", "> 0", self.max_gradient_norm)
        require(self.warmup_steps >= 0, "engine.warmup_steps", ">= 0", self.warmup_steps)
        require(
            self.ema_decay is None or 0 <= self.ema_decay < 1, "engine.ema_decay", "null or in [0, 1)", self.ema_decay
        )


@dataclass(frozen=True, kw_only=True)
class AutoencoderLossConfig:
    """Weights of the terms of the autoencoder's loss, see `portraitanim.training.autoencoder`."""

    absolute: float = 1.0
    gradient: float = 1.0
    structure: float = 0.2
    colour: float = 1.0
    kl: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class AutoencoderTrainingConfig:
    """Training of a preset's autoencoder on pictures.

    ``pictures`` names folders of pictures, or prepared datasets, whose frames are read. ``crop_px`` is the side of the
    square that is cut out of a picture of ``size_px``.
    """

    preset: str = "tiny"
    overrides: dict = field(default_factory=dict)
    start: str | None = None
    pictures: tuple[str, ...] = ()
    size_px: int = 256
    crop_px: int = 128
    loss: AutoencoderLossConfig = field(default_factory=AutoencoderLossConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        require(
            0 < self.crop_px <= self.size_px and self.crop_px % 8 == 0,
            "crop_px",
            f"a multiple of 8 up to size_px = {self.size_px}",
            self.crop_px,
        )


@dataclass(frozen=True, kw_only=True)
class SpectrumChangeConfig:
    """How log-mel states are changed, in their own unit (1 is 40 dB).

    ``gain`` is the largest shift of the level, ``tilt`` the deviation of a smooth curve over the bands, ``floor`` the
    highest noise floor above silence, ``gap`` the probability that some neighbouring bands are missing.
    """

    gain: float = 0.3
    tilt: float = 0.08
    floor: float = 0.35
    gap: float = 0.5


@dataclass(frozen=True, kw_only=True)
class AudioTrainingConfig:
    """Training of a preset's audio projection on sound and mouth motion, without pictures.

    ``speech`` is a folder of `portraitanim.data.speech_motion`, ``start`` an audio projection to go on from.
    """

    preset: str = "tiny"
    overrides: dict = field(default_factory=dict)
    start: str | None = None
    speech: str = ""
    changes: SpectrumChangeConfig = field(default_factory=SpectrumChangeConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Which pieces of the dataset's clips are read.

    A piece is ``num_frames`` frames, ``num_motion_frames`` before them, and a reference frame of the same clip, at
    least ``min_reference_distance`` frames from the piece where the clip is long enough. With the probability
    ``stills`` the reference is one of the clip's stills instead, where it has any. ``latents`` says where latents
    come from: the dataset's cached files, or the frames, encoded in every step; only frames can be augmented.
    ``masks`` says where the region masks come from: the ``clip``, which holds those of all its frames together (Hallo),
    or the ``reference`` frame, as at inference.
    """

    root: str = ""
    split: Literal["train", "test"] = "train"
    num_frames: int = 14
    num_motion_frames: int = 2
    min_reference_distance: int = 0
    stills: float = 0.0
    latents: Literal["cached", "encode"] = "cached"
    masks: Literal["clip", "reference"] = "clip"

    def __post_init__(self) -> None:
        require(self.num_frames >= 1, "data.num_frames", ">= 1", self.num_frames)
        require(self.num_motion_frames >= 0, "data.num_motion_frames", ">= 0", self.num_motion_frames)
        require(0 <= self.stills <= 1, "data.stills", "a probability", self.stills)


@dataclass(frozen=True, kw_only=True)
class DropConfig:
    """Probabilities with which a sample loses a condition, independently of the others (both papers: 5 %).

    ``reference`` drops the portrait in all its forms (features, identity, condition map), as guidance does at
    inference. ``audio`` zeroes the audio tokens. ``motion`` turns the motion frames into mid-grey (Hallo).
    ``first_clip`` puts the portrait where the motion frames are, as the first clip of a video has it.
    """

    reference: float = 0.05
    audio: float = 0.05
    motion: float = 0.05
    first_clip: float = 0.0

    def __post_init__(self) -> None:
        for name in ("reference", "audio", "motion", "first_clip"):
            require(0 <= getattr(self, name) <= 1, f"drops.{name}", "a probability", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class LandmarkConfig:
    """Random landmark selection (EchoMimic): with which probability each part is missing from a sample's drawing.

    ``everything`` drops the whole drawing, which leaves the sound alone.
    """

    everything: float = 0.0
    eyebrows: float = 0.0
    eyes: float = 0.0
    pupils: float = 0.0
    nose: float = 0.0
    mouth: float = 0.0

    def __post_init__(self) -> None:
        for name in ("everything", "eyebrows", "eyes", "pupils", "nose", "mouth"):
            require(0 <= getattr(self, name) <= 1, f"landmarks.{name}", "a probability", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Changes of sound and picture, each for a whole sample.

    Probabilities say how often a change is made; ranges are (smallest, largest).
    """

    noise: float = 0.0
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    reverb: float = 0.0
    reverb_seconds: tuple[float, float] = (0.1, 0.6)
    gain: float = 0.0
    gain_db: tuple[float, float] = (-12.0, 6.0)
    pitch: float = 0.0
    pitch_semitones: tuple[float, float] = (-3.0, 3.0)
    flip: float = 0.0
    colour: float = 0.0
    colour_strength: float = 0.2

    def __post_init__(self) -> None:
        for name in ("noise", "reverb", "gain", "pitch", "flip", "colour"):
            require(0 <= getattr(self, name) <= 1, f"augmentation.{name}", "a probability", getattr(self, name))
        for name in ("noise_snr_db", "reverb_seconds", "gain_db", "pitch_semitones"):
            low, high = getattr(self, name)
            require(low <= high, f"augmentation.{name}", "(smallest, largest)", (low, high))

    @property
    def changes_sound(self) -> bool:
        """Whether sound is read and encoded anew."""
        return max(self.noise, self.reverb, self.gain, self.pitch) > 0

    @property
    def changes_pictures(self) -> bool:
        """Whether frames are read and encoded anew."""
        return max(self.flip, self.colour) > 0


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The loss and what is drawn for it.

    ``min_snr_gamma`` ``None`` weighs all timesteps alike. ``sampling_timesteps`` is the share of samples whose
    timestep is one of those that the preset's sampler visits; the others are uniform. ``lip_weight`` and
    ``expression_weight`` are added to the weight 1 of every latent pixel where the region masks are 1.
    ``spatial_weight`` turns on EchoMimic's loss in pixels, on ``spatial_frames`` frames of each sample (0: all);
    ``lpips_weight`` is the weight of its perceptual term, whose network is read from ``lpips_weights``.
    """

    min_snr_gamma: float | None = 5.0
    min_snr_per_batch: bool = False
    """Quirk of Hallo's stage 2: the mean loss of the batch is weighted by the mean of its weights."""
    noise_offset: float = 0.05
    noise_scale: float | None = None
    """Standard deviation of the noise; ``None`` is that of sampling."""
    scaled_linear_betas: bool = False
    """Quirk of Hallo: trained on another schedule of betas than it samples with."""
    sampling_timesteps: float = 0.0
    lip_weight: float = 0.0
    expression_weight: float = 0.0
    spatial_weight: float = 0.0
    spatial_frames: int = 0
    lpips_weight: float = 1.0
    lpips_weights: str | None = None

    def __post_init__(self) -> None:
        require(0 <= self.sampling_timesteps <= 1, "objective.sampling_timesteps", "a share", self.sampling_timesteps)
        for name in ("noise_offset", "lip_weight", "expression_weight", "spatial_weight", "lpips_weight"):
            require(getattr(self, name) >= 0, f"objective.{name}", ">= 0", getattr(self, name))
        scale = self.noise_scale
        require(scale is None or 0 <= scale <= 1, "objective.noise_scale", "from 0 to 1", scale)


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Test clips that are animated every ``every_steps`` steps (0: never), ``num_frames`` frames of ``num_clips``."""

    every_steps: int = 0
    num_clips: int = 4
    num_frames: int = 24

    def __post_init__(self) -> None:
        require(self.every_steps >= 0, "validation.every_steps", ">= 0", self.every_steps)
        for name in ("num_clips", "num_frames"):
            require(getattr(self, name) >= 1, f"validation.{name}", ">= 1", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Training of a preset's networks on prepared clips.

    ``trainable`` holds patterns of parameter names of `PortraitNetwork`, as in a shell: a parameter learns if a
    pattern matches it and none that begins with ``!`` does. ``start``, ``autoencoder`` and ``audio_projection`` are
    folders of weights: a pipeline to go on from, and components to use instead of the pipeline's. ``fresh`` holds
    patterns of the parameters that begin anew, whatever ``start`` has for them.
    """

    preset: str = "tiny"
    overrides: dict = field(default_factory=dict)
    start: str | None = None
    autoencoder: str | None = None
    audio_projection: str | None = None
    fresh: tuple[str, ...] = ()
    trainable: tuple[str, ...] = ("*",)
    data: ClipConfig = field(default_factory=ClipConfig)
    drops: DropConfig = field(default_factory=DropConfig)
    landmarks: LandmarkConfig = field(default_factory=LandmarkConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        require(
            not (self.augmentation.changes_pictures and self.data.latents == "cached"),
            "data.latents",
            "'encode' with augmentation.flip or augmentation.colour (cached latents cannot be changed)",
            self.data.latents,
        )


AnyTrainingConfig = TrainingConfig | AutoencoderTrainingConfig | AudioTrainingConfig
