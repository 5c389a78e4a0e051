"""Every name that the package promises can be had from it."""

from __future__ import annotations

import importlib.util

import pytest

import portraitanim


@pytest.mark.parametrize("name", portraitanim.__all__)
def test_public_name_resolves(name: str) -> None:
    module = portraitanim._PUBLIC.get(name)
    if module is not None and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not there yet")
    assert getattr(portraitanim, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'AnimatePortrait'"):
        _ = portraitanim.AnimatePortrait


def test_dir_lists_the_public_names() -> None:
    assert set(portraitanim.__all__) <= set(dir(portraitanim))
