from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from portraitanim.data.preparation.celebv import celebv_clips
from portraitanim.data.preparation.coverage import ListedSource, coverage
from portraitanim.data.preparation.hdtf import HdtfClip, hdtf_clips, read_hdtf
from portraitanim.data.preparation.sources import AnnotatedBox, VideoIndex, file_name, folder_clips
from portraitanim.errors import InputError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


# --- HDTF -------------------------------------------------------------------------------------------------------


def hdtf_folder(root: Path, subset: str = "WDA", **files: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / f"{subset}_{name}.txt").write_text(text, encoding="utf-8", newline="")
    return root


def test_published_lines_of_hdtf(tmp_path: Path) -> None:
    folder = hdtf_folder(
        tmp_path / "HDTF_dataset",
        "RD",
        video_url="Radio11 https://www.youtube.com/watch?v=CPCoMyuBRM0&t=6s\nRadio24 https://youtu.be/abcdefghijk\n",
        resolution="Radio11.mp4 720\n",
        annotion_time="Radio11.mp4 00:30-01:00 01:30-02:30 \n",
        crop_wh="Radio11_1.mp4 483 390 0 390\n",
        crop_ratio="Radio11_0.mp4 1.2\nRadio11_1.mp4 1.3\n",
    )
    first, second = read_hdtf(folder)
    assert first == HdtfClip(
        subset="RD",
        video="Radio11",
        index=0,
        start_seconds=30,
        end_seconds=60,
        youtube_id="CPCoMyuBRM0",
        crop_xywh=None,
        height_px=720,
        zoom=1.2,
    )
    assert (second.start_seconds, second.end_seconds) == (90, 150)
    assert second.crop_xywh == (483, 0, 390, 390)  # published as x w y h


def test_video_behind_the_byte_order_mark_is_found_by_its_id(tmp_path: Path) -> None:
    folder = hdtf_folder(
        tmp_path / "HDTF_dataset",
        video_url="\ufeffCarolynMaloney2 https://www.youtube.com/watch?v=abcdefghijk\n",
        annotion_time="CarolynMaloney2.mp4 0:01-0:05\n",
    )
    index = VideoIndex.of([touch(tmp_path / "raw", "Some title [abcdefghijk].webm")])
    (clip,) = hdtf_clips(folder, index)
    assert clip.video == tmp_path / "raw" / "Some title [abcdefghijk].webm"
    assert clip.identity == "WDA_CarolynMaloney"  # politicians have several videos


def test_crop_is_scaled_to_the_height_of_the_file(tmp_path: Path) -> None:
    folder = hdtf_folder(
        tmp_path / "HDTF_dataset",
        annotion_time="A1.mp4 00:00-00:10\n",
        resolution="A1.mp4 720\n",
        crop_wh="A1_0.mp4 100 300 40 300\n",
    )
    (clip,) = hdtf_clips(folder, VideoIndex.of([touch(tmp_path / "raw", "WDA_A1.mp4")]))
    assert clip.box is not None
    assert clip.box.in_picture(360, 640) == (20, 170, 50, 200)
    assert clip.box.in_picture(720, 1280) == (40, 340, 100, 400)


def test_height_zero_falls_back_to_the_zoom(tmp_path: Path) -> None:
    folder = hdtf_folder(
        tmp_path / "HDTF_dataset",
        "WRA",
        annotion_time="KevinMcCarthy1.mp4 00:00-00:10\n",
        resolution="KevinMcCarthy1.mp4 0\n",
        crop_wh="KevinMcCarthy1_0.mp4 100 300 40 300\n",
        crop_ratio="KevinMcCarthy1_0.mp4 1.4\n",
    )
    (clip,) = hdtf_clips(folder, VideoIndex.of([touch(tmp_path / "raw", "KevinMcCarthy1.mp4")]))
    assert clip.box is None
    assert clip.face_zoom == 1.4


