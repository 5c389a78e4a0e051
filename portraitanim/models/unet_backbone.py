"""The UNet walk that reference and denoising network share: time embedding, down, middle, up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from portraitanim.errors import ConfigError
from portraitanim.models.deep_features import DeepFeatures
from portraitanim.models.layer_sizes import LayerSizes
from portraitanim.models.token_maps import lay_suited
from portraitanim.models.unet_context import UNetContext
from portraitanim.models.unet_stage import StageSpec, UNetStage


class UNetBackbone(nn.Module):
    """Base of `ReferenceUNet` and `DenoisingUNet`; parameter names are those of Stable Diffusion 1.5.

    Those two are diffusers' ``ModelMixin`` in their own modules, where diffusers looks for it when it loads them.
    """

    _supports_gradient_checkpointing = True
    config: Any
    dtype: torch.dtype

    def _build(
        self,
        in_channels: int,
        block_out_channels: Sequence[int],
        attention_levels: Sequence[bool],
        layers_per_block: int,
        sizes: LayerSizes,
        motion_levels: Sequence[bool] = (),
        narrow_audio_attention: bool = False,
        ends_at_recording: bool = False,
    ) -> None:
        widths = list(block_out_channels)
        if len(attention_levels) != len(widths) or (motion_levels and len(motion_levels) != len(widths)):
            raise ConfigError(
                f"attention_levels and motion_levels need one value for each of the {len(widths)} widths, "
                f"got {list(attention_levels)} and {list(motion_levels)}."
            )
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], sizes.time_channels)
        specs = _stage_specs(widths, attention_levels, motion_levels, layers_per_block, narrow_audio_attention)
        if ends_at_recording:
            specs = _cut_after_last_attention(specs)
        self.down_blocks = nn.ModuleList(UNetStage(spec, sizes) for spec in specs[: len(widths)])
        self.mid_block = UNetStage(specs[len(widths)], sizes)
        self.up_blocks = nn.ModuleList(UNetStage(spec, sizes) for spec in specs[len(widths) + 1 :])

    def stages(self) -> Iterator[UNetStage]:
        """All stages in the order in which they run."""
        yield from cast("Iterable[UNetStage]", self.down_blocks)
        yield self.mid_block
        yield from cast("Iterable[UNetStage]", self.up_blocks)

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: object = None) -> None:
        """Recompute each layer in the backward pass instead of keeping it: less memory, the same numbers.

        Raises:
            ConfigError: another checkpointing function is given; only torch's non-reentrant one is supported.
        """
        if gradient_checkpointing_func is not None:
            raise ConfigError("Only torch's own checkpointing is supported: pass no gradient_checkpointing_func.")
        self._set_checkpointing(True)

    def disable_gradient_checkpointing(self) -> None:
        """Keep all activations again."""
        self._set_checkpointing(False)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass."""
        return self.mid_block.gradient_checkpointing

    def _set_checkpointing(self, enabled: bool) -> None:
        # Whole layers, not the parts of diffusers inside them as well: nested checkpoints recompute twice.
        for stage in self.stages():
            stage.gradient_checkpointing = enabled

    def _embed_time(self, timestep: Tensor | float, num_frames: int, like: Tensor) -> Tensor:
        """``(1, channels)`` for one timestep, ``(batch · frames, channels)`` for one per batch item."""
        timestep = torch.as_tensor(timestep, device=like.device).reshape(-1)
        embedding = self.time_embedding(self.time_proj(timestep).to(like.dtype))
        return embedding if len(timestep) == 1 else embedding.repeat_interleave(num_frames, dim=0)

    def _walk(
        self, hidden_states: Tensor, time_embedding: Tensor, context: UNetContext, deep: DeepFeatures | None = None
    ) -> Tensor:
        known = None if deep is None else deep.of_rows(len(hidden_states))
        hidden_states = lay_suited(hidden_states)
        skips = [hidden_states]
        if known is None:
            for stage in self.down_blocks:
                hidden_states, outputs = stage(hidden_states, time_embedding, context)
                skips += outputs
            hidden_states, _ = self.mid_block(hidden_states, time_embedding, context)
            *deeper, last = cast("Sequence[UNetStage]", list(self.up_blocks))
            for stage in deeper:
                hidden_states, _ = stage(hidden_states, time_embedding, context, skips)
            if deep is None:
                return last(hidden_states, time_embedding, context, skips)[0]
            hidden_states, _ = last(hidden_states, time_embedding, context, skips, range(len(last.resnets) - 1))
            deep.keep(hidden_states)
            known = hidden_states
        last = cast("UNetStage", self.up_blocks[-1])
        return last(known, time_embedding, context, skips, range(len(last.resnets) - 1, len(last.resnets)))[0]


def _cut_after_last_attention(specs: list[StageSpec]) -> list[StageSpec]:
    last = max(index for index, spec in enumerate(specs) if spec.has_attention)
    return [*specs[:last], replace(specs[last], ends_at_recording=True, upsample=False)]


def _stage_specs(
    widths: list[int],
    attention_levels: Sequence[bool],
    motion_levels: Sequence[bool],
    layers_per_block: int,
    narrow_audio_attention: bool,
) -> list[StageSpec]:
    """Down stages from shallow to deep, the middle stage, up stages from deep to shallow."""
    last = len(widths) - 1
    specs = []
    skip_channels = [widths[0]]
    for level, width in enumerate(widths):
        inputs = [widths[max(level - 1, 0)]] + [width] * (layers_per_block - 1)
        specs.append(
            StageSpec(
                name=f"down_blocks.{level}",
                level=level,
                resnet_channels=[(inside, width) for inside in inputs],
                num_layers=layers_per_block,
                has_attention=attention_levels[level],
                audio_channels=inputs if narrow_audio_attention else [width] * layers_per_block,
                has_motion=bool(motion_levels) and motion_levels[level],
                downsample=level < last,
            )
        )
        skip_channels += [width] * (layers_per_block + (level < last))
    specs.append(
        StageSpec(
            name="mid_block",
            level=last,
            resnet_channels=[(widths[-1], widths[-1])] * 2,
            num_layers=1,
            has_attention=True,
            audio_channels=[widths[-1]],
            has_motion=bool(motion_levels),
        )
    )
    below = widths[-1]
    for index, level in enumerate(reversed(range(len(widths)))):
        width, shallower = widths[level], widths[max(level - 1, 0)]
        inputs = [below] + [width] * layers_per_block
        specs.append(
            StageSpec(
                name=f"up_blocks.{index}",
                level=level,
                resnet_channels=[(inside + skip_channels.pop(), width) for inside in inputs],
                num_layers=layers_per_block + 1,
                has_attention=attention_levels[level],
                audio_channels=[shallower if narrow_audio_attention else width] * (layers_per_block + 1),
                has_motion=bool(motion_levels) and motion_levels[level],
                upsample=level > 0,
            )
        )
        below = width
    return specs
