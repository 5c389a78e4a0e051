from __future__ import annotations

from pathlib import Path

import pytest
import torch

from portraitanim.errors import InputError
from portraitanim.pipelines.clip_folder import ClipFolder, work_folder

JOB = {"inputs": "a", "options": {"parts": ["eyes"]}}


def test_folder_that_no_run_has_made_is_not_deleted(tmp_path: Path) -> None:
    folder = work_folder(tmp_path / "talk")
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.txt there does not come from"):
        ClipFolder(folder, JOB).open(resume=False)
    assert (folder / "thesis.txt").is_file()


def test_what_a_killed_run_left_is_swept_away(tmp_path: Path) -> None:
    folder = work_folder(tmp_path / "talk.mp4")
    folder.mkdir()
    for name in ("job.partial.json", "clip-000000.partial.safetensors", "clip-000000.safetensors", "step.safetensors"):
        (folder / name).write_bytes(b"x")
    assert ClipFolder(folder, JOB).open(resume=False) == 0
    assert not folder.exists()


def test_damaged_clip_is_made_again(tmp_path: Path) -> None:
    store = ClipFolder(work_folder(tmp_path / "talk.mp4"), JOB)
    store.open(resume=False)
    store.save(0, torch.ones(2), None)
    clip = next(store.folder.glob("clip-*"))
    clip.write_bytes(clip.read_bytes()[:-3])
    assert ClipFolder(store.folder, JOB).open(resume=True) == 1
    assert store.load(0) is None
