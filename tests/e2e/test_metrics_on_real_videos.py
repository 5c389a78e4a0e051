"""Every metric that needs no download, on real talking videos and spoilt copies of them: which way it moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from portraitanim.evaluation.catalogue import METRICS
from portraitanim.evaluation.clips import pair_folders
from portraitanim.evaluation.protocol import EvaluationProtocol
from portraitanim.evaluation.report import EvaluationReport
from portraitanim.evaluation.runner import evaluate
from tests.unit.data.preparation.made_videos import FPS, OTHER, SPEAKER, needs_media, save, sound_of, talking

_NUM_FRAMES, _DELAY_FRAMES = 60, 5
_WITHOUT_WEIGHTS = tuple(name for name, metric in METRICS.items() if not metric.weights)


def _blurred(frames: np.ndarray) -> np.ndarray:
    pictures = [cv2.GaussianBlur(frame.transpose(1, 2, 0), (0, 0), 2.5).transpose(2, 0, 1) for frame in frames]
    return np.stack(pictures)


def _late(frames: np.ndarray) -> np.ndarray:
    return np.concatenate([np.repeat(frames[:1], _DELAY_FRAMES, axis=0), frames[:-_DELAY_FRAMES]])


_SPOILT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "same": lambda frames: frames,
    "blurred": _blurred,
    "late": _late,
    "frozen": lambda frames: np.repeat(frames[:1], len(frames), axis=0),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvaluationReport]:
    root = tmp_path_factory.mktemp("real")
    for name in (SPEAKER, OTHER):
        frames, sound = talking(name, _NUM_FRAMES), sound_of(name, _NUM_FRAMES)
        for folder, change in _SPOILT.items():
            save(_new(root / folder) / name, change(frames), sound)
    protocol = EvaluationProtocol(metrics=_WITHOUT_WEIGHTS, num_resamples=0)
    found = {}
    for folder in _SPOILT:
        pairs, _ = pair_folders(root / folder, root / "same")
        found[folder] = evaluate(pairs, protocol, root / f"result-{folder}", title=folder)
        assert (found[folder].num_failed, found[folder].is_complete) == (0, True)
    return found


@pytest.mark.slow
@needs_media
def test_every_metric_moves_the_right_way_when_real_videos_are_spoilt(reports: dict[str, EvaluationReport]) -> None:
    values = {name: {run: report.metrics[name].value for run, report in reports.items()} for name in _WITHOUT_WEIGHTS}
    true = {name: reports["same"].metrics[name].true_value for name in _WITHOUT_WEIGHTS}
    for name, found in values.items():
        print(name, found, true[name])

    # A video against itself.
    perfect = {"ssim": 1, "lmd_mouth": 0, "lmd_face": 0, "mouth_correlation": 1, "mouth_lag": 0, "upper_face_ssim": 1}
    for name, value in perfect.items():
        assert values[name]["same"] == pytest.approx(value, abs=1e-6), name
    assert values["psnr"]["same"] is None  # equal frames have none
    for name in ("blinks", "head_pose", "expression", "flicker", "drift_colour", "drift_sharpness"):
        assert values[name]["same"] == true[name]

    # Blurred: the picture is worse, the motion is still there.
    assert values["ssim"]["blurred"] < 0.95
    assert values["psnr"]["blurred"] < 35
    assert values["upper_face_ssim"]["blurred"] < 0.95
    assert values["flicker"]["blurred"] < 0.8 * true["flicker"]
    assert values["mouth_correlation"]["blurred"] > 0.7
    assert values["mouth_lag"]["blurred"] == 0
    assert 0 < values["lmd_mouth"]["blurred"] < values["lmd_mouth"]["late"]

    # Late: the same pictures at another time.
    assert values["mouth_lag"]["late"] == pytest.approx(_DELAY_FRAMES / FPS)
    assert values["mouth_correlation"]["late"] < 0.7
    assert values["mouth_best_correlation"]["late"] > 0.95
    assert values["lmd_face"]["late"] > 0.5
    assert values["head_pose"]["late"] == pytest.approx(true["head_pose"], rel=0.3)
    assert values["expression"]["late"] == pytest.approx(true["expression"], rel=0.3)

    # Frozen: a sharp picture of the right person that does nothing.
    assert values["mouth_correlation"]["frozen"] == 0
    assert values["lmd_mouth"]["frozen"] > values["lmd_mouth"]["blurred"]
    assert values["psnr"]["frozen"] < values["psnr"]["late"] + 3
    assert values["blinks"]["frozen"] == 0
    for name in ("head_pose", "expression", "flicker"):
        assert values[name]["frozen"] < 0.2 * true[name], name
    assert values["drift_colour"]["frozen"] < true["drift_colour"]
    assert values["drift_sharpness"]["frozen"] == pytest.approx(1, abs=0.05)


def _new(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
