"""The denoising UNet: predicts the velocity of a run of frames from portrait, sound and motion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, cat, nn
from torch.nn.functional import silu

from portraitanim.errors import ShapeError
from portraitanim.models.audio_attention import RegionalAudioAttention
from portraitanim.models.deep_features import DeepFeatures
from portraitanim.models.layer_sizes import LayerSizes
from portraitanim.models.projections import KeysValues, project_keys_values
from portraitanim.models.token_maps import lay_suited
from portraitanim.models.unet_backbone import UNetBackbone
from portraitanim.models.unet_context import UNetContext


class DenoisingUNet(UNetBackbone, ModelMixin, ConfigMixin):
    """A UNet over frames; each layer is resnet → spatial attention → regional audio attention → motion module.

    Args:
        in_channels: latent channels.
        out_channels: channels of the predicted velocity.
        block_out_channels: width of each level.
        attention_levels: which levels have spatial transformers (and audio modules); the middle always has them.
        motion_levels: which levels have motion modules; the middle has one if any level has.
        layers_per_block: layers per down stage; an up stage has one more.
        num_attention_heads: number of heads of spatial and audio attention.
        cross_attention_dim: width of what the second attention of a spatial block reads; ``None``: there is none.
        cross_attention_source: what that is: ``identity`` tokens, ``audio`` tokens or ``none``.
        cross_attention_scale: factor on its output.
        audio_attention_dim: width of the audio tokens of the regional audio attention; ``None`` leaves it out.
        num_motion_heads: heads of the temporal attention.
        max_motion_positions: longest run of frames, motion frames included.
        norm_num_groups: groups of all group normalizations.
        reference_latent_channels: channels of the portrait's latents, which are added after the first convolution
            through one of their own; 0: they are not.
        narrow_audio_attention: quirk of the Hallo weights: the inner width of an audio module follows the input of
            its stage, not the layer's own width.
        audio_bias_outside_masks: quirk of the Hallo weights, see `RegionalAudioAttention`.
        four_zero_motion_frames_without_reference: quirk of the Hallo weights: without reference features, four zero
            frames stand before the clip in the motion modules.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        attention_levels: tuple[bool, ...] = (True, True, True, False),
        motion_levels: tuple[bool, ...] = (True, True, True, True),
        layers_per_block: int = 2,
        num_attention_heads: int = 8,
        cross_attention_dim: int | None = 768,
        cross_attention_source: str = "identity",
        cross_attention_scale: float = 1.0,
        audio_attention_dim: int | None = None,
        num_motion_heads: int = 8,
        max_motion_positions: int = 32,
        norm_num_groups: int = 32,
        reference_latent_channels: int = 0,
        narrow_audio_attention: bool = False,
        audio_bias_outside_masks: bool = False,
        four_zero_motion_frames_without_reference: bool = False,
    ) -> None:
        super().__init__()
        sizes = LayerSizes(
            time_channels=4 * block_out_channels[0],
            num_attention_heads=num_attention_heads,
            cross_attention_dim=None if cross_attention_source == "none" else cross_attention_dim,
            norm_num_groups=norm_num_groups,
            cross_attention_scale=cross_attention_scale,
            audio_attention_dim=audio_attention_dim,
            audio_bias_outside_masks=audio_bias_outside_masks,
            num_motion_heads=num_motion_heads,
            max_motion_positions=max_motion_positions,
            zero_motion_frames=4 if four_zero_motion_frames_without_reference else 0,
        )
        self._build(
            in_channels,
            block_out_channels,
            attention_levels,
            layers_per_block,
            sizes,
            motion_levels if any(motion_levels) else (),
            narrow_audio_attention,
        )
        self.conv_reference = (
            nn.Conv2d(reference_latent_channels, block_out_channels[0], 3, padding=1)
            if reference_latent_channels
            else None
        )
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, block_out_channels[0], eps=1e-5)
        self.conv_out = nn.Conv2d(block_out_channels[0], out_channels, 3, padding=1)

    def forward(
        self, sample: Tensor, timestep: Tensor | float, context: UNetContext, deep: DeepFeatures | None = None
    ) -> Tensor:
        """Predict the velocity.

        Args:
            sample: noisy latents ``(batch, frames, in_channels, height, width)``.
            timestep: one for all, or one per batch item ``(batch,)``.
            context: conditions, projected by `project_reference`, `project_cross` and `project_audio`.
            deep: what the deep stages made in an earlier step, which is read instead, or where it is left; ``None``:
                everything is computed and nothing kept.

        Returns:
            ``(batch, frames, out_channels, height, width)``.

        Raises:
            ShapeError: ``sample`` has another number of frames than the context, or too many for the motion modules.
        """
        batch, frames = sample.shape[:2]
        if frames != context.num_frames:
            raise ShapeError(f"The sample has {frames} frames, its conditions were made for {context.num_frames}.")
        if any(self.config.motion_levels) and frames > self.config.max_motion_positions:
            raise ShapeError(
                f"{frames} frames at once, but the motion modules know {self.config.max_motion_positions} positions. "
                "Use shorter clips or windows."
            )
        hidden_states = self.conv_in(lay_suited(sample.flatten(0, 1)))
        if context.condition is not None:
            hidden_states = _add_condition(hidden_states.unflatten(0, (batch, frames)), context).flatten(0, 1)
        hidden_states = self._walk(hidden_states, self._embed_time(timestep, frames, sample), context, deep)
        hidden_states = self.conv_out(silu(self.conv_norm_out(hidden_states)))
        return hidden_states.contiguous().unflatten(0, (batch, frames))

    @apply_forward_hook
    def project_reference(self, features: Mapping[str, Tensor]) -> dict[str, KeysValues]:
        """Keys and values of the reference tokens, once per video.

        Args:
            features: what `ReferenceUNet` returns, ``(rows, tokens, channels)`` each.
        """
        return {
            name: project_keys_values(block.attn1, features[name].to(self.dtype))
            for name, block in self._spatial_blocks()
        }

    @apply_forward_hook
    def project_latents(self, latents: Tensor) -> Tensor:
        """What the portrait's latents ``(rows, frames, channels, height, width)`` add after the first convolution.

        Returns:
            ``(rows, frames, width of the first level, height, width)``.

        Raises:
            ShapeError: this network adds none.
        """
        if self.conv_reference is None:
            raise ShapeError("This network adds no portrait latents: its reference_latent_channels are 0.")
        return self.conv_reference(latents.flatten(0, 1).to(self.dtype)).unflatten(0, latents.shape[:2])

    @apply_forward_hook
    def project_cross(self, tokens: Tensor) -> dict[str, KeysValues]:
        """Keys and values of the identity or audio tokens ``(batch, [frames,] tokens, dim)``, once per clip."""
        return {name: project_keys_values(block.attn2, tokens) for name, block in self._spatial_blocks()}

    @apply_forward_hook
    def project_audio(self, tokens: Tensor) -> dict[str, Sequence[KeysValues]]:
        """What each audio module hears of the audio tokens ``(rows, tokens, dim)``, once per clip."""
        return {
            stage.layer_name(index): cast("RegionalAudioAttention", module).project(tokens)
            for stage in self.stages()
            for index, module in enumerate(stage.audio_modules)
        }

    @property
    def has_regional_audio(self) -> bool:
        """Whether sound acts by region (pose, expression, lip), so that weights and masks mean something."""
        return self.config.audio_attention_dim is not None

    def _spatial_blocks(self) -> Iterator[tuple[str, Any]]:
        for stage in self.stages():
            yield from stage.spatial_blocks()


def _add_condition(hidden_states: Tensor, context: UNetContext) -> Tensor:
    """Add the condition map's features to the batch items that see it; the others see zeros."""
    alone = context.num_without_reference
    if context.condition is None or alone == len(hidden_states):
        return hidden_states
    return cat([hidden_states[:alone], hidden_states[alone:] + context.condition])
