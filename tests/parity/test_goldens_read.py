"""Runs last: every tensor of every golden file was read by some parity test, or is listed with the reason."""

from __future__ import annotations

import re

import pytest

from tests.goldens import SYSTEMS, all_files, golden_folder, is_compact, read_keys, tensor_names
from tests.parity.conftest import EXCUSED, UNRUN
from tests.parity.unused import UNUSED


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_golden_tensor_is_read_or_listed_with_the_reason(system: str, request: pytest.FixtureRequest) -> None:
    if not_run := request.config.stash[UNRUN]:
        pytest.skip(f"not all parity tests ran; {len(not_run)} reasons, the first: {not_run[0]}")
    excused = request.config.stash[EXCUSED]
    unread = {}
    for name in all_files(system):
        file = f"{system}/{name}"
        left = tensor_names(golden_folder(system) / name) - read_keys(system, name)
        left = {key for key in left if not any(re.fullmatch(pattern, key) for pattern in UNUSED.get(file, {}))}
        if left and file not in excused:
            unread[file] = sorted(left)
    assert not unread, "golden tensors that no test read:\n" + "\n".join(
        f"  {file}: {', '.join(keys)}" for file, keys in unread.items()
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_list_of_unused_goldens_is_not_longer_than_it_must_be(system: str, request: pytest.FixtureRequest) -> None:
    if request.config.stash[UNRUN] or is_compact(system):
        pytest.skip("needs all parity tests, and the full goldens")
    needless = []
    for file, patterns in UNUSED.items():
        its_system, name = file.split("/", 1)
        if its_system != system or name not in all_files(system):
            continue
        unread = tensor_names(golden_folder(system) / name) - read_keys(system, name)
        needless += [f"{file}: {p}" for p in patterns if not any(re.fullmatch(p, key) for key in unread)]
    assert not needless, f"listed as unused, but read by a test or absent: {needless}"
