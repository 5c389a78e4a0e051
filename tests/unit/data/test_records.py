from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from portraitanim.data.records import ClipRecord, read_manifest, write_manifest
from portraitanim.errors import InputError

RECORD = ClipRecord(
    clip_id="walden-0001",
    identity="Wäld",
    split="train",
    video="clips/walden-0001/video.mp4",
    face="clips/walden-0001/face.safetensors",
    audio_states={"log-mel": "clips/walden-0001/audio-log-mel.safetensors"},
    num_frames=50,
    fps=25.0,
    size_px=256,
    scores={"yaw_degrees": 12.5},
)


def test_manifest_reads_back_sorted(tmp_path: Path) -> None:
    second = replace(RECORD, clip_id="another")
    write_manifest(tmp_path, [RECORD, second])
    assert list(read_manifest(tmp_path)) == [second, RECORD]


def test_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="portraitanim prep"):
        list(read_manifest(tmp_path))


@pytest.mark.parametrize("line", ["{", "[1]", '{"clip_id": "a"}', RECORD.to_json().replace('"fps"', '"rate"'), "null"])
def test_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(RECORD.to_json() + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        list(read_manifest(tmp_path))


@pytest.mark.parametrize("path", ["/etc/passwd", "clips/../../x.mp4"])
def test_paths_stay_in_the_dataset(path: str) -> None:
    with pytest.raises(InputError, match="leaves"):
        replace(RECORD, video=path)
