"""What is kept of portraits: the same as computed anew, bounded, and never a reason to fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from portraitanim.face.detection import DetectedFace, FaceSearch
from portraitanim.face.kept_search import search_from_tensors, search_to_tensors
from portraitanim.pipelines.feature_cache import FeatureCache, PortraitMemory, cache_folder, content_key
from tests.small_networks import conditioning, small_pipeline


def value(number: float, size: int = 1000) -> dict[str, Tensor]:
    return {"x": torch.full((size,), float(number))}


def test_second_time_is_read_and_not_computed(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    first = cache.remembered("key", lambda: value(1.5))
    again = cache.remembered("key", lambda: pytest.fail("computed again"))
    assert torch.equal(first["x"], again["x"])
    assert not list(tmp_path.glob("*partial*"))


def test_damaged_file_is_computed_anew(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.remembered("key", lambda: value(1))
    (tmp_path / "key.safetensors").write_bytes(b"cut off")
    assert cache.remembered("key", lambda: value(2))["x"][0] == 2
    assert cache.remembered("key", lambda: value(3))["x"][0] == 2


def test_file_whose_time_cannot_be_set_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path)
    cache.remembered("key", lambda: value(1))

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    assert cache.remembered("key", lambda: pytest.fail("computed again"))["x"][0] == 1


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, max_bytes=10_000)
    for age, key in ((300, "a"), (200, "b")):
        cache.remembered(key, lambda: value(0))
        moment = (tmp_path / f"{key}.safetensors").stat().st_mtime - age
        os.utime(tmp_path / f"{key}.safetensors", (moment, moment))
    cache.remembered("a", lambda: value(0))  # used again
    cache.remembered("c", lambda: value(0))
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "c"}


def test_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    assert FeatureCache(tmp_path / "file").remembered("key", lambda: value(4))["x"][0] == 4
    assert "Nothing is kept" in caplog.text


def test_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    FeatureCache(tmp_path / "own").remembered("key", lambda: value(1))
    assert (tmp_path / "own").stat().st_mode & 0o077 == 0


def test_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PORTRAITANIM_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", 1), ("a", 2)),
        (("a", "b"), ("ab",)),
        ((torch.zeros(2, 3),), (torch.zeros(3, 2),)),
        ((torch.zeros(2),), (torch.zeros(2, dtype=torch.bfloat16),)),
        ((torch.zeros(2),), (torch.tensor([0.0, 1e-30]),)),
        ((np.zeros(2, np.uint8),), (np.ones(2, np.uint8),)),
        ((None,), (0,)),
    ],
)
def test_keys_differ_where_anything_differs(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert content_key(*one) != content_key(*other)
    assert content_key(*one) == content_key(*one)


@pytest.mark.parametrize("system", ["hallo", "echomimic", "tiny"])
def test_remembered_portrait_makes_the_same_video(system: str, tmp_path: Path) -> None:
    pipe, given = small_pipeline(system), conditioning(system, 4)
    calls: list[int] = []
    pipe.reference_unet.register_forward_hook(lambda module, inputs, output: calls.append(1))

    def video(memory: PortraitMemory | None) -> Tensor:
        calls.clear()
        generator = torch.Generator().manual_seed(0)
        return torch.cat(list(pipe.stream(given, generator=generator, memory=memory)), dim=1)

    plain = video(None)
    num_calls = len(calls)
    memory = PortraitMemory(FeatureCache(tmp_path), "weights")
    assert torch.equal(video(memory), plain)
    assert len(calls) == num_calls
    assert torch.equal(video(memory), plain)
    assert len(calls) == num_calls - 1
    video(PortraitMemory(FeatureCache(tmp_path), "other weights"))
    assert len(calls) == num_calls


@pytest.mark.parametrize("num_faces", [0, 1, 2])
def test_kept_search_is_the_search(num_faces: int) -> None:
    generator = np.random.default_rng(0)
    faces = tuple(
        DetectedFace(
            points=generator.standard_normal((478, 3)).astype(np.float32),
            score=float(generator.random()),
            presence=float(generator.random()),
            blendshapes=generator.random(52).astype(np.float32) if number else None,
        )
        for number in range(num_faces)
    )
    search = FaceSearch(faces=faces, best_rejected_score=0.31, min_score=0.5, image_size=(640, 480), hint="Tilt ü")
    kept = search_from_tensors(search_to_tensors(search))
    assert (kept.best_rejected_score, kept.min_score, kept.image_size, kept.hint) == (0.31, 0.5, (640, 480), "Tilt ü")
    for ours, theirs in zip(kept.faces, faces, strict=True):
        assert (ours.score, ours.presence) == (theirs.score, theirs.presence)
        assert np.array_equal(ours.points, theirs.points)
        assert (ours.blendshapes is None) == (theirs.blendshapes is None)
        assert ours.blendshapes is None or np.array_equal(ours.blendshapes, theirs.blendshapes)
