"""One stage of a UNet: used for down, mid and up, in the reference UNet as in the denoising UNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from diffusers.models.downsampling import Downsample2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, cat, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

from portraitanim.models.audio_attention import RegionalAudioAttention
from portraitanim.models.layer_sizes import LayerSizes
from portraitanim.models.motion_module import MotionModule
from portraitanim.models.spatial_transformer import RecordingEnd, SpatialTransformer
from portraitanim.models.timed_resnet import TimedResnet
from portraitanim.models.token_maps import lay_suited
from portraitanim.models.unet_context import UNetContext


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """How a stage is built.

    Attributes:
        name: its name in the UNet, such as ``down_blocks.0``; layer names start with it.
        level: its depth, 0 at full latent size.
        resnet_channels: (in, out) of each resnet.
        num_layers: resnets that are followed by attention, audio and motion (the middle stage has one more resnet).
        has_attention: spatial transformers, and audio modules where the network has them.
        audio_channels: inner width of each layer's audio module; empty for none.
        has_motion: motion modules.
        downsample: it ends at half the size.
        upsample: it ends at twice the size.
        ends_at_recording: the last spatial transformer is cut off where its input has been recorded, because what
            comes after it influences nothing.
    """

    name: str
    level: int
    resnet_channels: Sequence[tuple[int, int]]
    num_layers: int
    has_attention: bool
    audio_channels: Sequence[int] = ()
    has_motion: bool = False
    downsample: bool = False
    upsample: bool = False
    ends_at_recording: bool = False


class UNetStage(nn.Module):
    """Layers of resnet → spatial transformer → regional audio attention → motion module, then a change of size.

    Convolutions, normalizations and spatial attention work on each frame by itself; frames are rows.
    """

    def __init__(self, spec: StageSpec, sizes: LayerSizes) -> None:
        super().__init__()
        self.spec = spec
        self.zero_motion_frames = sizes.zero_motion_frames
        self.gradient_checkpointing = False
        width = spec.resnet_channels[-1][1]
        self.resnets = nn.ModuleList(
            TimedResnet(
                in_channels=inside,
                out_channels=outside,
                temb_channels=sizes.time_channels,
                eps=1e-5,
                groups=sizes.norm_num_groups,
            )
            for inside, outside in spec.resnet_channels
        )
        self.attentions = nn.ModuleList()
        self.audio_modules = nn.ModuleList()
        self.motion_modules = nn.ModuleList()
        for index in range(spec.num_layers):
            if spec.has_attention:
                cut = spec.ends_at_recording and index == spec.num_layers - 1
                self.attentions.append(RecordingEnd(width, sizes) if cut else SpatialTransformer.of_sizes(width, sizes))
            if spec.has_attention and sizes.audio_attention_dim is not None:
                self.audio_modules.append(
                    RegionalAudioAttention(
                        width,
                        spec.audio_channels[index],
                        sizes.num_attention_heads,
                        sizes.audio_attention_dim,
                        sizes.norm_num_groups,
                        sizes.audio_bias_outside_masks,
                    )
                )
            if spec.has_motion:
                self.motion_modules.append(
                    MotionModule(width, sizes.num_motion_heads, sizes.max_motion_positions, sizes.norm_num_groups)
                )
        self.downsamplers = nn.ModuleList()
        self.upsamplers = nn.ModuleList()
        if spec.downsample:
            self.downsamplers.append(Downsample2D(width, use_conv=True, out_channels=width, padding=1, name="op"))
        if spec.upsample:
            self.upsamplers.append(Upsample2D(width, use_conv=True, out_channels=width))

    def spatial_blocks(self) -> Iterator[tuple[str, Any]]:
        """Name and transformer block of each spatial transformer."""
        for index, attention in enumerate(self.attentions):
            yield self.layer_name(index), cast("Any", attention).transformer_blocks[0]

    def layer_name(self, index: int) -> str:
        """Name of the spatial transformer of layer ``index``, by which its conditions are found."""
        return f"{self.spec.name}.attentions.{index}"

    def forward(
        self,
        hidden_states: Tensor,
        time_embedding: Tensor,
        context: UNetContext,
        skips: list[Tensor] | None = None,
        layers: range | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Run all layers, or some of a stage that changes no size.

        Args:
            hidden_states: ``(rows, channels, height, width)``, rows batch-major, then frames.
            time_embedding: ``(rows or 1, time_channels)``.
            context: the conditions of this call.
            skips: outputs of the down stages, for an up stage, which takes its own from the end.
            layers: which layers; ``None`` for all.

        Returns:
            The features, and the outputs that an up stage will read.
        """
        outputs = []
        for index in range(len(self.resnets)) if layers is None else layers:
            skip = skips.pop() if skips is not None else None
            if self.gradient_checkpointing and is_grad_enabled():
                hidden_states = checkpoint(
                    self._layer, index, hidden_states, time_embedding, context, skip, use_reentrant=False
                )
            else:
                hidden_states = self._layer(index, hidden_states, time_embedding, context, skip)
            outputs.append(hidden_states)
        for downsampler in self.downsamplers:
            hidden_states = lay_suited(downsampler(hidden_states))
            outputs.append(hidden_states)
        for upsampler in self.upsamplers:
            # The size of the next skip, which is not always twice ours: latents need not divide by eight.
            size = tuple(skips[-1].shape[-2:]) if skips else None
            hidden_states = upsampler(lay_suited(hidden_states, scale=2), size)
        return hidden_states, outputs

    def _layer(
        self,
        index: int,
        hidden_states: Tensor,
        time_embedding: Tensor,
        context: UNetContext,
        skip: Tensor | None,
    ) -> Tensor:
        if skip is not None:
            hidden_states = cat([hidden_states, skip], dim=1)
        hidden_states = self.resnets[index](hidden_states, time_embedding)
        if index >= self.spec.num_layers:
            return hidden_states
        name = self.layer_name(index)
        if self.spec.has_attention:
            hidden_states = self.attentions[index](hidden_states, context.spatial(name))
        if self.audio_modules:
            regional = context.regional_audio(name, self.spec.level)
            hidden_states = self.audio_modules[index](hidden_states, regional)
        if self.motion_modules:
            motion = self._motion_tokens(context, name, hidden_states)
            hidden_states = self.motion_modules[index](hidden_states, context.num_frames, motion)
        return hidden_states

    def _motion_tokens(self, context: UNetContext, name: str, hidden_states: Tensor) -> Tensor | None:
        motion = context.motion_tokens.get(name)
        if motion is not None or not (self.zero_motion_frames and self.spec.has_attention):
            return motion
        rows, channels, height, width = hidden_states.shape
        return hidden_states.new_zeros(rows // context.num_frames, self.zero_motion_frames, height * width, channels)
