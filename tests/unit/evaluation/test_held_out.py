"""Test clips of prepared datasets, of published lists and of plain folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from portraitanim.data.preparation.identity_split import held_out_identities
from portraitanim.data.records import read_manifest, write_manifest
from portraitanim.errors import InputError
from portraitanim.evaluation.clip_list import ClipList
from portraitanim.evaluation.held_out import listed_test_clips, prepared_clips
from portraitanim.media.video import iter_video, probe_video
from tests.listed_videos import write_celebv, write_hdtf, write_video
from tests.small_dataset import write_dataset

_NAMES = {f"Radio{number}": "0:00-0:01 0:05-0:09" for number in range(8)}
_HELD_OUT = sorted(held_out_identities((f"RD_{name}" for name in _NAMES), 0.5, 3))
_FACE_BOX = "80 160 0 160"  # x w y h: the picture's right part


@pytest.fixture(scope="module")
def hdtf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of eight videos; on disk are one that is held out, a damaged one that is, and one for training."""
    root = tmp_path_factory.mktemp("hdtf")
    write_hdtf(root / "HDTF_dataset", _NAMES, _FACE_BOX)
    trained = next(name for name in _NAMES if f"RD_{name}" not in _HELD_OUT)
    write_video(root / "videos" / f"{trained}.mp4")
    write_video(root / "videos" / f"{_HELD_OUT[0].removeprefix('RD_')}.mp4")
    (root / "videos" / f"{_HELD_OUT[1].removeprefix('RD_')}.mp4").write_bytes(b"no video" * 50)
    return root


def test_clips_of_held_out_people_are_cut_and_the_coverage_is_told(hdtf: Path, tmp_path: Path) -> None:
    found = listed_test_clips(hdtf, "hdtf", tmp_path / "cut", test_share=0.5, split_seed=3)
    (clip,) = found.clips
    assert clip.name == f"{_HELD_OUT[0]}_000-0000"
    info = probe_video(clip.video)
    assert (info.width, info.height) == (512, 512)
    assert clip.seconds == pytest.approx(1.0, abs=0.1)
    assert clip.audio is not None
    assert found.clip_list == ClipList(
        dataset="hdtf",
        test_share=0.5,
        split_seed=3,
        num_listed=8,
        num_found=4,
        num_used=1,
        num_clips=1,
        fingerprint=found.clip_list.fingerprint,
    )
    assert any(f"{_HELD_OUT[1]}_000 gives no clip" in note for note in found.notes)
    # The published box is the right part of the picture: nothing of the grey rest is in the crop.
    first = next(iter_video(clip.video)).image
    assert first[:, :, :40].std() > 10


def test_who_is_held_out_does_not_depend_on_what_is_on_disk(hdtf: Path, tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    video = f"{_HELD_OUT[0].removeprefix('RD_')}.mp4"
    (tmp_path / "some" / video).write_bytes((hdtf / "videos" / video).read_bytes())
    lists = hdtf / "HDTF_dataset"
    options = {"annotations": lists, "test_share": 0.5, "split_seed": 3}
    one = listed_test_clips(tmp_path / "some", "hdtf", tmp_path / "one", **options)
    all_of_it = listed_test_clips(hdtf, "hdtf", tmp_path / "all", **options)
    assert one.clip_list.fingerprint == all_of_it.clip_list.fingerprint
    assert one.clip_list.num_found < all_of_it.clip_list.num_found
    with pytest.raises(InputError, match=r"None of the \d+ test clips of hdtf \(of 16 listed, split seed 4\)"):
        listed_test_clips(tmp_path / "some", "hdtf", tmp_path / "none", annotations=lists, split_seed=4)


def test_cut_clips_are_a_prepared_dataset_that_other_weights_can_be_held_against(hdtf: Path, tmp_path: Path) -> None:
    cut = listed_test_clips(hdtf, "hdtf", tmp_path, test_share=0.5, split_seed=3)
    before = cut.clips[0].video.stat().st_mtime_ns
    again = prepared_clips(tmp_path, dataset="hdtf")
    assert again.clips == cut.clips
    assert again.clip_list.fingerprint == cut.clip_list.fingerprint
    assert {record.split for record in read_manifest(tmp_path)} == {"test"}
    listed_test_clips(hdtf, "hdtf", tmp_path, test_share=0.5, split_seed=3)
    assert cut.clips[0].video.stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"prepared from hdtf/RD, not from celebv"):
        prepared_clips(tmp_path, dataset="celebv")


