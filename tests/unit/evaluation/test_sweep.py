"""Sweeps: rows, ready files, and a small one that is really animated and measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from portraitanim.checkpoints.animators import open_animator
from portraitanim.config.animation import AnimationOptions
from portraitanim.config.schema import from_dict
from portraitanim.config.sweep import SweepConfig, load_sweep, sweep_names
from portraitanim.data.records import write_manifest
from portraitanim.errors import ConfigError, InputError
from portraitanim.evaluation.catalogue import chosen_metrics
from portraitanim.evaluation.held_out import prepared_clips
from portraitanim.evaluation.protocol import EvaluationProtocol
from portraitanim.evaluation.reanimation import reanimate
from portraitanim.evaluation.sweep import run_sweep
from portraitanim.media.image import load_image
from tests.small_dataset import write_dataset
from tests.small_weights import SIZE_PX, small_weights


@pytest.mark.parametrize("name", sweep_names())
def test_ready_sweeps_can_be_read_and_their_metrics_exist(name: str) -> None:
    config = load_sweep(name)
    assert len(config.rows()) >= 3
    assert config.about
    chosen_metrics([*config.metrics, *config.plot])


def test_grid_makes_a_row_for_each_combination() -> None:
    config = from_dict(SweepConfig, {"title": "t", "grid": {"lip_weight": [0, 1], "audio_guidance": [1.0, 2.0, 3.0]}})
    rows = config.rows()
    assert len(rows) == 6
    assert rows[1].name == "lip_weight=0, audio_guidance=2.0"
    assert config.options_of(rows[1]).audio_guidance == 2.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"title": "t"}, "no rows"),
        ({"title": "t", "runs": [{"name": "a"}, {"name": "a"}]}, "called 'a'"),
        ({"title": "t", "grid": {"lip_wait": [1]}}, "lip_weight"),
        ({"title": "t", "grid": {"speed": "fast"}}, "grid.speed must be a list"),
        ({"title": "t", "runs": [{"name": "a", "drive": "wind"}]}, "drive"),
    ],
)
def test_sweeps_that_make_no_sense_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(SweepConfig, values)


def test_an_unknown_sweep_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hallo-figure11"):
        load_sweep("hallo-figure12")
    (tmp_path / "mine.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="must hold a mapping"):
        load_sweep(str(tmp_path / "mine.yaml"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared dataset of one test clip, half a second of the example portrait, and a clip for training."""
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def test_only_clips_of_the_test_split_are_taken(dataset: Path, tmp_path: Path) -> None:
    (clip,) = prepared_clips(dataset).clips
    assert clip.name == "unseen"
    assert clip.video.is_file()
    write_manifest(tmp_path, [])
    with pytest.raises(InputError, match="no clips in its test split"):
        prepared_clips(tmp_path)


def test_a_sweep_animates_measures_and_draws(dataset: Path, tmp_path: Path) -> None:
    small_weights(tmp_path / "weights")
    config = from_dict(
        SweepConfig,
        {
            "title": "Two lips",
            "about": "Made small.",
            "options": {"seed": 1, "drift_guard": False, "idle_motion": False},
            "grid": {"lip_weight": [0.0, 1.0]},
            "runs": [{"name": "other network", "needs_weights": "a network of another kind"}],
            "metrics": ["ssim", "fid"],
            "plot": ["ssim"],
        },
    )
    opened = []

    def open_weights(name: str | None, landmarks: bool):
        opened.append((name, landmarks))
        return open_animator(str(tmp_path / "weights"), device="cpu")

    def run():
        return run_sweep(
            config,
            prepared_clips(dataset),
            tmp_path / "sweep",
            open_animator=open_weights,
            protocol=EvaluationProtocol(num_resamples=0),
            device="cpu",
        )

    result = run()
    assert opened == [(None, False)]
    assert [report.title for report in result.reports] == ["lip_weight=0.0", "lip_weight=1.0"]
    values = [report.metrics["ssim"].value for report in result.reports]
    assert all(0 < value < 0.9 for value in values)
    assert values[0] != values[1]
    assert result.reports[0].fingerprint.protocol.size_px == SIZE_PX
    assert result.left_out == {"other network": "needs a network of another kind"}
    table = result.table.read_text()
    assert "FID was not measured" in table
    assert "other network was not run" in table
    assert load_image(result.plots[0]).shape[0] == 3
    before = (tmp_path / "sweep" / "lip_weight=0.0" / "videos" / "unseen.mp4").stat().st_mtime_ns
    again = run()
    with pytest.raises(InputError, match="other weights or options"):
        reanimate(
            open_weights(None, False),
            prepared_clips(dataset).clips,
            tmp_path / "sweep" / "lip_weight=0.0" / "videos",
            AnimationOptions(seed=2),
        )
    assert (tmp_path / "sweep" / "lip_weight=0.0" / "videos" / "unseen.mp4").stat().st_mtime_ns == before
    assert [report.metrics for report in again.reports] == [report.metrics for report in result.reports]
