"""Presets resolve to what they say, and every mistake in one is an error that says what to write instead."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.config.presets import load_preset, parse_assignment, preset_names
from portraitanim.config.schema import Preset, from_dict, to_dict
from portraitanim.config.yaml_files import merge
from portraitanim.errors import ConfigError

_KEYS = st.text("abc_", min_size=1, max_size=4)
_VALUES = st.one_of(st.integers(), st.booleans(), st.none(), st.lists(st.integers(), max_size=3))
_TREES = st.recursive(
    st.dictionaries(_KEYS, _VALUES, max_size=4),
    lambda inner: st.dictionaries(_KEYS, st.one_of(_VALUES, inner), max_size=4),
    max_leaves=12,
)


def test_package_carries_the_published_systems_and_its_own() -> None:
    assert preset_names() == [
        "echomimic",
        "echomimic-acc",
        "echomimic-pose",
        "echomimic-pose-acc",
        "hallo",
        "tiny",
    ]


@pytest.mark.parametrize("name", preset_names())
def test_preset_resolves_and_knows_its_name(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert preset.summary


@pytest.mark.parametrize("name", preset_names())
def test_resolved_preset_written_as_yaml_reads_back_equal(name: str, tmp_path: Path) -> None:
    preset = load_preset(name)
    written = tmp_path / "resolved.yaml"
    written.write_text(yaml.safe_dump(to_dict(preset)), encoding="utf-8")
    assert load_preset(str(written)) == preset


@pytest.mark.parametrize(
    ("name", "steps", "guidance", "fps", "frames"),
    [
        ("hallo", 40, 3.5, 25.0, 16),
        ("echomimic", 30, 2.5, 24.0, 12),
        ("echomimic-acc", 6, 1.0, 24.0, 12),
        ("echomimic-pose", 30, 2.5, 24.0, 12),
        ("echomimic-pose-acc", 6, 1.0, 24.0, 12),
    ],
)
def test_published_sampling_is_the_design_tables(
    name: str, steps: int, guidance: float, fps: float, frames: int
) -> None:
    sampling = load_preset(name).sampling
    assert (sampling.num_inference_steps, sampling.guidance_scale) == (steps, guidance)
    assert (sampling.fps, sampling.num_frames_per_clip) == (fps, frames)


def test_weights_trained_here_need_no_quirks() -> None:
    assert not any(dataclasses.asdict(load_preset("tiny").quirks).values())


def test_extending_preset_keeps_what_it_does_not_name() -> None:
    base, extended = load_preset("echomimic"), load_preset("echomimic-acc")
    assert extended.network == base.network
    assert extended.quirks == base.quirks
    assert extended.sampling == dataclasses.replace(base.sampling, num_inference_steps=6, guidance_scale=1.0)


def test_user_file_extends_a_preset(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: hallo\nname: mine\nsampling: {seed: 7}\n", encoding="utf-8")
    preset = load_preset(str(mine))
    assert (preset.name, preset.sampling.seed) == ("mine", 7)
    assert preset.network == load_preset("hallo").network


def test_last_override_wins() -> None:
    preset = load_preset("hallo", {"sampling": {"seed": 1, "fps": 30}}, {"sampling": {"seed": 2}})
    assert (preset.sampling.seed, preset.sampling.fps) == (2, 30.0)


def test_circle_of_extends_is_named(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(f"extends: {second}\n", encoding="utf-8")
    second.write_text(f"extends: {first}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"circle.*first\.yaml → .*second\.yaml → .*first\.yaml"):
        load_preset(str(first))


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean echomimic-acc"):
        load_preset("echomimic-ac")


def test_missing_user_file_lists_the_presets() -> None:
    with pytest.raises(ConfigError, match=r"'nowhere.yaml'.*Presets: echomimic, "):
        load_preset("nowhere.yaml")


@pytest.mark.parametrize("data", [b"sampling: [1", b"just text", b"- a list", b"name: \xe9"])
def test_file_that_is_no_mapping_is_an_error_with_its_name(data: bytes, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_bytes(data)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_preset(str(broken))


def test_unknown_key_names_the_nearest_with_its_section() -> None:
    with pytest.raises(ConfigError, match=re.escape("sampling.guidance_scal. Did you mean sampling.guidance_scale?")):
        load_preset("hallo", {"sampling": {"guidance_scal": 3}})


def test_unknown_key_near_to_nothing_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Unknown config key xyz\. Known: name, summary, "):
        load_preset("hallo", {"xyz": 1})


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("sampling", "num_inference_steps", "many", "of type int"),
        ("sampling", "num_inference_steps", 2.5, "of type int"),
        ("sampling", "num_inference_steps", True, "of type int"),
        ("sampling", "num_inference_steps", 0, "from 1 to 1000"),
        ("sampling", "guidance_scale", True, "of type float"),
        ("sampling", "plan", "parallel", "one of sequential, overlapping"),
        ("sampling", "guidance_interval", [0.0, 0.5, 1.0], "a list of 2 values"),
        ("sampling", "guidance_interval", [0.8, 0.2], "0 <= low <= high <= 1"),
        ("sampling", "guidance_interval", 0.5, "must be a list"),
        ("sampling", "num_overlap_frames", 16, "from 0 to num_frames_per_clip - 1 = 15"),
        ("quirks", "tile_reference_rows", "yes", "of type bool"),
        ("scheduler", "name", "heun", "one of ddim, "),
    ],
)
def test_wrong_value_is_an_error_with_key_and_expectation(section: str, key: str, value: object, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"{section}.{key}.*{re.escape(expected)}"):
        load_preset("hallo", {section: {key: value}})


@pytest.mark.parametrize("value", [None, 3, "text", []])
def test_section_that_is_no_mapping_is_an_error(value: object) -> None:
    with pytest.raises(ConfigError, match="sampling must be a mapping"):
        load_preset("hallo", {"sampling": value})


def test_clip_longer_than_the_position_code_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"at most network\.denoising_unet\.max_motion_positions = 32, got 36"):
        load_preset("hallo", {"sampling": {"num_frames_per_clip": 20, "num_motion_frames": 16}})


def test_networks_that_do_not_fit_together_are_rejected() -> None:
    with pytest.raises(ConfigError, match=r"network\.condition_encoder\.out_channels.*\(320\), got 64"):
        load_preset("hallo", {"network": {"condition_encoder": {"out_channels": 64}}})
    with pytest.raises(ConfigError, match=r"network\.reference_unet must be of the same widths"):
        load_preset("hallo", {"network": {"reference_unet": {"layers_per_block": 1}}})
    with pytest.raises(ConfigError, match=r"network\.identity_projection must be set exactly when"):
        load_preset("hallo", {"network": {"identity_projection": None}})


def test_preset_cannot_be_changed_after_it_is_checked() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_preset("hallo").sampling.seed = 1  # type: ignore[misc]


def test_missing_name_is_an_error() -> None:
    with pytest.raises(ConfigError, match="name"):
        from_dict(Preset, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sampling.guidance_scale=3", {"sampling": {"guidance_scale": 3}}),
        ("sampling.guidance_interval=[0.1, 0.9]", {"sampling": {"guidance_interval": [0.1, 0.9]}}),
        ("sampling.noise_clamp=null", {"sampling": {"noise_clamp": None}}),
        ("quirks.tile_reference_rows=false", {"quirks": {"tile_reference_rows": False}}),
        ("summary=a=b", {"summary": "a=b"}),
        (" name = x", {"name": "x"}),
    ],
)
def test_assignment_becomes_nested_values(text: str, expected: dict[str, object]) -> None:
    assert parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["", "sampling.seed", "=3", ".seed=3", "sampling.=3", "a..b=3"])
def test_assignment_without_key_or_sign_is_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_assignment(text)


def test_assignment_with_broken_yaml_is_rejected() -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_assignment("sampling.seed=[1")


@given(st.lists(_KEYS, min_size=1, max_size=4), st.integers())
def test_assignment_reaches_as_deep_as_its_dots(path: list[str], value: int) -> None:
    nested: object = parse_assignment(f"{'.'.join(path)}={value}")
    for key in path:
        assert isinstance(nested, dict)
        (found,) = nested
        assert found == key
        nested = nested[key]
    assert nested == value


@given(_TREES, _TREES)
def test_merge_changes_neither_side_and_keeps_all_that_the_override_says(base: dict, override: dict) -> None:
    base_before, override_before = repr(base), repr(override)
    merged = merge(base, override)
    assert (repr(base), repr(override)) == (base_before, override_before)
    assert set(merged) == set(base) | set(override)
    assert merge(merged, override) == merged
    for key, value in override.items():
        if not isinstance(value, dict):
            assert merged[key] == value


@given(_TREES)
def test_merge_with_nothing_is_the_same(tree: dict) -> None:
    assert merge(tree, {}) == tree
    assert merge({}, tree) == tree


@given(st.integers(1, 100), st.floats(0, 20), st.integers(0, 2**63 - 1))
def test_any_valid_sampling_survives_the_way_through_plain_data(steps: int, guidance: float, seed: int) -> None:
    values = {"sampling": {"num_inference_steps": steps, "guidance_scale": guidance, "seed": seed}}
    preset = load_preset("tiny", values)
    assert from_dict(Preset, to_dict(preset)) == preset
