"""What a preset says, as frozen dataclasses. No torch here: ``--help`` and config errors must be instant.

The fields of each network's section are the constructor arguments of the class of the same name in
``portraitanim.models``; a test holds them equal.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from portraitanim.config.audio import AudioConfig
from portraitanim.config.checks import require
from portraitanim.errors import ConfigError

_EXPONENT = re.compile(r"[-+]?\d+[eE][-+]?\d+")

SchedulerName = Literal["ddim", "dpm++2m", "unipc", "euler", "lcm", "tcd"]


@dataclass(frozen=True, kw_only=True)
class ReferenceUNetConfig:
    """The UNet that reads the still portrait.

    ``cross_attention_dim`` is ``None`` for networks whose blocks have no cross-attention at all (EchoMimic).
    """

    in_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    num_attention_heads: int = 8
    cross_attention_dim: int | None = 768
    norm_num_groups: int = 32


@dataclass(frozen=True, kw_only=True)
class DenoisingUNetConfig:
    """The UNet that denoises frames.

    ``cross_attention_source`` names what the second attention of a spatial block reads: the identity tokens
    (Hallo), the audio tokens (EchoMimic), or nothing, and then the blocks have no second attention.
    ``audio_attention_dim`` is the width of the audio tokens that the regional audio attention reads; ``None`` leaves
    that layer out. The three booleans at the end are quirks of the published Hallo weights that change the structure;
    `Quirks` has those that change what is read.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    motion_levels: tuple[bool, ...] = (True, True, True, True)
    layers_per_block: int = 2
    num_attention_heads: int = 8
    cross_attention_dim: int | None = 768
    cross_attention_source: Literal["identity", "audio", "none"] = "identity"
    cross_attention_scale: float = 1.0
    audio_attention_dim: int | None = None
    num_motion_heads: int = 8
    max_motion_positions: int = 32
    norm_num_groups: int = 32
    reference_latent_channels: int = 0
    narrow_audio_attention: bool = False
    audio_bias_outside_masks: bool = False
    four_zero_motion_frames_without_reference: bool = False


@dataclass(frozen=True, kw_only=True)
class ConditionEncoderConfig:
    """The small convolutional network that turns a face box or landmark drawing into features."""

    in_channels: int = 3
    block_out_channels: tuple[int, ...] = (16, 32, 64, 128)
    out_channels: int = 320


@dataclass(frozen=True, kw_only=True)
class IdentityProjectionConfig:
    """Face embedding → identity tokens."""

    embedding_dim: int = 512
    num_tokens: int = 4
    token_dim: int = 768


