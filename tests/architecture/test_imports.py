"""What starting up costs: the package and ``--help`` load no heavy library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "numpy", "diffusers", "transformers", "mediapipe", "insightface", "onnxruntime", "cv2", "av", "scipy"}


def _loaded_by(*arguments: str) -> set[str]:
    """Top-level modules that a fresh interpreter loads, by its own account."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {columns[-1].strip().split(".")[0] for columns in lines}


def test_help_loads_no_heavy_library() -> None:
    assert not _loaded_by("-m", "portraitanim", "--help") & HEAVY


def test_import_of_the_package_loads_no_heavy_library() -> None:
    loaded = _loaded_by("-c", "import portraitanim")
    assert "portraitanim" in loaded
    assert not loaded & HEAVY


def test_presets_resolve_without_a_heavy_library() -> None:
    assert not _loaded_by("-c", "import portraitanim; portraitanim.load_preset('hallo')") & HEAVY
