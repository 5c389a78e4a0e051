"""Every name that the package promises can be had from it."""

from __future__ import annotations

import pytest

import portraitanim


@pytest.mark.parametrize("name", portraitanim.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(portraitanim, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'AnimatePortrait'"):
        _ = portraitanim.AnimatePortrait


def test_dir_lists_the_public_names() -> None:
    assert set(portraitanim.__all__) <= set(dir(portraitanim))