@dataclass(frozen=True, kw_only=True)
class AudioProjectionConfig:
    """Window of encoder states → audio tokens of one frame."""

    window: int = 5
    num_layers: int = 12
    feature_dim: int = 768
    hidden_dim: int = 512
    num_tokens: int = 32
    token_dim: int = 768


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """All networks that are trained together."""

    reference_unet: ReferenceUNetConfig = field(default_factory=ReferenceUNetConfig)
    denoising_unet: DenoisingUNetConfig = field(default_factory=DenoisingUNetConfig)
    condition_encoder: ConditionEncoderConfig = field(default_factory=ConditionEncoderConfig)
    identity_projection: IdentityProjectionConfig | None = None
    audio_projection: AudioProjectionConfig | None = None


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Constructor arguments of diffusers' ``AutoencoderKL``, as far as the presets differ."""

    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    mid_block_add_attention: bool = True


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """The noise schedule: shared by training and inference, whatever solver walks it."""

    name: SchedulerName = "ddim"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["linear", "scaled_linear"] = "linear"
    num_train_timesteps: int = 1000
    prediction_type: Literal["v_prediction"] = "v_prediction"
    rescale_betas_zero_snr: bool = True
    timestep_spacing: Literal["trailing"] = "trailing"


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a video is sampled. Named flags of ``animate`` override these."""

    size_px: int = 512
    fps: float = 25.0
    num_inference_steps: int = 40
    guidance_scale: float = 3.5
    audio_guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    plan: Literal["sequential", "overlapping", "open"] = "sequential"
    """Which frames are made together. ``sequential``: clip after clip, each reading the last frames of the one before
    (Hallo). ``overlapping``: windows that overlap, around the closed circle of all frames; in every step they move on
    by ``window_shift_per_step`` (EchoMimic). ``open``: such windows on a line without end, which move back by the
    overlap in every step, so that frames are finished one after another, before the end of the sound is known, in
    constant memory."""
    num_frames_per_clip: int = 16
    num_motion_frames: int = 0
    num_overlap_frames: int = 0
    window_shift_per_step: int = 0
    noise_clamp: float | None = None
    deep_every_steps: int = 1
    """The denoising network's deep stages are computed in every Nth step only (DeepCache, arXiv 2312.00858)."""
    decoder: Literal["full", "small"] = "full"
    """``small`` decodes with a TAESD-compatible autoencoder instead of the weights' own."""
    noise_scale: float = 1.0
    """Standard deviation of the noise: less of it needs fewer steps, and makes videos of several seeds alike."""
    shared_noise: float = 0.0
    """Share of the noise's variance that all frames have in common, in training too (mixed noise, arXiv 2305.10474):
    what few steps leave of it then does not flicker."""
    seed: int = 42

    def __post_init__(self) -> None:
        steps = self.num_inference_steps
        require(1 <= steps <= 1000, "sampling.num_inference_steps", "from 1 to 1000", steps)
        require(0 <= self.seed < 2**63, "sampling.seed", "from 0 to 2**63 - 1", self.seed)
        require(self.size_px > 0 and self.size_px % 8 == 0, "sampling.size_px", "a multiple of 8", self.size_px)
        require(0 < self.fps <= 240, "sampling.fps", "above 0, at most 240", self.fps)
        for name in ("guidance_scale", "audio_guidance_scale", "image_guidance_scale"):
            scale = getattr(self, name)
            require(scale is None or 0 <= scale <= 1000, f"sampling.{name}", "from 0 to 1000", scale)
        require(self.noise_clamp is None or self.noise_clamp > 0, "sampling.noise_clamp", "above 0", self.noise_clamp)
        require(1 <= self.deep_every_steps <= 100, "sampling.deep_every_steps", "from 1 to 100", self.deep_every_steps)
        for name in ("noise_scale", "shared_noise"):
            require(0 <= getattr(self, name) <= 1, f"sampling.{name}", "from 0 to 1", getattr(self, name))
        require(self.num_frames_per_clip >= 1, "sampling.num_frames_per_clip", ">= 1", self.num_frames_per_clip)
        require(
            0 <= self.num_overlap_frames < self.num_frames_per_clip,
            "sampling.num_overlap_frames",
            f"from 0 to num_frames_per_clip - 1 = {self.num_frames_per_clip - 1}",
            self.num_overlap_frames,
        )
        require(
            0 <= self.num_motion_frames <= self.num_frames_per_clip,
            "sampling.num_motion_frames",
            f"from 0 to num_frames_per_clip = {self.num_frames_per_clip}",
            self.num_motion_frames,
        )
        low, high = self.guidance_interval
        within = 0.0 <= low <= high <= 1.0
        require(within, "sampling.guidance_interval", "0 <= low <= high <= 1", self.guidance_interval)


@dataclass(frozen=True, kw_only=True)
class Quirks:
    """Accidents of the published code that its released weights were trained or are used with.

    On in the presets of published weights, off in weights that we train.
    """

    tile_reference_rows: bool = False
    """Row r of the (batch · frames) rows attends to reference row r mod batch, not to its own sample's."""
    tile_identity_tokens: bool = False
    """Row r of the (batch · (1 + motion frames)) rows of the reference pass reads identity tokens r mod batch."""
    round_reference_to_half: bool = False
    """Reference features are rounded to float16, whatever the number format of the network."""
    sum_overlaps_without_guidance: bool = False
    """Without guidance, overlapping windows are summed and not averaged (a defect of EchoMimic's pipelines)."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A system: networks, schedule, sampling and quirks. Everything that tells one from another is here."""

    name: str
    summary: str = ""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    quirks: Quirks = field(default_factory=Quirks)
    condition_map: Literal["face-box", "landmarks"] = "face-box"
    framing: Literal["face-share", "detected-box"] = "face-share"
    """How a portrait is cut: the face at a fixed share of the square (Hallo's advice), or the detected box grown by
    half (EchoMimic)."""
    landmark_parts: tuple[str, ...] = ()
    """The face parts whose drawing the weights have learned; none where the condition map is a face box."""
    moves_portrait: bool = False
    """The denoising UNet adds the latents of the portrait where the landmarks say that it is, see `moving_portrait`."""
    idle_motion: bool = False
    """Where sound drives alone: draw a resting face's blinks and small turns, instead of nothing; and the mouth, where
    the weights have a reader of it. For weights whose head would stay still without landmarks."""

    def __post_init__(self) -> None:
        _check_preset(self)

    @property
    def audio_window_rows(self) -> int:
        """States of the audio encoder that one frame sees, where they come at the video rate."""
        projection = self.network.audio_projection
        return AudioProjectionConfig.window if projection is None else projection.window


