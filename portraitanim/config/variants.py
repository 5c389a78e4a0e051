"""How a video is computed, as a word such as ``channels-last+decode-batch=4``: what ``bench`` compares."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from portraitanim.config.execution import ExecutionConfig
from portraitanim.errors import ConfigError

_NUMBERS = {"decode-batch": "num_frames_per_decode", "window-batch": "num_windows_per_call"}
_SWITCHES = ("channels-last", "fused", "compile", "work-ahead", "plain")
VARIANT_WORDS = (*_SWITCHES, *(f"{name}=N" for name in _NUMBERS))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How networks are laid out, and how much is computed at once.

    Attributes:
        channels_last: whether convolutions lie channels-last; ``None`` for what suits the device.
        fused: whether self-attentions project by one product; ``None`` for what suits the device.
        compiled: repeated blocks are compiled.
        chosen: fields of `ExecutionConfig` that were named.
    """

    channels_last: bool | None = None
    fused: bool | None = None
    compiled: bool = False
    chosen: dict[str, Any] | None = None

    def execution(self, device_type: str) -> ExecutionConfig | None:
        """What was named, the rest as suits the device; ``None`` where nothing was."""
        return None if self.chosen is None else replace(ExecutionConfig.for_device(device_type), **self.chosen)


def parse_variant(text: str) -> Variant:
    """Read words that are joined by ``+``; an empty text is what ``animate`` does by itself.

    ``plain`` switches off all that is not named.

    Raises:
        ConfigError: an unknown word, or a number that is none.
    """
    variant, chosen = Variant(), dict[str, Any]()
    for word in filter(None, text.split("+")):
        name, _, number = word.partition("=")
        if name in _NUMBERS and number.isdigit():
            chosen[_NUMBERS[name]] = int(number)
        elif word == "plain":
            plain = ExecutionConfig()
            variant = replace(variant, channels_last=bool(variant.channels_last), fused=bool(variant.fused))
            chosen = {field.name: getattr(plain, field.name) for field in fields(plain)} | chosen
        elif word == "work-ahead":
            chosen["work_ahead"] = True
        elif word == "compile":
            variant = replace(variant, compiled=True)
        elif word == "fused":
            variant = replace(variant, fused=True)
        elif word == "channels-last":
            variant = replace(variant, channels_last=True)
        else:
            raise ConfigError(f"Unknown variant {word!r}. Join words by +: {', '.join(VARIANT_WORDS)}.")
    if chosen:
        ExecutionConfig(**chosen)
    return replace(variant, chosen=chosen or None)
