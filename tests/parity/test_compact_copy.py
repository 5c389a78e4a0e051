"""The compact copy that is committed is a true part of the full goldens."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.goldens import COMPACT_ROOT, Golden, golden_folder, is_compact, tensor_names

_FILES = sorted(
    path.relative_to(COMPACT_ROOT).as_posix()
    for path in COMPACT_ROOT.rglob("*")
    if path.suffix in (".json", ".safetensors", ".npz")
)


@pytest.mark.parametrize("file", _FILES)
def test_compact_copy_holds_the_bytes_of_the_full_goldens(file: str) -> None:
    system, name = file.split("/", 1)
    if is_compact(system) or os.environ.get("PORTRAITANIM_GOLDENS"):
        pytest.skip("the full goldens are not here to compare with")
    if name.endswith(".json"):
        assert (COMPACT_ROOT / file).read_bytes() == (golden_folder(system) / name).read_bytes()
        return
    full = Golden(system, name).peek
    compact = Golden(system, name, folder=COMPACT_ROOT / system)
    for key in tensor_names(COMPACT_ROOT / file):
        assert np.array_equal(compact.peek(key), full(key)), key


def test_compact_copy_is_small_enough_to_carry() -> None:
    size = sum(path.stat().st_size for path in COMPACT_ROOT.rglob("*") if path.is_file())
    assert size < 5.5e6


@pytest.mark.parametrize("system", ["hallo", "echomimic"])
def test_compact_copy_has_weights_recipe_and_sizes(system: str) -> None:
    assert (COMPACT_ROOT / system / "weights_recipe.json").is_file()
    assert (COMPACT_ROOT / system / "small_config.json").is_file()
