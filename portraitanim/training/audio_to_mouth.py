"""Trains a preset's audio projection to say how the mouth moves, before any picture is made.

The audio tokens of a small network that hears mel bands have to become speech sounds first, and the loss of pictures
teaches that slowly: it passes through the whole denoising UNet, and each sample costs a picture. The mouth's own
measures teach it in minutes, from sound alone. What Hallo and EchoMimic take from wav2vec2 and Whisper, `tiny` gets
here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from portraitanim.audio.frame_windows import centred_indices
from portraitanim.config.presets import load_preset
from portraitanim.config.training import AudioTrainingConfig, SpectrumChangeConfig
from portraitanim.data.speech_motion import MOUTH_MEASURES, SpeechMotionDataset
from portraitanim.errors import ConfigError
from portraitanim.models.embedders import AudioProjection
from portraitanim.pipelines.build import build_networks
from portraitanim.pipelines.weights_folder import load_audio_projection, named_folder
from portraitanim.training.optimizer import own_memory

_SCALES = (0.1, 0.15, 1.0)
"""Brings the mouth's measures to about the same size."""

_SILENCE = -1.0
"""A mel band without sound, see `LogMelAudioEncoder`."""


class AudioToMouthObjective(nn.Module):
    """An audio projection with a linear reading of its tokens, and the loss of what it reads.

    The loss is the squared error of the mouth's measures plus half that of their change from frame to frame; measures
    that are not known do not count.
    """

    def __init__(self, projection: AudioProjection) -> None:
        super().__init__()
        self.projection = projection
        sizes = projection.config
        self.reading = nn.Linear(sizes.num_tokens * sizes.token_dim, len(MOUTH_MEASURES))
        self.scales: Tensor
        self.register_buffer("scales", torch.tensor(_SCALES), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms for ``states`` ``(batch, frames, layers, dim)`` and ``mouth`` ``(batch, frames, 3)``."""
        known = ~batch["mouth"].isnan()
        wanted = batch["mouth"].nan_to_num() / self.scales
        read = torch.where(known, self.read(batch["states"]), 0.0)
        error = (read - wanted).square().sum() / known.sum().clamp(min=1)
        change = (read.diff(dim=1) - wanted.diff(dim=1)).square().sum() / known.sum().clamp(min=1)
        return error + 0.5 * change, {"mouth": error.detach(), "change": change.detach()}

    def read(self, states: Tensor) -> Tensor:
        """The mouth that the tokens tell, ``(batch, frames, 3)``, scaled; windows are those of `frame_windows`."""
        windows = states[:, centred_indices(states.shape[1], self.projection.config.window)]
        return self.reading(self.projection(windows).flatten(2)).float()


class AudioToMouthTask:
    """See `portraitanim.training.task.TrainingTask`."""

    def __init__(self, config: AudioTrainingConfig) -> None:
        preset = load_preset(config.preset, config.overrides)
        if preset.audio.encoder != "log-mel" or preset.network.audio_projection is None:
            raise ConfigError(
                f"Stage audio is for presets that hear log-mel bands; {preset.name} hears {preset.audio.encoder}, "
                "which is trained already. Leave this stage out."
            )
        torch.manual_seed(config.engine.seed)
        if config.start is None:
            projection = build_networks(preset)["audio_projection"]
        else:
            window = preset.network.audio_projection.window
            projection = own_memory(widened(load_audio_projection(named_folder("start", config.start)), window))
        self.config, self.projection = config, projection
        self.dataset = SpeechMotionDataset(config.speech, config.engine.seed)
        self.module = AudioToMouthObjective(projection)

    def sample(self, number: int) -> dict[str, Any]:
        """See `TrainingTask.sample`."""
        states, mouth = self.dataset.sample(number)
        generator = torch.Generator().manual_seed(self.config.engine.seed * 1_000_003 + number)
        return {"states": change_spectrum(states, self.config.changes, generator), "mouth": mouth}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """See `TrainingTask.collate`."""
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def save(self, folder: Path, device: torch.device) -> None:
        """Write the audio projection."""
        del device
        self.projection.save_pretrained(folder)


def widened(projection: AudioProjection, window: int) -> AudioProjection:
    """The same projection with a longer window of sound, to whose ends it does not listen yet.

    Raises:
        ConfigError: the window is shorter than the projection's, or has no middle.
    """
    sizes = projection.config
    if window == sizes.window:
        return projection
    if window < sizes.window or window % 2 == 0:
        raise ConfigError(
            f"A projection that hears {sizes.window} frames cannot hear {window}. Choose an odd number above it, or "
            "start from nothing."
        )
    wide = AudioProjection(
        window=window,
        num_layers=sizes.num_layers,
        feature_dim=sizes.feature_dim,
        hidden_dim=sizes.hidden_dim,
        num_tokens=sizes.num_tokens,
        token_dim=sizes.token_dim,
    )
    weights = projection.state_dict()
    frames = weights["proj1.weight"].unflatten(1, (sizes.window, -1))
    side = (window - sizes.window) // 2
    wide.load_state_dict({**weights, "proj1.weight": F.pad(frames, (0, 0, side, side)).flatten(1)})
    return wide


def change_spectrum(states: Tensor, config: SpectrumChangeConfig, generator: torch.Generator) -> Tensor:
    """Another microphone and room for log-mel states ``(frames, 4, bands)``: gain, tilt, a noise floor, a gap."""
    bands = states.shape[-1]

    def uniform() -> float:
        return float(torch.rand((), generator=generator))

    def curve(num_knots: int) -> Tensor:
        knots = config.tilt * torch.randn(1, 1, num_knots, generator=generator)
        return F.interpolate(knots, size=bands, mode="linear", align_corners=True)[0]

    changed = states + config.gain * (2 * uniform() - 1) + curve(6)
    floor = _SILENCE + config.floor * uniform() + curve(5)
    ripple = 0.05 * torch.randn(states.shape, generator=generator) if config.floor else 0.0
    changed = torch.maximum(changed, floor + ripple)
    if uniform() < config.gap:
        first = int(uniform() * bands)
        changed[..., first : first + 1 + int(uniform() * bands / 7)] = _SILENCE + 0.3 * uniform()
    return changed.clamp(_SILENCE, 1.2)
