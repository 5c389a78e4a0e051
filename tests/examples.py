"""The files in ``examples/``, and the larger set in ``shared/media`` where it lies beside the clone."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PORTRAIT = ROOT / "examples" / "portrait.jpg"
SPEECH = ROOT / "examples" / "speech.wav"

MEDIA = next((p / "shared" / "media" for p in ROOT.parents if (p / "shared" / "media").is_dir()), None)
needs_media = pytest.mark.skipif(MEDIA is None, reason="shared/media is not beside this clone")


def media(*parts: str) -> Path:
    """A file of ``shared/media``."""
    assert MEDIA is not None
    return MEDIA.joinpath(*parts)
