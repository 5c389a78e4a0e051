"""All networks of a system together: what training wraps, and whose parts the pipeline calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from portraitanim.config.schema import Quirks
from portraitanim.errors import ShapeError
from portraitanim.models.deep_features import DeepFeatures
from portraitanim.models.denoising_unet import DenoisingUNet
from portraitanim.models.embedders import AudioProjection, ConditionEncoder, IdentityProjection
from portraitanim.models.projections import KeysValues
from portraitanim.models.reference_unet import ReferenceUNet
from portraitanim.models.unet_context import UNetContext
from portraitanim.types import BatchLayout, RegionMasks, RegionWeights


@dataclass(frozen=True, kw_only=True)
class ReferenceFeatures:
    """The portrait as the denoising UNet reads it, computed once per video.

    Attributes:
        keys_values: layer name → projected reference tokens, one row per row of the reference pass; empty where the
            reference is dropped.
        cross: layer name → projected identity tokens of the rows of a batch (null tokens for the unconditional
            items), or empty where the second attention does not read the identity.
        latents: the portraits' latents ``(portraits, channels, height, width)`` for networks that add them after the
            first convolution, or ``None``.
    """

    keys_values: Mapping[str, KeysValues] = field(default_factory=dict)
    cross: Mapping[str, KeysValues] = field(default_factory=dict)
    latents: Tensor | None = None


class PortraitNetwork(nn.Module):
    """Reference UNet, denoising UNet, condition encoder and projections, with the quirks of their weights.

    The pipeline calls `encode_reference`, `encode_motion`, `prepare` and `denoise`; training calls `forward`, which
    calls the same.

    Args:
        reference_unet: reads the portrait.
        denoising_unet: predicts the velocity.
        condition_encoder: reads the face box or landmark drawing.
        identity_projection: reads the face embedding; ``None`` for networks without.
        audio_projection: makes audio tokens; ``None`` where encoder states are the tokens (EchoMimic).
        quirks: what the weights need that the published code did by accident.
    """

    def __init__(
        self,
        reference_unet: ReferenceUNet,
        denoising_unet: DenoisingUNet,
        condition_encoder: ConditionEncoder,
        identity_projection: IdentityProjection | None = None,
        audio_projection: AudioProjection | None = None,
        quirks: Quirks | None = None,
    ) -> None:
        super().__init__()
        self.reference_unet = reference_unet
        self.denoising_unet = denoising_unet
        self.condition_encoder = condition_encoder
        self.identity_projection = identity_projection
        self.audio_projection = audio_projection
        self.quirks = quirks or Quirks()

    def audio_tokens(self, windows: Tensor) -> Tensor:
        """Audio tokens ``(batch, frames, tokens, dim)`` of encoder states ``(batch, frames, steps, layers, dim)``.

        Without a projection, steps and layers are the tokens, in this order.

        Raises:
            ShapeError: the states come from another encoder than the weights were trained with.
        """
        if self.audio_projection is not None:
            return self.audio_projection(windows)
        width = self.denoising_unet.config.cross_attention_dim
        if windows.shape[-1] != width:
            raise ShapeError(
                f"Audio states are {windows.shape[-1]} wide, this network reads {width}. "
                "Use the audio encoder that the weights were trained with."
            )
        return windows.flatten(2, 3)

    def identity_tokens(self, embedding: Tensor | None) -> Tensor | None:
        """Identity tokens ``(batch, tokens, dim)`` of raw embeddings ``(batch, 512)``.

        Raises:
            ShapeError: the network reads identities and none is given.
        """
        if self.identity_projection is None:
            return None
        if embedding is None:
            raise ShapeError("This network reads the identity: give identity_embedding, (batch, 512).")
        return self.identity_projection(embedding)

    def null_identity_tokens(self, embedding: Tensor | None) -> Tensor | None:
        """Tokens of nobody: not zeros, but the projection of a zero embedding."""
        return self.identity_tokens(None if embedding is None else torch.zeros_like(embedding))

    def encode_reference(self, latents: Tensor, identity_tokens: Tensor | None, num_motion_frames: int = 0) -> dict:
        """Read portraits.

        Args:
            latents: scaled VAE latents of the portraits, ``(batch, channels, height, width)``.
            identity_tokens: ``(batch, tokens, dim)`` or ``None``.
            num_motion_frames: motion frames that `encode_motion` reads for each portrait; they count in the order
                in which the quirk ``tile_identity_tokens`` deals out tokens.

        Returns:
            Layer name → features ``(batch, tokens, channels)``.
        """
        tokens = self._tokens_of_rows(identity_tokens, num_motion_frames, slice(0, 1))
        return self._round(self.reference_unet(latents, tokens))

    def encode_motion(self, latents: Tensor, identity_tokens: Tensor | None) -> dict[str, Tensor]:
        """Read the frames before a clip, as the reference is read.

        Args:
            latents: scaled VAE latents, ``(batch, motion frames, channels, height, width)``.
            identity_tokens: ``(batch, tokens, dim)`` or ``None``.

        Returns:
            Layer name → features ``(batch, motion frames, tokens, channels)``.
        """
        tokens = self._tokens_of_rows(identity_tokens, latents.shape[1], slice(1, None))
        features = self._round(self.reference_unet(latents.flatten(0, 1), tokens))
        return {name: feature.unflatten(0, latents.shape[:2]) for name, feature in features.items()}

    def prepare(
        self,
        layout: BatchLayout,
        *,
        reference: ReferenceFeatures,
        audio_tokens: Tensor,
        condition: Tensor | None = None,
        motion: Mapping[str, Tensor] | None = None,
        masks: RegionMasks | None = None,
        weights: RegionWeights | None = None,
        num_without_reference: int | None = None,
        moved_latents: Tensor | None = None,
    ) -> UNetContext:
        """Project the conditions of one clip, so that the steps only read them.

        Args:
            layout: which items of the batch miss what.
            reference: see `project_reference`.
            audio_tokens: ``(portraits, frames, tokens, dim)``.
            condition: features of the condition map, ``(portraits or 1, frames or 1, channels, height, width)``.
            motion: what `encode_motion` returned, for all batch items, or for the portraits if all branches share it.
            masks: region masks of the portraits (or one for all).
            weights: region weights.
            num_without_reference: leading items that see no portrait; ``None``: as the layout says.
            moved_latents: latents of the portraits where the landmarks say that they are, ``(portraits, frames,
                channels, height, width)``; they stand in for those of ``reference`` where the network adds latents.

        Returns:
            The context of `denoise`.
        """
        alone = layout.num_without_reference if num_without_reference is None else num_without_reference
        frames = audio_tokens.shape[1]
        unet = self.denoising_unet
        cross_is_audio = unet.config.cross_attention_source == "audio"
        if reference.latents is not None:
            added = unet.project_latents(reference.latents[:, None] if moved_latents is None else moved_latents)
            condition = added if condition is None else condition + added
        if condition is not None:
            condition = _items(condition, layout.num_items - alone)
        return UNetContext(
            num_frames=frames,
            num_without_reference=alone,
            num_without_audio=layout.num_without_audio,
            reference=reference.keys_values,
            reference_rows=self._reference_rows(layout, frames, reference, alone),
            cross=unet.project_cross(audio_tokens) if cross_is_audio else reference.cross,
            cross_is_audio=cross_is_audio,
            audio=unet.project_audio(audio_tokens.flatten(0, 1)) if unet.has_regional_audio else {},
            motion_tokens={name: _items(tokens, layout.num_items) for name, tokens in (motion or {}).items()},
            region_masks=None if masks is None else _mask_rows(masks, layout.num_items, frames),
            region_weights=(weights or RegionWeights()).as_tuple(),
            condition=condition,
        )

    def project_reference(
        self, features: Mapping[str, Tensor], identity_tokens: Tensor | None, latents: Tensor | None = None
    ) -> ReferenceFeatures:
        """Project the portrait's features, once per video.

        Args:
            features: what `encode_reference` returned; empty drops the reference.
            identity_tokens: tokens of all batch items, ``(items, tokens, dim)``, or ``None``.
            latents: the portraits' latents, ``(portraits, channels, height, width)``; ``None`` drops them.
        """
        unet = self.denoising_unet
        adds_latents = unet.config.reference_latent_channels > 0
        reads_identity = unet.config.cross_attention_source == "identity" and identity_tokens is not None
        return ReferenceFeatures(
            keys_values=unet.project_reference(features) if features else {},
            cross=unet.project_cross(identity_tokens) if reads_identity else {},
            latents=latents if adds_latents else None,
        )

    def denoise(
        self, sample: Tensor, timestep: Tensor | float, context: UNetContext, deep: DeepFeatures | None = None
    ) -> Tensor:
        """Predict the velocity of ``(batch, frames, channels, height, width)``; see `DenoisingUNet.forward`."""
        return self.denoising_unet(sample, timestep, context, deep)

    def forward(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        *,
        audio_windows: Tensor,
        reference_latents: Tensor | None,
        motion_latents: Tensor | None = None,
        condition_map: Tensor | None = None,
        identity_embedding: Tensor | None = None,
        masks: RegionMasks | None = None,
        weights: RegionWeights | None = None,
        num_without_reference: int = 0,
        with_audio: Tensor | None = None,
        moved_latents: Tensor | None = None,
    ) -> Tensor:
        """Predict the velocity of training clips.

        Args:
            noisy_latents: ``(batch, frames, channels, height, width)``.
            timesteps: ``(batch,)``.
            audio_windows: ``(batch, frames, steps, layers, dim)``.
            reference_latents: ``(batch, channels, height, width)``; ``None`` drops reference and motion frames.
            motion_latents: ``(batch, motion frames, channels, height, width)``.
            condition_map: ``(batch, frames or 1, channels, height, width)``.
            identity_embedding: ``(batch, 512)``.
            masks: region masks.
            weights: region weights.
            num_without_reference: so many leading items see no portrait: no features, null identity, no condition
                map, as the unconditional branch of guidance.
            with_audio: ``(batch,)`` of 1, and 0 where the audio tokens are zeros, as in the branches without audio.
            moved_latents: ``(batch, frames, channels, height, width)``, see `prepare`.

        Returns:
            As ``noisy_latents``.
        """
        batch = len(noisy_latents)
        alone = batch if reference_latents is None else num_without_reference
        identity = self.identity_tokens(identity_embedding)
        null = self.null_identity_tokens(identity_embedding)
        if identity is not None and null is not None and num_without_reference:
            identity = torch.cat([null[:alone], identity[alone:]])
        features: dict[str, Tensor] = {}
        seen = motion = condition = None
        if reference_latents is not None:
            num_motion = 0 if motion_latents is None else motion_latents.shape[1]
            motion = None if motion_latents is None else self.encode_motion(motion_latents, identity)
            if alone < batch:
                seen = reference_latents[alone:]
                features = self.encode_reference(seen, None if identity is None else identity[alone:], num_motion)
        if condition_map is not None and alone < batch:
            condition = self.condition_encoder(condition_map[alone:])
        tokens = self.audio_tokens(audio_windows)
        if with_audio is not None:
            tokens = tokens * with_audio[:, None, None, None].to(tokens.dtype)
        context = self.prepare(
            BatchLayout(num_portraits=batch),
            reference=self.project_reference(features, identity, seen),
            audio_tokens=tokens,
            condition=condition,
            motion=motion,
            masks=masks,
            weights=weights,
            num_without_reference=alone,
            moved_latents=None if moved_latents is None else moved_latents[alone:],
        )
        return self.denoise(noisy_latents, timesteps, context)

    def _tokens_of_rows(self, identity_tokens: Tensor | None, num_motion_frames: int, which: slice) -> Tensor | None:
        """Identity tokens for some of the rows ``(batch, 1 + motion frames)`` of the published reference pass."""
        if identity_tokens is None:
            return None
        batch = len(identity_tokens)
        rows = torch.arange(batch * (1 + num_motion_frames), device=identity_tokens.device)
        # Published: row r of all rows reads tokens r mod batch. By design, it reads its own item's.
        items = rows % batch if self.quirks.tile_identity_tokens else rows // (1 + num_motion_frames)
        return identity_tokens[items.unflatten(0, (batch, -1))[:, which].flatten()]

    def _reference_rows(
        self, layout: BatchLayout, frames: int, reference: ReferenceFeatures, alone: int
    ) -> Tensor | None:
        """Which reference row each row with reference reads; ``None`` if simply its own portrait's."""
        if not reference.keys_values:
            return None
        keys, _ = next(iter(reference.keys_values.values()))
        portraits, num_rows = layout.num_portraits, len(keys)
        num_branches = (layout.num_items - layout.num_without_reference) // portraits
        if self.quirks.tile_reference_rows:
            # Published: row r of the (batch · frames) rows reads reference row r mod batch. With guidance, the batch
            # is twice the portraits, and the conditional rows are the second half.
            first = (num_rows - portraits) * frames
            rows = torch.arange(first, first + portraits * frames, device=keys.device) % num_rows
        elif num_branches == 1:
            return None
        else:
            rows = torch.arange(portraits, device=keys.device).repeat_interleave(frames)
        return rows.repeat(num_branches)[-(layout.num_items - alone) * frames :]

    def _round(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.quirks.round_reference_to_half:
            return features
        return {name: feature.half().to(feature.dtype) for name, feature in features.items()}


def _items(tensor: Tensor, num_items: int) -> Tensor:
    return tensor if len(tensor) == num_items else tensor.repeat(num_items // len(tensor), *[1] * (tensor.ndim - 1))


def _mask_rows(masks: RegionMasks, num_items: int, frames: int) -> Sequence[Tensor]:
    return [_items(level, num_items).expand(-1, frames, -1, -1).flatten(0, 1) for level in masks.levels]
