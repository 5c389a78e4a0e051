"""What holds for all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

from portraitanim.pipelines.feature_cache import CACHE_VARIABLE

# Other work on the machine must not fail a test.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session", autouse=True)
def portraits_of_this_session_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What earlier runs kept of portraits must not answer for code that has changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("portraits")))
        yield


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command that ran in this process must not quieten the log for later tests."""
    logger = logging.getLogger("portraitanim")
    level, handlers, propagates = logger.level, list(logger.handlers), logger.propagate
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers
    logger.propagate = propagates
