"""``portraitanim eval`` as a user meets it: output, messages and exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from portraitanim.checkpoints.store import WEIGHTS_VARIABLE
from portraitanim.cli.app import run
from portraitanim.media.video_writer import VideoWriter
from tests.listed_videos import write_hdtf, write_video
from tests.small_dataset import write_dataset
from tests.small_weights import SIZE_PX, small_weights

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs ``portraitanim eval`` in this process, in an empty folder, without any weights."""
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(["eval", *(str(word) for word in words)])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """One clip, and the same with noise."""
    random = np.random.default_rng(0)
    picture = np.linspace(40, 200, 64 * 64, dtype=np.uint8).reshape(64, 64)
    for side, noise in (("made", 12.0), ("real", 0.0)):
        (tmp_path / side).mkdir()
        with VideoWriter(tmp_path / side / "clip.mp4", 25) as writer:
            for _ in range(5):
                noisy = picture + random.normal(0, noise, picture.shape) if noise else picture
                writer.write(np.broadcast_to(noisy.clip(0, 255).astype(np.uint8), (3, 64, 64)))
    return tmp_path / "made", tmp_path / "real"


def test_two_folders_give_a_table_a_report_and_a_page(cli: Cli, folders: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, _ = cli(*folders, "--metrics", "ssim,psnr", "--format", "markdown")
    assert code == 0
    assert "| SSIM ↑ | PSNR (dB) ↑ |" in out
    assert "| made | 0." in out
    written = {path.name for path in (tmp_path / "evaluation-made").iterdir()}
    assert written >= {"report.json", "report.html", "clips.jsonl", "thumbnails"}


def test_missing_weights_are_named_and_make_exit_code_4_with_the_result_written(
    cli: Cli, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    code, out, err = cli(*folders, "--metrics", "ssim,fid,sync_c", "--json", "-o", tmp_path / "run")
    report = json.loads(out)
    assert code == 4
    assert not report["complete"]
    assert report["metrics"].keys() == {"ssim"}
    assert "fid, sync_c could not be measured" in err
    assert "portraitanim weights pull inception-2015 syncnet-v2" in err
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report


def test_every_weight_that_a_metric_lacks_is_named(cli: Cli, folders: tuple[Path, Path]) -> None:
    _, _, err = cli(*folders, "--metrics", "ssim,sync_c,sync_d", "--set", "sync_boxes=s3fd")
    assert "portraitanim weights pull syncnet-v2 s3fd" in err


def test_clips_that_fail_make_exit_code_6(cli: Cli, folders: tuple[Path, Path]) -> None:
    for folder in folders:
        (folder / "broken.mp4").write_bytes(b"x" * 100)
    code, out, err = cli(*folders, "--metrics", "ssim")
    assert code == 6
    assert "1 clips could not be measured" in err
    assert "SSIM" in out


def test_tables_of_earlier_runs_mark_what_was_measured_otherwise(cli: Cli, folders: tuple[Path, Path]) -> None:
    cli(*folders, "--metrics", "ssim", "-o", "one", "--title", "one")
    cli(*folders, "--metrics", "ssim", "-o", "two", "--title", "two", "--set", "ssim_window=uniform")
    code, out, err = cli("--table", "one", "--table", "two/report.json")
    assert code == 0
    assert "two [NOT COMPARABLE 1]" in out
    assert "protocol.ssim_window: gaussian | uniform" in err
    code, out, _ = cli("--table", "one", "--table", "one", "--format", "latex")
    assert out.count(r"\textbf{") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Two folders are needed"),
        (("made", "real", "--metrics", "sim"), "Did you mean ssim"),
        (("made", "real", "--pairs", "x.csv"), "leave out GENERATED"),
        (("nowhere", "real"), "There is no folder nowhere"),
        (("made", "real", "--format", "word"), "markdown"),
        (("made", "real", "--set", "fvd_frame=3"), "fvd_frame"),
        (("--table", "nowhere"), "cannot be read"),
        (("made", "real", "--split-seed", "3"), "--split-seed is about a dataset"),
        (("made", "real", "--max-clips", "3"), "--max-clips is about a dataset"),
        (("made", "real", "--metrics", "ssim", "--workers", "0"), "at least one pair and one worker"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    cli: Cli, folders: tuple[Path, Path], words: tuple[str, ...], message: str
) -> None:
    code, _, err = cli(*words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_metrics_are_listed_with_what_they_need(cli: Cli) -> None:
    _, out, _ = cli("--list-metrics")
    assert any(line.startswith("fid ") and "inception-2015" in line for line in out.splitlines())
    listed = json.loads(cli("--list-metrics", "--json")[1])
    assert {"name", "label", "about"} <= listed[0].keys()


def test_held_out_clips_are_animated_and_held_against_themselves(cli: Cli, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    small_weights(tmp_path / "small")
    words = ("--root", "data", "--weights", "small", "--title", "tiny set", "--metrics", "ssim", "--device", "cpu")
    quick = ("--animate", "drift_guard=false", "--animate", "idle_motion=false")
    code, out, err = cli(*words, *quick, "--json", "-o", "run")
    assert code == 0, err
    report = json.loads(out)
    assert report["title"] == "tiny set"
    assert report["fingerprint"]["num_clips"] == 1
    assert report["fingerprint"]["protocol"]["size_px"] == SIZE_PX
    assert 0 < report["metrics"]["ssim"]["value"] < 0.9
    assert (tmp_path / "run" / "videos" / "unseen.mp4").is_file()


def test_clips_of_a_published_list_are_cut_animated_and_measured(cli: Cli, tmp_path: Path) -> None:
    write_hdtf(tmp_path / "data" / "HDTF_dataset", {"Radio1": "0:00-0:01", "Radio2": "0:00-0:01"}, "80 160 0 160")
    for name in ("Radio1", "Radio2"):
        write_video(tmp_path / "data" / f"{name}.mp4")
    small_weights(tmp_path / "small")
    words = ("--dataset", "hdtf", "--root", "data", "--weights", "small", "--metrics", "ssim", "--device", "cpu")
    quick = ("--animate", "drift_guard=false", "--animate", "idle_motion=false")
    code, out, err = cli(*words, *quick, "--json")
    assert code == 0, err
    report = json.loads(out)
    listed = report["fingerprint"]["clip_list"]
    assert (listed["dataset"], listed["num_listed"], listed["num_found"], listed["num_used"]) == ("hdtf", 1, 1, 1)
    assert report["title"] == "hdtf"
    assert 0 < report["metrics"]["ssim"]["value"] < 0.9
    assert len(list((tmp_path / "evaluation-hdtf" / "videos").glob("RD_Radio*-0000.mp4"))) == 1
    assert listed["fingerprint"] in cli("--table", "evaluation-hdtf/result", "--format", "markdown")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dataset", "vox", "--root", "data"), "hdtf, celebv, wild"),
        (("--dataset", "hdtf"), "name their dataset with --root"),
        (("--root", "plain"), "--dataset hdtf, celebv, wild"),
        (("--root", "data", "--split-seed", "3"), "leave out --split-seed"),
        (("--root", "data", "--dataset", "wild"), "not from wild"),
        (("--root", "plain", "--dataset", "celebv"), "celebvhq_info.json"),
    ],
)
def test_datasets_that_are_not_there_are_one_line_and_exit_code_2(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    write_dataset(tmp_path / "data")
    small_weights(tmp_path / "small")
    (tmp_path / "plain").mkdir()
    code, _, err = cli(*words, "--weights", "small", "--device", "cpu", "--metrics", "ssim")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_sweep_without_the_weights_of_any_row_says_what_each_needs(cli: Cli, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    code, _, err = cli("--root", "data", "--sweep", "hallo-table5")
    assert code == 2
    assert "zero convolution needs a network as published" in err
    assert "--root" in cli("--sweep", "hallo-table4")[2]
