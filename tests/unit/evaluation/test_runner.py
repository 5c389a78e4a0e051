"""Whole evaluations of short real videos: the portrait of the examples, moved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from portraitanim.errors import InputError, MissingWeightsError
from portraitanim.evaluation.clip_result import ClipResult, features_path, read_clip_results
from portraitanim.evaluation.clips import pair_folders
from portraitanim.evaluation.protocol import EvaluationProtocol
from portraitanim.evaluation.report import EvaluationReport, read_reports
from portraitanim.evaluation.runner import evaluate
from portraitanim.media.image import load_image
from portraitanim.media.video_writer import VideoWriter
from portraitanim.models.evaluators.lpips import Lpips

_ROOT = Path(__file__).resolve().parents[3]
_PIXELS = ("ssim", "psnr")
_FACE = ("ssim", "lmd_mouth", "mouth_lag", "upper_face_ssim", "flicker")
_NUM_FRAMES = 14


def _portrait() -> np.ndarray:
    picture = load_image(_ROOT / "examples" / "portrait.jpg").transpose(1, 2, 0)
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return cv2.resize(picture[top : top + side, left : left + side], (192, 192), interpolation=cv2.INTER_AREA)


def _moving(num_frames: int = _NUM_FRAMES, blur: float = 0.0) -> Iterator[np.ndarray]:
    """The portrait swaying from left to right."""
    portrait = _portrait()
    if blur:
        portrait = cv2.GaussianBlur(portrait, (0, 0), blur)
    for number in range(num_frames):
        shift = np.float32([[1, 0, 6 * np.sin(number / 2)], [0, 1, 0]])
        moved = cv2.warpAffine(portrait, shift, (192, 192), borderMode=cv2.BORDER_REPLICATE)
        yield np.ascontiguousarray(moved.transpose(2, 0, 1))


def _write(path: Path, frames: Iterator[np.ndarray] | Sequence[np.ndarray], fps: float = 25) -> None:
    path.parent.mkdir(exist_ok=True)
    with VideoWriter(path, fps, crf=10) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``true``, and ``ours`` in which a is the same, b is blurred."""
    root = tmp_path_factory.mktemp("videos")
    for name in "ab":
        _write(root / "true" / f"{name}.mp4", _moving())
    (root / "ours").mkdir()
    (root / "ours" / "a.mp4").write_bytes((root / "true" / "a.mp4").read_bytes())
    _write(root / "ours" / "b.mp4", _moving(blur=1.2))
    return root


def _evaluate(videos: Path, output: Path, metrics: Sequence[str] = _PIXELS, **options: object) -> EvaluationReport:
    protocol = EvaluationProtocol(metrics=tuple(metrics), num_resamples=50)
    pairs, _ = pair_folders(videos / "ours", videos / "true")
    return evaluate(pairs, protocol, output, title="ours", **options)  # type: ignore[arg-type]


def _by_name(output: Path) -> dict[str, ClipResult]:
    return {clip.name: clip for clip in read_clip_results(output)}


def test_equal_and_blurred_videos_get_the_values_they_must(videos: Path, tmp_path: Path) -> None:
    report = _evaluate(videos, tmp_path / "run", _FACE)
    clips = _by_name(tmp_path / "run")
    same, blurred = clips["a"], clips["b"]
    assert same.values["ssim"] == 1
    assert same.values["lmd_mouth"] == 0
    assert same.values["flicker"] == same.true_values["flicker"]
    assert blurred.values["ssim"] < 0.97
    assert 0 < blurred.values["lmd_mouth"] < 20
    assert blurred.values["upper_face_ssim"] < same.values["upper_face_ssim"] == 1
    assert report.metrics["ssim"].value == pytest.approx((1 + blurred.values["ssim"]) / 2)
    assert report.metrics["ssim"].low <= report.metrics["ssim"].value <= report.metrics["ssim"].high
    assert report.fingerprint.num_frames == 2 * _NUM_FRAMES
    assert read_reports(tmp_path / "run") == [report]
    assert (tmp_path / "run" / "thumbnails" / "b.jpg").is_file()
    assert "<b>b</b>" in (tmp_path / "run" / "report.html").read_text()


