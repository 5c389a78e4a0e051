"""``portraitanim prep`` as a user meets it: output, messages and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from portraitanim.audio.encoders import load_audio_encoder
from portraitanim.data.records import read_manifest
from tests.audio_checkpoints import xlsr
from tests.cli.outcome import Cli
from tests.small_weights import small_weights
from tests.unit.data.preparation.made_videos import SPEAKER, needs_media, save, sound_of, talking

LOOSE = ("--size", "128", "--workers", "0", "--set", "filters.min_face_px=60", "--set", "filters.min_seconds=1")
LOOSE = (*LOOSE, "--set", "filters.min_sync_correlation=null")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    save(folder / "RD_Radio1_000.mp4", talking(SPEAKER, 125)[:30], sound_of(SPEAKER, 30))
    return folder


@needs_media
def test_folder_becomes_a_dataset_with_states_and_report(cli: Cli, raw: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    small_weights(tmp_path / "weights")
    stored = ("--audio-encoder", "log-mel", "--latents", tmp_path / "weights")
    done = cli("prep", raw, "-o", tmp_path / "d", *LOOSE, *stored, "--report", page)
    assert (done.code, done.err) == (0, "Scanning videos …\nMeasuring clips …\nEncoding clips …\n")
    assert "1 of 1 clips kept" in done.out
    assert "held out for tests: nothing, since fewer than two clips were kept. Prepare more video\n" in done.out
    assert f"dataset {tmp_path / 'd'}" in done.out
    assert page.read_text().startswith("<!doctype html>")
    (record,) = read_manifest(tmp_path / "d")
    assert list(record.audio_states) == ["log-mel"]
    assert record.latents == "clips/RD_Radio1_000-0000/latents.safetensors"
    assert all((tmp_path / "d" / path).is_file() for path in record.files())


@needs_media
def test_published_list_has_a_coverage_and_shards_merge(cli: Cli, raw: Path, tmp_path: Path) -> None:
    lists = tmp_path / "HDTF_dataset"
    lists.mkdir()
    (lists / "RD_annotion_time.txt").write_text("Radio1.mp4 00:00-00:10 00:20-00:30\nRadio2.mp4 00:00-00:10\n")
    words = ("prep", raw, "-o", tmp_path / "d", *LOOSE, "--dataset", "hdtf", "--annotations", lists)
    first = cli(*words, "--shard", "1/2")
    second = cli(*words, "--shard", "2/2", "--json")
    assert (first.code, second.code) == (0, 0)
    assert "--merge" in first.out
    assert json.loads(second.out) == {"root": str(tmp_path / "d"), "shard": "2/2"}
    merged = cli("prep", "--merge", "-o", tmp_path / "d", "--json")
    report = json.loads(merged.out)
    (row,) = report["coverage"]
    assert (row["dataset"], row["num_listed"], row["num_found"], row["num_kept"]) == ("hdtf/RD", 3, 1, 1)
    assert report["fingerprint"] == json.loads((tmp_path / "d" / "dataset.json").read_text())["fingerprint"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Name at least one folder"),
        (("RAW", "--dataset", "hdtf"), "--annotations and --dataset"),
        (("RAW", "--annotations", "x"), "--annotations and --dataset"),
        (("RAW", "--dataset", "vox"), "folder, hdtf, celebv"),
        (("RAW", "--merge"), "--merge reads no videos"),
        (("--merge", "--size", "256"), "settings of the shards"),
        (("--merge", "--latents", "tiny"), "--latents"),
        (("--merge",), "no finished shards"),
        (("RAW", "--shard", "3/2"), "I from 1 to N"),
        (("RAW", "--shard", "1/2", "--report", "x.html"), "--merge"),
        (("RAW", "--set", "filters.max_yaw=3"), "max_yaw_degrees"),
        (("RAW", "--size", "100"), "multiple of 8"),
        (("RAW", "--audio-encoder", "wav2vec"), "wav2vec2-base-960h"),
        (("RAW",), "No videos found"),
        (("absent",), "does not exist"),
    ],
)
def test_usage_that_makes_no_sense_is_one_line_and_exit_code_2(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    done = cli("prep", *(tmp_path / "empty" if word == "RAW" else word for word in words), "-o", tmp_path / "d")
    assert done.code == 2
    assert message in done.err
    assert done.err.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--audio-encoder", "whisper-tiny"), "portraitanim weights pull whisper-tiny"),
        (("--latents", "hallo"), "portraitanim weights pull hallo"),
        (("--latents", "."), "holds no autoencoder"),
        (("--syncnet",), "portraitanim weights pull syncnet-v2"),
        (("--separate-vocals",), "portraitanim weights pull kim-vocal-2"),
    ],
)
def test_missing_weights_are_named_before_any_video_is_read(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("PORTRAITANIM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    done = cli("prep", tmp_path, "-o", tmp_path / "d", *words)
    assert done.code == 4
    assert message in done.err
    assert not (tmp_path / "d").exists()


@needs_media
def test_states_of_a_checkpoint_are_stored_under_its_hash(cli: Cli, raw: Path, tmp_path: Path) -> None:
    folder = xlsr(tmp_path / "encoder")
    name = load_audio_encoder("wav2vec2", folder).encoder_name
    assert cli("prep", raw, "-o", tmp_path / "d", *LOOSE, "--audio-encoder", folder).code == 0
    (record,) = read_manifest(tmp_path / "d")
    assert record.audio_states == {name: f"clips/{record.clip_id}/audio-{name}.safetensors"}
    states = load_file(tmp_path / "d" / record.audio_states[name])["states"]
    assert states.shape == (record.num_frames, 3, 16)


def test_folder_without_a_checkpoint_is_refused_in_one_line(cli: Cli, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "empty", "There is no"), (tmp_path / "absent", "There is no")):
        done = cli("prep", raw, "-o", tmp_path / "d", "--audio-encoder", folder)
        assert (done.code, done.err.strip().count("\n")) == (4, 0)
        assert message in done.err
        assert "wav2vec2 or whisper" in done.err
