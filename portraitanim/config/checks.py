"""The check that the sections of a config share. No torch here."""

from __future__ import annotations

from portraitanim.errors import ConfigError


def require(condition: bool, name: str, expected: str, got: object) -> None:
    """Refuse a value of a config.

    Raises:
        ConfigError: the condition does not hold.
    """
    if not condition:
        raise ConfigError(f"{name} must be {expected}, got {got}.")
