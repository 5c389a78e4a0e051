from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from portraitanim.config.preparation import FilterConfig, PreparationConfig, load_preparation
from portraitanim.data.preparation.filters import RULES, judge, limits_by_score
from portraitanim.errors import ConfigError

GOOD = {
    "face_tracked_fraction": 1.0,
    "seconds": 5.0,
    "second_face_share": 0.0,
    "track_jump": 0.05,
    "face_px": 300.0,
    "face_share": 0.6,
    "sharpness": 0.3,
    "yaw_degrees": 5.0,
    "head_speed": 0.5,
    "head_travel": 0.1,
    "content_change": 5.0,
    "camera_speed": 0.0,
    "mouth_motion": 0.03,
    "speech_fraction": 0.9,
    "sync_correlation": 0.5,
    "sync_offset_frames": 0.0,
}


def failed(scores: dict[str, float], has_sound: bool = True, config: PreparationConfig | None = None) -> list[str]:
    return [failure.score for failure in judge(scores, config or PreparationConfig(), has_sound=has_sound)]


def test_every_limit_belongs_to_a_score_and_every_score_has_a_limit() -> None:
    names = {f.name.removeprefix("min_").removeprefix("max_") for f in fields(FilterConfig)}
    assert names == set(RULES) == set(GOOD) | {"copy_distance", "sync_confidence"}


def test_good_clip_keeps_all_limits() -> None:
    assert failed(GOOD) == []


@pytest.mark.parametrize(
    ("score", "value"),
    [
        ("face_tracked_fraction", 0.5),
        ("seconds", 1.0),
        ("second_face_share", 0.9),
        ("track_jump", 0.8),
        ("face_px", 40.0),
        ("face_share", 1.1),
        ("sharpness", 0.1),
        ("yaw_degrees", 70.0),
        ("head_speed", 6.0),
        ("head_travel", 2.0),
        ("content_change", 80.0),
        ("camera_speed", 0.5),
        ("mouth_motion", 0.0001),
        ("speech_fraction", 0.0),
        ("sync_correlation", 0.05),
        ("sync_offset_frames", 7.0),
    ],
)
def test_each_score_beyond_its_limit_drops_the_clip(score: str, value: float) -> None:
    assert failed({**GOOD, score: value}) == [score]
    off = {name: None for name in ("min_" + score, "max_" + score) if name in {f.name for f in fields(FilterConfig)}}
    assert failed({**GOOD, score: value}, config=load_preparation(None, {"filters": off})) == []


def test_message_says_what_was_measured_and_needed() -> None:
    (failure,) = judge({**GOOD, "yaw_degrees": 61.23}, PreparationConfig(), has_sound=True)
    assert failure.message == "yaw_degrees is 61.23, needs at most 45"


def test_plain_background_shows_no_camera_motion_and_passes() -> None:
    assert failed({name: value for name, value in GOOD.items() if name != "camera_speed"}) == []


def test_sound_that_cannot_be_compared_does_not_pass() -> None:
    assert failed({name: value for name, value in GOOD.items() if name != "sync_correlation"}) == ["sync_correlation"]


def test_clip_without_sound_track_is_kept_only_where_sound_is_optional() -> None:
    silent = {name: value for name, value in GOOD.items() if not name.startswith(("speech", "sync"))}
    assert failed(silent, has_sound=False) == ["speech_fraction"]
    assert failed(silent, has_sound=False, config=load_preparation(None, {"sound": "optional"})) == []


def test_clip_without_a_face_is_dropped_whatever_the_limits() -> None:
    off = {"filters": {f.name: None for f in fields(FilterConfig)}}
    assert failed({"face_tracked_fraction": 0.0}, config=load_preparation(None, off)) == ["face_tracked_fraction"]


def test_limits_say_whether_they_are_minima() -> None:
    limits = limits_by_score(FilterConfig(min_face_px=99.0, max_yaw_degrees=None))
    assert limits["face_px"] == (99.0, True)
    assert limits["head_speed"][1] is False
    assert "yaw_degrees" not in limits


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ({"filters": {"max_yaw": 3}}, "max_yaw_degrees"),
        ({"crop": {"size_px": 500}}, "multiple of 8"),
        ({"crop": {"face_share": 3.0}}, "face_share"),
        ({"split": {"test_share": 1.1}}, "test_share"),
        ({"filters": {"min_seconds": 60}}, "max_seconds"),
        ({"sound": "maybe"}, "required, optional"),
        ({"fps": 0}, "fps"),
    ],
)
def test_config_that_makes_no_sense_is_refused(override: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_preparation(None, override)


def test_yaml_file_is_laid_over_the_defaults_and_overrides_over_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("filters: {max_yaw_degrees: 20, min_face_px: null}\ncrop: {size_px: 256}\n")
    config = load_preparation(path, {"filters": {"max_yaw_degrees": 10.0}})
    assert (config.filters.max_yaw_degrees, config.filters.min_face_px, config.crop.size_px) == (10.0, None, 256)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="mapping"):
        load_preparation(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_preparation(tmp_path / "absent.yaml")
