"""The small networks that turn a face picture, an identity and sound into what the UNets read."""

from __future__ import annotations

from itertools import pairwise

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn.functional import silu

from portraitanim.errors import ShapeError
from portraitanim.models.attention_processors import start_at_zero


class ConditionEncoder(ModelMixin, ConfigMixin):
    """Face box or landmark drawing → features that are added after the first convolution of the denoising UNet.

    Args:
        in_channels: channels of the picture.
        block_out_channels: widths; each step after the first halves the size.
        out_channels: width of the features, equal to the UNet's first width.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        block_out_channels: tuple[int, ...] = (16, 32, 64, 128),
        out_channels: int = 320,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, block_out_channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(block_out_channels):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = start_at_zero(nn.Conv2d(block_out_channels[-1], out_channels, 3, padding=1))

    def forward(self, condition_map: Tensor) -> Tensor:
        """Encode pictures.

        Args:
            condition_map: ``(batch, frames, channels, height, width)`` in [0, 1].

        Returns:
            ``(batch, frames, out_channels, height / 8, width / 8)`` for four widths.

        Raises:
            ShapeError: the number of channels is another.
        """
        if condition_map.shape[2] != self.config.in_channels:
            raise ShapeError(
                f"The condition map has {condition_map.shape[2]} channels, this network reads "
                f"{self.config.in_channels} (1 for EchoMimic's face box, 3 for landmarks and Hallo's face box)."
            )
        hidden = silu(self.conv_in(condition_map.flatten(0, 1)))
        for block in self.blocks:
            hidden = silu(block(hidden))
        return self.conv_out(hidden).unflatten(0, condition_map.shape[:2])


class IdentityProjection(ModelMixin, ConfigMixin):
    """Face embedding → identity tokens (Hallo). The null identity is the projection of zeros, not zero tokens."""

    @register_to_config
    def __init__(self, embedding_dim: int = 512, num_tokens: int = 4, token_dim: int = 768) -> None:
        super().__init__()
        self.proj = nn.Linear(embedding_dim, num_tokens * token_dim)
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, embedding: Tensor) -> Tensor:
        """``(batch, embedding_dim)`` → ``(batch, num_tokens, token_dim)``."""
        return self.norm(self.proj(embedding).unflatten(1, (self.config.num_tokens, -1)))


class AudioProjection(ModelMixin, ConfigMixin):
    """Window of audio encoder states → audio tokens of one frame (Hallo, section 3.2)."""

    @register_to_config
    def __init__(
        self,
        window: int = 5,
        num_layers: int = 12,
        feature_dim: int = 768,
        hidden_dim: int = 512,
        num_tokens: int = 32,
        token_dim: int = 768,
    ) -> None:
        super().__init__()
        self.proj1 = nn.Linear(window * num_layers * feature_dim, hidden_dim)
        self.proj2 = nn.Linear(hidden_dim, hidden_dim)
        self.proj3 = nn.Linear(hidden_dim, num_tokens * token_dim)
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, windows: Tensor) -> Tensor:
        """Project windows.

        Args:
            windows: ``(batch, frames, window, num_layers, feature_dim)``.

        Returns:
            ``(batch, frames, num_tokens, token_dim)``.

        Raises:
            ShapeError: the windows come from another encoder.
        """
        expected = (self.config.window, self.config.num_layers, self.config.feature_dim)
        if tuple(windows.shape[2:]) != expected:
            raise ShapeError(
                f"Audio windows are (steps, layers, dim) = {tuple(windows.shape[2:])}, this network reads {expected}. "
                "Use the audio encoder that the weights were trained with."
            )
        hidden = self.proj1(windows.flatten(2)).relu()
        hidden = self.proj2(hidden).relu()
        return self.norm(self.proj3(hidden).unflatten(2, (self.config.num_tokens, -1)))