def test_bad_clips_are_said_and_the_rest_is_measured(videos: Path, tmp_path: Path) -> None:
    for side in ("ours", "true"):
        for name in ("broken", "empty", "longer", "other_size", "faster"):
            _write(tmp_path / side / f"{name}.mp4", _moving(8))
    (tmp_path / "ours" / "broken.mp4").write_bytes(b"no video at all" * 100)
    (tmp_path / "ours" / "empty.mp4").write_bytes(b"")
    _write(tmp_path / "ours" / "longer.mp4", _moving(12))
    _write(tmp_path / "ours" / "other_size.mp4", [frame[:, :128, :128] for frame in _moving(8)])
    _write(tmp_path / "ours" / "faster.mp4", _moving(16), fps=50)
    report = _evaluate(tmp_path, tmp_path / "run")
    clips = _by_name(tmp_path / "run")
    assert "empty" in clips["empty"].error
    assert clips["broken"].error
    assert clips["longer"].num_frames == 8
    assert any("generated video is longer" in note for note in clips["longer"].notes)
    assert clips["other_size"].values == {"psnr": None, "ssim": None}
    assert any("128x128" in note and "--size" in note for note in clips["other_size"].notes)
    assert any("50 frames per second" in note for note in clips["faster"].notes)
    assert clips["faster"].num_frames == 8
    assert report.num_failed == 2
    assert report.metrics["ssim"].num_clips == 2
    assert any("1 of 3 clips" in text for text in report.metrics["ssim"].warnings)


def test_without_a_face_the_other_metrics_stay(tmp_path: Path) -> None:
    grey = [np.full((3, 128, 128), 90 + number, np.uint8) for number in range(8)]
    for side in ("ours", "true"):
        _write(tmp_path / side / "wall.mp4", grey)
    report = _evaluate(tmp_path, tmp_path / "run", ("ssim", "lmd_mouth", "blinks"))
    assert report.metrics["ssim"].value > 0.99
    assert report.metrics["lmd_mouth"].value is None
    assert any("no face in 8 of 8" in note for note in _by_name(tmp_path / "run")["wall"].notes)
    assert any(note.startswith("1 of 1 clips: no face in 8 of 8") for note in report.notes)


def test_metrics_without_weights_are_left_out_by_name(videos: Path, tmp_path: Path) -> None:
    report = _evaluate(videos, tmp_path / "run", ("fid", "ssim", "sync_c"))
    assert set(report.metrics) == {"ssim"}
    assert [(metric.metric, metric.command) for metric in report.left_out] == [
        ("fid", "portraitanim weights pull inception-2015"),
        ("sync_c", "portraitanim weights pull syncnet-v2"),
    ]
    with pytest.raises(MissingWeightsError, match="weights pull inception-2015"):
        _evaluate(videos, tmp_path / "other", ("fid",))


def test_a_killed_run_goes_on_and_gives_the_same(videos: Path, tmp_path: Path) -> None:
    whole = _evaluate(videos, tmp_path / "whole")
    _evaluate(videos, tmp_path / "run")
    lines = (tmp_path / "run" / "clips.jsonl").read_text().splitlines()
    marked = json.loads(lines[0]) | {"seconds": 12345.0}
    # Killed while the second line was being written.
    (tmp_path / "run" / "clips.jsonl").write_text(json.dumps(marked) + "\n" + lines[1][:40])
    resumed = _evaluate(videos, tmp_path / "run", resume=True)
    clips = _by_name(tmp_path / "run")
    assert clips["a"].seconds == 12345.0
    assert len(clips) == 2
    assert resumed.metrics == whole.metrics
    assert resumed.fingerprint == whole.fingerprint


def test_a_changed_video_is_measured_anew_and_a_failed_one_tried_again(videos: Path, tmp_path: Path) -> None:
    for side in ("ours", "true"):
        for name in "ab":
            _write(tmp_path / side / f"{name}.mp4", _moving(6))
    (tmp_path / "ours" / "b.mp4").write_bytes(b"damaged" * 50)
    assert _evaluate(tmp_path, tmp_path / "run").num_failed == 1
    _write(tmp_path / "ours" / "a.mp4", _moving(6, blur=3))
    (tmp_path / "ours" / "b.mp4").write_bytes((tmp_path / "true" / "b.mp4").read_bytes())
    report = _evaluate(tmp_path, tmp_path / "run", resume=True)
    assert report.num_failed == 0
    assert _by_name(tmp_path / "run")["a"].values["ssim"] < 0.95


