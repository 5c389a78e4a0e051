"""Parity tests run as the goldens were made, and the check that every golden was read comes last.

That check is told here what did not run: a test that was left out reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

_HERE = Path(__file__).parent
_LAST = "test_goldens_read.py"

UNRUN = pytest.StashKey[list[str]]()
"""Why the run tells nothing about unread goldens: parity tests that were deselected, or failed."""
EXCUSED = pytest.StashKey[set[str]]()
"""Golden files that only slow tests read, and those were deselected."""
_DESELECTED_FILES = pytest.StashKey[set[Path]]()


@pytest.fixture(autouse=True)
def _as_the_goldens_were_made() -> Iterator[None]:
    # With more threads, sums are split elsewhere, and small normalizations magnify the rounding tenfold.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _prepare(config)
    items.sort(key=lambda item: item.path == _HERE / _LAST)  # stable: everything else keeps its order
    collected = {item.path for item in items} | config.stash[_DESELECTED_FILES]
    for path in sorted(_HERE.glob("test_*.py")):
        if path not in collected:
            config.stash[UNRUN].append(f"{path.name} was not collected")
    if any("::" in argument for argument in config.args):
        config.stash[UNRUN].append("single tests were named")


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent != _HERE:
            continue
        _prepare(item.config)
        item.config.stash[_DESELECTED_FILES].add(item.path)
        reads = item.get_closest_marker("reads")
        if reads is None:
            item.config.stash[UNRUN].append(f"{item.name} was deselected")
        else:
            item.config.stash[EXCUSED].update(reads.args)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    outcome = yield
    if outcome.get_result().failed and item.path.parent == _HERE and item.path.name != _LAST:
        item.config.stash[UNRUN].append(f"{item.name} failed")


def _prepare(config: pytest.Config) -> None:
    # Which of the hooks comes first depends on what was asked for on the command line.
    for key, empty in ((UNRUN, list), (EXCUSED, set), (_DESELECTED_FILES, set)):
        if key not in config.stash:
            config.stash[key] = empty()
