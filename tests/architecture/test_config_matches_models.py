"""The fields of a preset's network sections are the constructor arguments of the networks, defaults included."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect

import pytest

from portraitanim.config import schema

SECTIONS = {
    "ReferenceUNetConfig": ("portraitanim.models.reference_unet", "ReferenceUNet"),
    "DenoisingUNetConfig": ("portraitanim.models.denoising_unet", "DenoisingUNet"),
    "ConditionEncoderConfig": ("portraitanim.models.embedders", "ConditionEncoder"),
    "IdentityProjectionConfig": ("portraitanim.models.embedders", "IdentityProjection"),
    "AudioProjectionConfig": ("portraitanim.models.embedders", "AudioProjection"),
}


@pytest.mark.parametrize("section", SECTIONS)
def test_section_has_the_arguments_of_its_network(section: str) -> None:
    module, name = SECTIONS[section]
    parameters = inspect.signature(getattr(importlib.import_module(module), name).__init__).parameters
    arguments = {key: parameter.default for key, parameter in parameters.items() if key != "self"}
    assert {field.name: field.default for field in dataclasses.fields(getattr(schema, section))} == arguments


def test_every_network_section_is_compared() -> None:
    networks = {
        hint.removesuffix(" | None")
        for field in dataclasses.fields(schema.NetworkConfig)
        if isinstance(hint := field.type, str)
    }
    assert networks == set(SECTIONS)