def test_another_protocol_is_not_mixed_into_a_run(videos: Path, tmp_path: Path) -> None:
    _evaluate(videos, tmp_path / "run")
    with pytest.raises(InputError, match="--resume to go on"):
        _evaluate(videos, tmp_path / "run")
    with pytest.raises(InputError, match="protocol differ in metrics"):
        _evaluate(videos, tmp_path / "run", ("ssim",), resume=True)
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "thesis.doc").write_text("dear")
    with pytest.raises(InputError, match=r"other things, such as thesis\.doc"):
        _evaluate(videos, tmp_path / "stranger", overwrite=True)
    assert _evaluate(videos, tmp_path / "run", ("ssim",), overwrite=True).metrics.keys() == {"ssim"}


def test_lpips_runs_with_installed_weights_and_enters_the_fingerprint(videos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    (tmp_path / "lpips").mkdir()
    state = {key: value.abs() if key.startswith("lin") else value for key, value in Lpips("alex").state_dict().items()}
    save_file(state, tmp_path / "lpips" / "model.safetensors")
    report = _evaluate(videos, tmp_path / "run", ("lpips",), weights={"lpips-alex": tmp_path / "lpips"})
    clips = _by_name(tmp_path / "run")
    assert clips["a"].values["lpips"] == 0
    assert clips["b"].values["lpips"] > 0
    assert len(report.fingerprint.weights["lpips-alex"]) == 64


@pytest.mark.slow
def test_every_network_measures_in_worker_processes_and_features_are_pooled(videos: Path, tmp_path: Path) -> None:
    from portraitanim.models.evaluators.face_reconstruction import FaceReconstruction
    from portraitanim.models.evaluators.i3d import I3D
    from portraitanim.models.evaluators.inception import InceptionV3
    from portraitanim.models.evaluators.s3fd import S3FD
    from portraitanim.models.evaluators.syncnet import SyncNet

    weights = {}
    for name, build in {
        "inception-2015": InceptionV3,
        "i3d-kinetics-400": I3D,
        "syncnet-v2": SyncNet,
        "deep3d-recon": FaceReconstruction,
        "s3fd": S3FD,
    }.items():
        torch.manual_seed(0)
        weights[name] = tmp_path / name
        weights[name].mkdir()
        save_file(build().state_dict(), weights[name] / "model.safetensors")
    metrics = ("fid", "fvd", "e_fid", "sync_c", "sync_d", "sync_offset", "ssim")
    protocol = EvaluationProtocol(metrics=metrics, fvd_frames=9, fvd_stride=2, num_set_resamples=4)
    for name in "ab":
        for side in ("ours", "true"):
            (tmp_path / side).mkdir(exist_ok=True)
            with VideoWriter(tmp_path / side / f"{name}.mp4", 25, audio=_ROOT / "examples" / "speech.wav") as writer:
                for frame in _moving():
                    writer.write(frame)
    pairs, _ = pair_folders(tmp_path / "ours", tmp_path / "true")
    report = evaluate(pairs, protocol, tmp_path / "run", title="ours", weights=weights, num_workers=2)
    assert report.is_complete
    assert report.num_failed == 0
    assert report.metrics["fid"].num_samples == (2 * _NUM_FRAMES, 2 * _NUM_FRAMES)
    assert report.metrics["fvd"].num_samples == (2 * 3, 2 * 3)
    assert report.metrics["fid"].value == pytest.approx(0, abs=1e-3)
    assert report.metrics["e_fid"].value == pytest.approx(0, abs=1e-3)
    assert "fewer than the dimensions" in report.metrics["fid"].warnings[0]
    assert report.metrics["sync_c"].num_clips == 2
    assert features_path(tmp_path / "run", "a").is_file()
    published = evaluate(
        pairs,
        EvaluationProtocol(metrics=("sync_c",), sync_boxes="s3fd"),
        tmp_path / "s3fd-run",
        title="ours",
        weights=weights,
    )
    assert published.num_failed == 0