@pytest.mark.parametrize("name", ["Radio11_1.mp4", "RD_Radio11_001.mp4"])
def test_clips_that_were_cut_already_are_taken_whole(tmp_path: Path, name: str) -> None:
    folder = hdtf_folder(tmp_path / "HDTF_dataset", "RD", annotion_time="Radio11.mp4 00:30-01:00 01:30-02:30\n")
    missing, found = hdtf_clips(folder, VideoIndex.of([touch(tmp_path / "raw", name)]))
    assert missing.video is None
    assert (found.path, found.start_seconds, found.end_seconds, found.box) == (name, 0.0, None, None)
    (row,) = coverage([ListedSource.of(missing), ListedSource.of(found)], [])
    assert (row.dataset, row.num_listed, row.num_found, row.num_kept) == ("hdtf/RD", 2, 1, 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [("annotion_time", "A.mp4 01:00-00:30\n"), ("annotion_time", "A.mp4 soon\n"), ("crop_wh", "A_0.mp4 1 2 3\n")],
)
def test_line_of_another_form_is_named(tmp_path: Path, name: str, text: str) -> None:
    files = {"annotion_time": "A.mp4 00:00-00:10\n", name: text}
    with pytest.raises(InputError, match=rf"WDA_{name}\.txt, line 1"):
        read_hdtf(hdtf_folder(tmp_path / "HDTF_dataset", **files))


def test_folder_without_annotations_says_which_one_is_meant(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="HDTF_dataset"):
        read_hdtf(tmp_path)


names = st.from_regex(r"[A-Z][A-Za-z_]{0,8}[0-9]{0,2}", fullmatch=True)
times = st.lists(st.integers(0, 5999), min_size=2, max_size=8, unique=True).map(sorted)


@settings(max_examples=30)
@given(
    rows=st.dictionaries(names, times, min_size=1, max_size=6),
    bom=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_any_list_of_times_reads_back(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, bom: bool, ending: str
) -> None:
    pairs = {name: list(zip(values[::2], values[1::2], strict=False)) for name, values in rows.items()}
    lines = [
        f"{name}.mp4 " + " ".join(f"{a // 60:02d}:{a % 60:02d}-{b // 60:02d}:{b % 60:02d}" for a, b in spans) + " "
        for name, spans in pairs.items()
    ]
    folder = tmp_path_factory.mktemp("hdtf")
    hdtf_folder(folder, annotion_time=("\ufeff" if bom else "") + ending.join([*lines, ""]))
    read = [(clip.video, clip.index, clip.start_seconds, clip.end_seconds) for clip in read_hdtf(folder)]
    assert read == [(name, i, a, b) for name, spans in pairs.items() for i, (a, b) in enumerate(spans)]


# --- CelebV -----------------------------------------------------------------------------------------------------


def celebv_file(path: Path, clips: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"meta_info": {}, "clips": clips}), encoding="utf-8")
    return path


def celebv_clip(video: str, start: float, end: float, *edges: float, names: str = "sec") -> dict[str, Any]:
    return {
        "ytb_id": video,
        "duration": {f"start_{names}": start, f"end_{names}": end},
        "bbox": dict(zip(("top", "bottom", "left", "right"), edges, strict=True)),
    }


def test_celebv_hq_is_known_by_its_fractions_and_squared(tmp_path: Path) -> None:
    clip = celebv_clip("M2Ohb0FAaJU", 81.62, 86.17, 0.0, 0.8815, 0.1964, 0.6922)
    path = celebv_file(tmp_path / "any_name.json", {"M2Ohb0FAaJU_1": clip})
    (found,) = celebv_clips(path, VideoIndex.of([touch(tmp_path / "raw", "M2Ohb0FAaJU.mp4")]))
    assert (found.dataset, found.identity, found.name) == ("celebv-hq", "M2Ohb0FAaJU", "M2Ohb0FAaJU_1")
    assert (found.start_seconds, found.end_seconds) == (81.62, 86.17)
    assert found.box is not None
    top, bottom, left, right = found.box.in_picture(720, 1280)
    # 0..0.9015 of 720 rows, 0.1764..0.7122 of 1280 columns, and the square of 2 * (649 // 2) in the middle.
    assert (top, bottom) == (0, 648)
    assert (left + right) // 2 == (226 + 912) // 2
    assert right - left == 648