def test_celebv_is_found_by_its_json_and_its_ids(tmp_path: Path) -> None:
    ids = [f"video-id_{number:02d}" for number in range(4)]
    box = {"left": 0.35, "right": 1.0, "top": 0.0, "bottom": 1.0}
    write_celebv(tmp_path / "celebvhq_info.json", ids, box)
    for name in ids[:2]:
        write_video(tmp_path / "raw" / f"Some title [{name}].mp4")
    found = listed_test_clips(tmp_path, "celebv", tmp_path / "cut", test_share=1.0)
    assert (found.clip_list.num_listed, found.clip_list.num_found, found.clip_list.num_clips) == (4, 2, 2)
    assert [clip.name for clip in found.clips] == ["video-id_00_0-0000", "video-id_01_0-0000"]
    write_celebv(tmp_path / "celebvtext_info.json", ids, box)
    with pytest.raises(InputError, match="Choose one with --annotations"):
        listed_test_clips(tmp_path, "celebv", tmp_path / "cut")


def test_all_videos_of_a_plain_folder_are_taken_one_clip_of_each_first(tmp_path: Path) -> None:
    for name in "ab":
        write_video(tmp_path / "wild" / f"{name}.mp4")
    # The dataset lies inside the folder, and is not taken for more videos.
    found = listed_test_clips(tmp_path / "wild", "wild", tmp_path / "wild" / "cut")
    assert [clip.name for clip in found.clips] == ["a-0000", "b-0000"]
    assert found.clip_list.test_share == 1.0
    one = listed_test_clips(tmp_path / "wild", "wild", tmp_path / "wild" / "cut", max_clips=1)
    assert [clip.name for clip in one.clips] == ["a-0000"]
    assert (one.clip_list.num_found, one.clip_list.num_used) == (2, 1)
    assert one.clip_list.fingerprint != found.clip_list.fingerprint


def test_datasets_without_a_list_of_sources_are_named_as_such(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    clip_list = prepared_clips(tmp_path).clip_list
    assert clip_list.dataset == "a prepared dataset"
    assert (clip_list.num_listed, clip_list.num_clips, clip_list.split_seed) == (1, 1, None)
    assert ClipList.from_dict(json.loads(json.dumps(clip_list.to_dict()))) == clip_list


def test_clips_of_a_person_who_was_trained_on_are_marked(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    assert prepared_clips(tmp_path).notes == ()
    write_manifest(tmp_path, [replace(record, identity="anna") for record in read_manifest(tmp_path)])
    (note,) = prepared_clips(tmp_path).notes
    assert "the same person" in note


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("vox", {}, "hdtf, celebv, wild"),
        ("hdtf", {}, r"RD_annotion_time\.txt.*--annotations"),
        ("celebv", {}, r"celebvhq_info\.json or celebvtext_info\.json"),
        ("celebv", {"annotations": Path("absent.json")}, "cannot be read"),
        ("wild", {"annotations": Path("x")}, "no annotations"),
        ("wild", {"test_share": 0.0}, "--test-share"),
        ("wild", {}, "gives no clip"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, dataset: str, options: dict, message: str) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match=message):
        listed_test_clips(tmp_path / "videos", dataset, tmp_path / "cut", **options)


def test_a_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        listed_test_clips(tmp_path / "absent", "wild", tmp_path / "cut")
