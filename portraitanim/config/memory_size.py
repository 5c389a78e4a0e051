"""Amounts of memory as people write them. No torch here."""

from __future__ import annotations

import re

from portraitanim.errors import ConfigError

_UNITS = {"M": 10**6, "MB": 10**6, "G": 10**9, "GB": 10**9, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def parse_memory(text: str) -> int:
    """Bytes of ``8G``, ``7.5GB``, ``8GiB`` or ``900M``.

    Raises:
        ConfigError: anything else, or nothing at all.
    """
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or float(found[1]) <= 0:
        raise ConfigError(f"An amount of memory is written as 8G, 7.5GB, 8GiB or 900M, got {text!r}.")
    return round(float(found[1]) * unit)


def show_memory(num_bytes: float) -> str:
    """Gigabytes, or megabytes where there are few."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
