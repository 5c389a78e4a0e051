"""What the layers of a UNet read in one call, by layer name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, arange

from portraitanim.models.attention_processors import SpatialContext
from portraitanim.models.audio_attention import RegionalAudioContext
from portraitanim.models.projections import KeysValues


@dataclass(frozen=True, kw_only=True)
class UNetContext:
    """Conditions of one forward pass, ready to be read.

    The batch is ordered so that the items without reference come first, then those without audio, then the full
    ones: what is missing is a number of leading items, never a mask. A batch item has ``num_frames`` rows.

    Attributes:
        num_frames: frames per batch item.
        num_without_reference: leading batch items that see neither reference nor condition map.
        num_without_audio: leading batch items that hear nothing.
        reference: projected reference tokens of each spatial transformer, see `SpatialContext`.
        reference_rows: see `SpatialContext`.
        cross: projected identity or audio tokens of each spatial transformer.
        cross_is_audio: ``cross`` holds audio tokens, and so only those of the batch items with audio.
        audio: projected audio tokens of each audio module, see `RegionalAudioAttention.project`.
        motion_tokens: reference features of the motion frames at each spatial transformer,
            ``(batch, motion frames, tokens, channels)``.
        region_masks: per UNet depth ``(batch · frames, 3, tokens)``, or ``None``.
        region_weights: strength of pose, expression and lip.
        condition: features of the condition map ``(batch items with reference or 1, frames or 1, channels, h, w)``.
        recorded: where spatial transformers leave the input of their first attention, or ``None``.
    """

    num_frames: int = 1
    num_without_reference: int = 0
    num_without_audio: int = 0
    reference: Mapping[str, KeysValues] = field(default_factory=dict)
    reference_rows: Tensor | None = None
    cross: Mapping[str, KeysValues] = field(default_factory=dict)
    cross_is_audio: bool = False
    audio: Mapping[str, Sequence[KeysValues]] = field(default_factory=dict)
    motion_tokens: Mapping[str, Tensor] = field(default_factory=dict)
    region_masks: Sequence[Tensor] | None = None
    region_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    condition: Tensor | None = None
    recorded: dict[str, Tensor] | None = None

    def spatial(self, name: str) -> SpatialContext:
        """The part that the spatial transformer ``name`` reads."""
        return SpatialContext(
            num_frames=self.num_frames,
            reference=self.reference.get(name),
            reference_rows=self.reference_rows,
            num_rows_without_reference=self.num_without_reference * self.num_frames,
            cross=self.cross.get(name),
            num_rows_without_cross=self.num_without_audio * self.num_frames if self.cross_is_audio else 0,
            recorded=self.recorded,
            name=name,
        )

    def regional_audio(self, name: str, level: int) -> RegionalAudioContext:
        """The part that the audio module ``name``, at UNet depth ``level``, reads."""
        return RegionalAudioContext(
            tokens=self.audio[name],
            num_rows_without_audio=self.num_without_audio * self.num_frames,
            masks=None if self.region_masks is None else self.region_masks[level],
            weights=self.region_weights,
        )

    def full_branch(self, num_portraits: int) -> UNetContext:
        """The context of the last branch alone, for steps without guidance."""
        rows = num_portraits * self.num_frames
        return replace(
            self,
            num_without_reference=0,
            num_without_audio=0,
            reference_rows=None if self.reference_rows is None else self.reference_rows[-rows:],
            cross=self.cross if self.cross_is_audio else _map_pairs(self.cross, lambda x: x[-num_portraits:]),
            motion_tokens={name: tokens[-num_portraits:] for name, tokens in self.motion_tokens.items()},
            region_masks=None if self.region_masks is None else [mask[-rows:] for mask in self.region_masks],
            condition=None if self.condition is None else self.condition[-num_portraits:],
        )

    def items(self, first: int, stop: int) -> UNetContext:
        """The context of some batch items that miss the same, such as those of one branch.

        Args:
            first: the first of them.
            stop: the one behind the last.
        """
        rows = slice(first * self.num_frames, stop * self.num_frames)
        # What only items with reference have is counted from the first of these on.
        seen = slice(max(0, first - self.num_without_reference), max(0, stop - self.num_without_reference))
        seen_rows = slice(seen.start * self.num_frames, seen.stop * self.num_frames)
        missing = {
            name: min(max(0, getattr(self, name) - first), stop - first)
            for name in ("num_without_reference", "num_without_audio")
        }
        return replace(
            self,
            **missing,
            reference_rows=None if self.reference_rows is None else self.reference_rows[seen_rows],
            cross=self.cross if self.cross_is_audio else _map_pairs(self.cross, lambda x: x[first:stop]),
            motion_tokens={name: tokens[first:stop] for name, tokens in self.motion_tokens.items()},
            region_masks=None if self.region_masks is None else [mask[rows] for mask in self.region_masks],
            condition=None if self.condition is None else self.condition[seen],
        )

    def windows(self, windows: Sequence[Sequence[int]]) -> UNetContext:
        """The context of some windows of the video, which are batch items beside one another.

        Args:
            windows: frames of each window, equally many.

        Returns:
            A context whose batch has, for each item of this one, one item per window.
        """
        count, index = len(windows), [list(window) for window in windows]
        length = len(index[0])

        def rows(tensor: Tensor) -> Tensor:
            return tensor.unflatten(0, (-1, self.num_frames))[:, index].flatten(0, 2)

        def items(tensor: Tensor) -> Tensor:
            return tensor if count == 1 else tensor.repeat_interleave(count, dim=0)

        condition = self.condition
        if condition is not None:
            condition = condition[:, index].flatten(0, 1) if condition.shape[1] > 1 else items(condition)
        reference_rows = None if self.reference_rows is None else rows(self.reference_rows)
        if reference_rows is None and self.reference and count > 1:
            keys, _ = next(iter(self.reference.values()))
            reference_rows = arange(len(keys), device=keys.device).repeat_interleave(count * length)
        per_frame = self.cross_is_audio
        return replace(
            self,
            num_frames=length,
            num_without_reference=self.num_without_reference * count,
            num_without_audio=self.num_without_audio * count,
            reference_rows=reference_rows,
            cross=_map_pairs(self.cross, lambda x: x[:, index].flatten(0, 1) if per_frame else items(x)),
            audio={name: [(rows(k), rows(v)) for k, v in regions] for name, regions in self.audio.items()},
            motion_tokens={name: items(tokens) for name, tokens in self.motion_tokens.items()},
            region_masks=None if self.region_masks is None else [rows(mask) for mask in self.region_masks],
            condition=condition,
        )


def _map_pairs(pairs: Mapping[str, KeysValues], change: Callable[[Tensor], Tensor]) -> dict[str, KeysValues]:
    return {name: (change(key), change(value)) for name, (key, value) in pairs.items()}
