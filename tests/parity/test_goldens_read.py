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
        pytest.skip(f"not all parity tests ran: {not_run[0]}" + (f" (and {len(not_run) - 1} more)" * (len(not_run) > 1)))
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
def test_the_list_of_unused_goldens_is_not_longer_than_it_must_be(
    system: str, request: pytest.FixtureRequest
) -> None:
    if request.config.stash[UNRUN] or is_compact(system):
        pytest.skip("needs all parity tests, and the full goldens")
    needless = [
        f"{file}: {pattern}"
        for file, patterns in UNUSED.items()
        if file.startswith(f"{system}/") and (golden_folder(system) / file.split("/", 1)[1]).is_file()
        for pattern in patterns
        if not any(
            re.fullmatch(pattern, key)
            for key in tensor_names(golden_folder(system) / file.split("/", 1)[1])
            - read_keys(system, file.split("/", 1)[1])
        )
    ]
    assert not needless, f"listed as unused, but read by a test or absent: {needless}"
