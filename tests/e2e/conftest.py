"""Small random weights that `animate` reads, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_weights import small_weights


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one subfolder per system."""
    folder = tmp_path_factory.mktemp("weights")
    for system in ("tiny", "echomimic", "hallo"):
        small_weights(folder / system, system)
    return folder