def test_celebv_text_is_known_by_its_pixels_and_its_box_is_kept(tmp_path: Path) -> None:
    clip = celebv_clip("a_b-c_d-e_f", 1, 5, 0, 937, 849, 1872, names="frame")
    path = celebv_file(tmp_path / "celebvhq_info.json", {"a_b-c_d-e_f_0_3": clip})
    (found,) = celebv_clips(path, VideoIndex.of([touch(tmp_path / "raw", "deep/a_b-c_d-e_f.mkv")]))
    assert (found.dataset, found.path) == ("celebv-text", "deep/a_b-c_d-e_f.mkv")
    assert (found.start_seconds, found.end_seconds) == (1, 5)  # named frames, but seconds
    assert found.box is not None
    assert found.box.in_picture(1080, 1920) == (0, 937, 849, 1872)
    with pytest.raises(InputError, match="resolution that was annotated"):
        found.box.in_picture(720, 1280)


@pytest.mark.parametrize(
    "damage",
    [
        {"bbox": {"top": 0}},
        {"duration": {"start_sec": 1}},
        {"ytb_id": None},
        {"duration": {"start_sec": 5, "end_sec": 1}},
    ],
)
def test_damaged_celebv_clip_is_named(tmp_path: Path, damage: dict[str, Any]) -> None:
    clip = {**celebv_clip("M2Ohb0FAaJU", 1, 2, 0.1, 0.2, 0.3, 0.4), **damage}
    with pytest.raises(InputError, match="the_key"):
        celebv_clips(celebv_file(tmp_path / "x.json", {"the_key": clip}), VideoIndex.of([tmp_path]))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"clips": {}}', '{"clips": {"a": 1}}'])
def test_other_json_is_not_taken_for_celebv(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        celebv_clips(tmp_path / "x.json", VideoIndex.of([tmp_path]))


shares = st.floats(0, 1, allow_nan=False)


@given(
    x=st.tuples(shares, shares),
    y=st.tuples(shares, shares),
    size=st.tuples(st.integers(64, 2200), st.integers(64, 4000)),
)
def test_annotated_square_lies_inside_any_picture(x: Any, y: Any, size: tuple[int, int]) -> None:
    (left, right), (top, bottom) = sorted(x), sorted(y)
    assume(right - left > 0.05 and bottom - top > 0.05)
    box = AnnotatedBox(
        left=left, right=right, top=top, bottom=bottom, unit="fraction", margin=0.02, is_squared=True
    ).in_picture(*size)
    assert 0 <= box.top < box.bottom <= size[0]
    assert 0 <= box.left < box.right <= size[1]
    assert box.bottom - box.top == box.right - box.left


# --- folders ----------------------------------------------------------------------------------------------------


def test_folder_is_searched_without_hidden_files_and_the_dataset_itself(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b/c.MOV", "b/notes.txt", "b/._c.mov", ".trash/d.mp4", "out/clips/a-0000/video.mp4")
    clips = folder_clips(VideoIndex.of([tmp_path], exclude=tmp_path / "out"))
    assert [(clip.name, clip.path, clip.identity) for clip in clips] == [
        ("a", "a.mp4", "a.mp4"),
        ("b_c", "b/c.MOV", "b/c.MOV"),
    ]


def test_names_that_collide_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path / "one", "a.mp4", "a.mov", "A b.mp4", "a_b.mp4", "x.mp4")
    touch(tmp_path / "two", "x.mp4")
    clips = folder_clips(VideoIndex.of([tmp_path / "one", tmp_path / "two"]))
    folded = [clip.name.lower() for clip in clips]
    assert len(set(folded)) == len(clips) == 6


def test_a_named_file_may_have_any_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "clip.bin")
    assert [clip.path for clip in folder_clips(VideoIndex.of([tmp_path / "clip.bin"]))] == ["clip.bin"]


def test_no_videos_and_no_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No videos found"):
        folder_clips(VideoIndex.of([tmp_path]))
    with pytest.raises(InputError, match="does not exist"):
        VideoIndex.of([tmp_path / "absent"])


@given(st.text(min_size=1))
def test_names_are_fit_for_any_file_system(text: str) -> None:
    name = file_name(text)
    assert 0 < len(name) <= 100
    assert all(c.isascii() and (c.isalnum() or c in "_-") for c in name)
