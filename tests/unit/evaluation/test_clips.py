"""Which video belongs to which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from portraitanim.errors import InputError
from portraitanim.evaluation.clips import content_hash, hash_of_list, pair_folders, read_pairs


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(name.encode())
    return path


def test_videos_pair_by_name_whatever_their_suffix(tmp_path: Path) -> None:
    ours = _folder(tmp_path / "ours", "b.mp4", "a.mov", "notes.txt", ".hidden.mp4")
    pairs, notes = pair_folders(ours, _folder(tmp_path / "true", "a.mp4", "b.mp4"))
    assert [(pair.name, pair.generated.name, pair.true.name) for pair in pairs] == [
        ("a", "a.mov", "a.mp4"),
        ("b", "b.mp4", "b.mp4"),
    ]
    assert not notes


def test_videos_without_a_partner_are_said(tmp_path: Path) -> None:
    pairs, notes = pair_folders(
        _folder(tmp_path / "ours", "a.mp4", "c.mp4"), _folder(tmp_path / "true", "a.mp4", "x.mp4", "y.mp4")
    )
    assert [pair.name for pair in pairs] == ["a"]
    assert "1 of" in notes[0]
    assert "c." in notes[0]
    assert "2 of" in notes[1]
    assert "x, y." in notes[1]


def test_two_files_are_one_pair(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "all", "made.mp4", "real.mp4")
    pairs, _ = pair_folders(folder / "made.mp4", folder / "real.mp4")
    assert [pair.name for pair in pairs] == ["made"]


@pytest.mark.parametrize(
    ("ours", "true", "message"),
    [
        (("a.mp4",), ("b.mp4",), "has the name of one"),
        ((), ("b.mp4",), "has no video"),
        (("a.mp4", "a.mov"), ("a.mp4",), "have one name"),
    ],
)
def test_folders_that_do_not_pair_are_refused(
    tmp_path: Path, ours: tuple[str, ...], true: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pair_folders(_folder(tmp_path / "ours", *ours), _folder(tmp_path / "true", *true))


def test_lists_are_read_from_csv_and_json_lines_beside_their_videos(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("\ufeffgenerated,true,audio\nours/a.mp4,true/a.mp4,a.wav\n", encoding="utf-8")
    (tmp_path / "pairs.jsonl").write_text(
        json.dumps({"generated": "/x/a.mp4", "true": "b.mp4", "name": "first"}) + "\n\n", encoding="utf-8"
    )
    (from_csv,) = read_pairs(tmp_path / "pairs.csv")
    (from_json,) = read_pairs(tmp_path / "pairs.jsonl")
    assert (from_csv.name, from_csv.generated, from_csv.audio) == ("a", tmp_path / "ours/a.mp4", tmp_path / "a.wav")
    assert (from_json.name, from_json.generated, from_json.audio) == ("first", Path("/x/a.mp4"), None)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pairs.csv", "a,b\n1,2\n", "entry 1: no generated and no true"),
        ("pairs.csv", "generated,true\n", "lists no pairs"),
        ("pairs.csv", "generated,true\na/x.mp4,1\nb/x.mp4,2\n", "1 clips twice, such as x"),
        ("pairs.jsonl", "{broken", "is no list of pairs"),
        ("pairs.jsonl", '["a"]', "is no list of pairs"),
        ("pairs.jsonl", '{"generated": "a", "true": "b", "name": "../up"}', "cannot name a clip"),
    ],
)
def test_damaged_lists_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / name)


def test_hash_of_a_list_sees_names_and_content_but_not_order(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "all", "a", "b")
    hashes = {name: content_hash(folder / name) for name in "ab"}
    assert hash_of_list(hashes) == hash_of_list(dict(reversed(hashes.items())))
    assert hash_of_list(hashes) != hash_of_list({"a": hashes["a"], "b": hashes["a"]})
    assert content_hash(folder / "none").startswith("unreadable")