def _check_preset(preset: Preset) -> None:
    network, unet = preset.network, preset.network.denoising_unet
    levels = len(unet.block_out_channels)
    for name in ("attention_levels", "motion_levels"):
        got = len(getattr(unet, name))
        require(got == levels, f"network.denoising_unet.{name}", f"a list of {levels} values", f"{got} values")
    require(
        network.reference_unet.block_out_channels == unet.block_out_channels
        and network.reference_unet.attention_levels == unet.attention_levels
        and network.reference_unet.layers_per_block == unet.layers_per_block,
        "network.reference_unet",
        "of the same widths, attention levels and depth as network.denoising_unet (its features are read there)",
        network.reference_unet,
    )
    latent_channels = preset.autoencoder.latent_channels
    for name, channels in (
        ("reference_unet", network.reference_unet.in_channels),
        ("denoising_unet", unet.in_channels),
    ):
        require(
            channels == latent_channels,
            f"network.{name}.in_channels",
            f"autoencoder.latent_channels = {latent_channels}",
            channels,
        )
    require(
        unet.reference_latent_channels in (0, latent_channels),
        "network.denoising_unet.reference_latent_channels",
        f"0 or autoencoder.latent_channels = {latent_channels}",
        unet.reference_latent_channels,
    )
    require(
        network.condition_encoder.out_channels == unet.block_out_channels[0],
        "network.condition_encoder.out_channels",
        f"the first width of the denoising UNet ({unet.block_out_channels[0]})",
        network.condition_encoder.out_channels,
    )
    reads_identity = unet.cross_attention_source == "identity"
    require(
        (network.identity_projection is not None) == reads_identity,
        "network.identity_projection",
        "set exactly when denoising_unet.cross_attention_source is 'identity'",
        network.identity_projection,
    )
    require(
        bool(preset.landmark_parts) == (preset.condition_map == "landmarks"),
        "landmark_parts",
        "given exactly when condition_map is 'landmarks'",
        preset.landmark_parts,
    )
    require(
        not preset.moves_portrait or (preset.condition_map == "landmarks" and unet.reference_latent_channels > 0),
        "moves_portrait",
        "off where condition_map is not 'landmarks' or denoising_unet.reference_latent_channels is 0",
        preset.moves_portrait,
    )
    require(
        preset.sampling.num_frames_per_clip + preset.sampling.num_motion_frames <= unet.max_motion_positions,
        "sampling.num_frames_per_clip + num_motion_frames",
        f"at most network.denoising_unet.max_motion_positions = {unet.max_motion_positions}",
        preset.sampling.num_frames_per_clip + preset.sampling.num_motion_frames,
    )


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain data, as YAML and JSON hold it: tuples become lists. `from_dict` reads it back."""
    return _plain(dataclasses.asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def from_dict(cls: type, values: Any, path: str = "") -> Any:
    """Build a config dataclass from plain data, naming what does not fit.

    Args:
        cls: a dataclass of this module.
        values: nested dicts as read from YAML.
        path: dotted name of this section, for messages.

    Raises:
        ConfigError: an unknown key (the nearest valid one is named) or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{path or 'preset'} must be a mapping, got {values!r}.")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    arguments = {}
    for key, value in values.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f" Did you mean {path + '.' if path else ''}{near[0]}?" if near else f" Known: {', '.join(names)}."
            raise ConfigError(f"Unknown config key {where}.{hint}")
        arguments[key] = _convert(hints[key], value, where)
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ConfigError(f"{path or cls.__name__}: {error}.") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return _convert(inner, value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}, got {value!r}.")
        return value
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a mapping, got {value!r}.")
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, got {value!r}.")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ConfigError(f"{where} must be a list of {len(arguments)} values, got {value!r}.")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    return _convert_scalar(hint, value, where)


def _convert_scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)  # YAML reads 1e-4 as a word, because it has no point
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where} must be of type {hint.__name__}, got {value!r}.")
    return value
