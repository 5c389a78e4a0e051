"""The reference UNet: reads the still portrait and leaves its features for the denoising UNet."""

from __future__ import annotations

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from portraitanim.errors import ShapeError
from portraitanim.models.layer_sizes import LayerSizes
from portraitanim.models.projections import KeysValues, project_keys_values
from portraitanim.models.unet_backbone import UNetBackbone
from portraitanim.models.unet_context import UNetContext


class ReferenceUNet(UNetBackbone, ModelMixin, ConfigMixin):
    """A 2-D UNet whose result is the input of each self-attention (ReferenceNet of Hallo and EchoMimic).

    It ends where the last of them is recorded: the layers after it, and the output convolution of Stable
    Diffusion, have no influence and are not built.

    Args:
        in_channels: latent channels.
        block_out_channels: width of each level.
        attention_levels: which levels have spatial transformers; the middle always has one.
        layers_per_block: resnets per down stage; an up stage has one more.
        num_attention_heads: number of heads.
        cross_attention_dim: width of the identity tokens; ``None``: the blocks have no second attention.
        norm_num_groups: groups of all group normalizations.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        attention_levels: tuple[bool, ...] = (True, True, True, False),
        layers_per_block: int = 2,
        num_attention_heads: int = 8,
        cross_attention_dim: int | None = 768,
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__()
        sizes = LayerSizes(
            time_channels=4 * block_out_channels[0],
            num_attention_heads=num_attention_heads,
            cross_attention_dim=cross_attention_dim,
            norm_num_groups=norm_num_groups,
        )
        self._build(in_channels, block_out_channels, attention_levels, layers_per_block, sizes, ends_at_recording=True)

    def forward(self, latents: Tensor, identity_tokens: Tensor | None = None) -> dict[str, Tensor]:
        """Read clean portrait latents, at timestep 0.

        Args:
            latents: ``(rows, in_channels, height, width)``, scaled VAE latents.
            identity_tokens: ``(rows, tokens, cross_attention_dim)``; ``None`` exactly for networks without
                cross-attention.

        Returns:
            Layer name → normalized tokens ``(rows, height · width, channels)`` that its self-attention reads.

        Raises:
            ShapeError: identity tokens are missing, or given to a network that reads none.
        """
        if (identity_tokens is None) != (self.config.cross_attention_dim is None):
            raise ShapeError(
                "This reference network reads no identity tokens, but some were given."
                if identity_tokens is not None
                else "This reference network reads identity tokens: give the face embedding of the portrait."
            )
        recorded: dict[str, Tensor] = {}
        context = UNetContext(cross=self._project(identity_tokens), recorded=recorded)
        self._walk(self.conv_in(latents), self._embed_time(0, 1, latents), context)
        return recorded

    def _project(self, identity_tokens: Tensor | None) -> dict[str, KeysValues]:
        if identity_tokens is None:
            return {}
        blocks = [named for stage in self.stages() for named in stage.spatial_blocks()]
        return {
            name: project_keys_values(block.attn2, identity_tokens) for name, block in blocks if hasattr(block, "attn2")
        }
