from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from portraitanim.data.records import read_manifest, write_manifest
from portraitanim.errors import InputError
from portraitanim.media.image import load_image
from portraitanim.training.trainer import train
from portraitanim.training.validation import best_correlation
from tests.unit.training.recipes import small_dataset, small_recipe


def test_correlation_is_taken_at_the_best_small_lag() -> None:
    true = np.sin(np.arange(40) * 0.7)
    assert best_correlation(true, np.roll(true, 2)) == pytest.approx(1.0)
    assert best_correlation(true, np.roll(true, -1)) == pytest.approx(1.0)
    assert best_correlation(true, np.roll(true, 4)) < 0.9
    assert best_correlation(true, np.zeros(40)) is None
    assert best_correlation(true, np.where(np.arange(40) == 3, np.nan, true)) is None


def test_test_clips_are_animated_and_measured(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", "tiny")
    first, *others = read_manifest(data)
    write_manifest(data, [replace(first, split="test"), *others])
    changes = {"validation": {"every_steps": 2, "num_clips": 1, "num_frames": 8}}
    train(small_recipe("tiny", data, **changes), tmp_path / "run", device="cpu")
    sheets = sorted(path.name for path in (tmp_path / "run" / "validation").iterdir())
    assert sheets == ["step-0000002.png", "step-0000004.png"]
    assert load_image(tmp_path / "run" / "validation" / sheets[0]).shape == (3, 2 * 32, 8 * 32)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "validation_psnr_db" in line]
    assert [line["step"] for line in measured] == [2, 4]
    # These pictures hold no face, and networks that learned nothing make none.
    assert measured[0]["validation_face_found"] == 0
    assert 0 < measured[0]["validation_psnr_db"] < 40


def test_validation_without_test_clips_is_refused_before_training(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", "tiny")
    with pytest.raises(InputError, match=r"split 'test'.*run it again, with more video.*validation\.every_steps=0"):
        train(small_recipe("tiny", data, validation={"every_steps": 2}), tmp_path / "run", device="cpu")
