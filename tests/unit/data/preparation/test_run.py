"""Whole preparations of short videos: what is kept, and that kills, shards and new limits change nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file as save_network

from portraitanim.config.preparation import PreparationConfig, load_preparation
from portraitanim.config.schema import to_dict
from portraitanim.data.preparation import steps
from portraitanim.data.preparation.clip_judges import ClipJudges
from portraitanim.data.preparation.listing import DatasetSummary, Reject, read_rejects
from portraitanim.data.preparation.report import write_report
from portraitanim.data.preparation.run import merge_shards, prepare, stored_config
from portraitanim.data.preparation.shard import Shard
from portraitanim.data.preparation.sources import AnnotatedBox, SourceClip, VideoIndex, folder_clips
from portraitanim.data.preparation.state import only_run
from portraitanim.data.records import read_manifest
from portraitanim.errors import InputError, MediaError
from portraitanim.face.landmarks import FaceMesh
from portraitanim.media.audio import load_audio
from portraitanim.media.image import load_image
from portraitanim.media.video import iter_video, probe_video
from portraitanim.models.evaluators.syncnet import SyncNet
from tests.onnx_packs import write_vocal_separator
from tests.unit.data.preparation.made_videos import MEDIA, SPEAKER, make_bad_clips, needs_media, save, sound_of, talking

ROOT = Path(__file__).resolve().parents[4]
CONFIG = load_preparation(None, {"crop": {"size_px": 128}, "filters": {"min_face_px": 60.0}})
# Clips of a second: most limits are about more than that.
SHORT = load_preparation(
    None,
    {
        "crop": {"size_px": 128},
        "scenes": {"max_seconds": 1.0},
        "filters": {
            "min_face_px": 60.0,
            "min_seconds": 0.5,
            "min_speech_fraction": None,
            "min_sync_correlation": None,
        },
    },
)
LISTS = ("manifest.jsonl", "rejected.jsonl", "dataset.json")


def clips_of(folder: Path, output: Path | None = None) -> list[SourceClip]:
    return folder_clips(VideoIndex.of([folder], exclude=output))


def lists_of(root: Path) -> list[bytes]:
    return [(root / name).read_bytes() for name in LISTS]


@pytest.fixture(scope="module")
def bad_clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DatasetSummary, dict[str, str]]:
    if MEDIA is None:
        pytest.skip("shared/media is not beside this clone")
    raw, output = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("dataset")
    expected = make_bad_clips(raw)
    summary = prepare(clips_of(raw), output, CONFIG)
    assert summary is not None
    return output, summary, expected


@pytest.fixture(scope="module")
def short_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of two seconds, the last without sound."""
    if MEDIA is None:
        pytest.skip("shared/media is not beside this clone")
    raw = tmp_path_factory.mktemp("short")
    for number, name in enumerate(("one", "two", "mute")):
        frames = talking(SPEAKER, 125)[35 * number : 35 * number + 35]
        sound = sound_of(SPEAKER, 125)[35 * number * 640 :][: 35 * 640]
        save(raw / f"{name}.mp4", frames, sound if name != "mute" else None)
    return raw


@pytest.fixture(scope="module")
def unbroken(short_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    summary = prepare(clips_of(short_videos), output, SHORT)
    assert summary is not None
    assert (summary.num_candidates, summary.num_kept, summary.num_test_clips) == (6, 4, 2)
    return output


# --- networks that judge ----------------------------------------------------------------------------------------


@needs_media
def test_syncnet_judges_clips_that_keep_the_other_limits_where_its_weights_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "syncnet"
    weights.mkdir()
    save_network(SyncNet().state_dict(), weights / "model.safetensors")
    save(tmp_path / "raw" / "long.mp4", talking(SPEAKER, 125)[:72], sound_of(SPEAKER, 72))
    save(tmp_path / "raw" / "short.mp4", talking(SPEAKER, 125)[72:122], sound_of(SPEAKER, 122)[72 * 640 :])
    config = load_preparation(None, {**to_dict(SHORT), "scenes": {"max_seconds": 10.0}})
    prepare(clips_of(tmp_path / "raw"), tmp_path / "d", config, judges=ClipJudges(syncnet=weights))
    # Random weights see no agreement; a clip below 2.6 s is not asked.
    (record,) = read_manifest(tmp_path / "d")
    assert record.source["name"] == "short"
    assert "sync_confidence" not in record.scores
    (reject,) = read_rejects(tmp_path / "d")
    assert reject.reason == "sync_confidence"
    assert 0 < reject.scores["sync_confidence"] < 3
    looser = load_preparation(None, to_dict(config), {"filters": {"min_sync_confidence": 0.0}})
    prepare(clips_of(tmp_path / "raw"), tmp_path / "d", looser, judges=ClipJudges(syncnet=weights))
    scores = {record.source["name"]: record.scores for record in read_manifest(tmp_path / "d")}
    assert scores["long"]["sync_confidence"] == reject.scores["sync_confidence"]
    with pytest.raises(InputError, match=r"begun with the network syncnet.*weights pull syncnet-v2"):
        prepare(clips_of(tmp_path / "raw"), tmp_path / "d", config)


@needs_media
def test_speech_is_looked_for_in_the_voice_and_the_clip_keeps_its_sound(short_videos: Path, tmp_path: Path) -> None:
    (tmp_path / "separator").mkdir()
    write_vocal_separator(tmp_path / "separator" / "Kim_Vocal_2.onnx", "nothing")
    judges = ClipJudges(separator=tmp_path / "separator")
    one = [clip for clip in clips_of(short_videos) if clip.name == "one"]
    whole = load_preparation(None, to_dict(SHORT), {"filters": {"min_speech_fraction": 0.3}})
    prepare(one, tmp_path / "voice", whole, judges=judges)
    prepare(one, tmp_path / "all", whole)
    # A separator that leaves nothing leaves no speech; without it there is some.
    rejects = read_rejects(tmp_path / "voice")
    assert rejects
    assert all("speech_fraction" in reject.failed for reject in rejects)
    assert all(record.scores["speech_fraction"] > 0.3 for record in read_manifest(tmp_path / "all"))
    prepare(one, tmp_path / "voice", SHORT, judges=judges)
    (kept, *_), (plain, *_) = read_manifest(tmp_path / "voice"), read_manifest(tmp_path / "all")
    assert kept.sha256[kept.audio] == plain.sha256[plain.audio]
    with pytest.raises(InputError, match=r"begun without the network separator.*Leave --separate-vocals out"):
        prepare(one, tmp_path / "all", whole, judges=judges)


# --- what is kept -----------------------------------------------------------------------------------------------


def test_only_the_good_clip_is_kept_and_each_bad_one_says_why(
    bad_clips: tuple[Path, DatasetSummary, dict[str, str]],
) -> None:
    output, summary, expected = bad_clips
    rejects: dict[str, Reject] = {reject.source["name"]: reject for reject in read_rejects(output)}
    assert {record.source["name"] for record in read_manifest(output)} == {n for n, why in expected.items() if not why}
    assert {name: why for name, why in expected.items() if why and why not in rejects[name].failed} == {}
    assert (summary.num_kept, summary.num_candidates) == (1, len(expected) - 1)
    assert rejects["good_again"].message.startswith("shows what good-0000 shows")
    (row,) = summary.coverage
    assert (row.num_listed, row.num_found, row.num_used) == (len(expected), len(expected), 1)


def test_clip_holds_what_its_record_says(bad_clips: tuple[Path, DatasetSummary, dict[str, str]]) -> None:
    output, _, _ = bad_clips
    (record,) = read_manifest(output)
    assert {path: hashlib.sha256((output / path).read_bytes()).hexdigest() for path in record.files()} == record.sha256
    info = probe_video(output / record.video)
    assert (info.width, info.height, float(info.fps), info.num_frames) == (128, 128, 25.0, record.num_frames)
    assert not info.has_audio
    assert record.audio is not None
    sound = load_audio(output / record.audio)
    assert (sound.sample_rate_hz, sound.samples.shape) == (16000, (1, record.num_frames * 640))
    face = load_file(output / record.face)
    assert face["landmarks"].shape == (record.num_frames, 478, 3)
    assert face["landmarks"].dtype == np.float32
    assert face["masks"].shape == (3, 64, 64)
    assert record.identity == "good.mp4"


def test_landmarks_and_masks_lie_on_the_face_of_the_cropped_picture(
    bad_clips: tuple[Path, DatasetSummary, dict[str, str]],
) -> None:
    output, _, _ = bad_clips
    (record,) = read_manifest(output)
    face = load_file(output / record.face)
    with FaceMesh(thorough=False) as mesh:
        for number, frame in enumerate(iter_video(output / record.video)):
            if number % 40:
                continue
            seen = mesh.search(frame.image).faces[0].points
            error = np.linalg.norm((seen - face["landmarks"][number])[:, :2], axis=1).mean()
            assert error < 0.02 * 128
    mouth = (face["landmarks"][:, 13, :2].mean(axis=0) / 2).round().astype(int)
    lip = face["masks"][2].astype(int)
    assert lip[mouth[1], mouth[0]] > 0.9 * lip.max()


def test_sound_and_picture_of_a_clip_start_together(bad_clips: tuple[Path, DatasetSummary, dict[str, str]]) -> None:
    output, _, _ = bad_clips
    (record,) = read_manifest(output)
    own = load_audio(output / str(record.audio)).samples[0]
    source = sound_of(SPEAKER, 125)[: len(own)]
    lag = int(np.argmax(np.correlate(own[8000:24000], source[7000:25000], "valid"))) - 1000
    assert abs(lag) < 160  # a hundredth of a second; the source went through AAC


def test_report_is_one_page_with_thumbs_histograms_and_limits(
    bad_clips: tuple[Path, DatasetSummary, dict[str, str]], tmp_path: Path
) -> None:
    output, summary, expected = bad_clips
    page = write_report(output, CONFIG, summary, tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:image/jpeg)", page)
    assert page.count("<figure>") == len(expected)
    assert page.count("data:image/jpeg;base64,") == len(expected) - 1  # the damaged file has no picture
    measured = len(CONFIG.filters.__dataclass_fields__) - 1  # SyncNet is not installed
    assert page.count("<svg") == page.count('stroke="#c0392b"') == measured
    assert summary.fingerprint in page
    assert "no identity encoder" in page


# --- going on ---------------------------------------------------------------------------------------------------


def test_second_run_measures_nothing_and_writes_the_same(
    unbroken: Path, short_videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lists_of(unbroken)
    monkeypatch.setattr(steps, "measure_clip", None)
    prepare(clips_of(short_videos), unbroken, SHORT)
    assert lists_of(unbroken) == before


def test_killed_run_goes_on_and_writes_the_same(short_videos: Path, unbroken: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text((unbroken / "prep" / "settings.json").read_text())
    words = ["prep", str(short_videos), "--output", str(tmp_path / "out"), "--config", str(settings), "--workers", "1"]
    outcomes = tmp_path / "out" / "prep" / "outcomes"
    process = subprocess.Popen(
        [sys.executable, "-m", "portraitanim", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (outcomes.is_dir() and any(outcomes.glob("*.json"))):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        process.wait()
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    done = {path.name: path.stat().st_mtime_ns for path in outcomes.glob("*.json")}
    assert 0 < len(done) < len(list((unbroken / "prep" / "outcomes").glob("*.json")))
    time.sleep(1.5)  # the orphan ends itself within half a second
    prepare(clips_of(short_videos), tmp_path / "out", SHORT)
    assert {name: (outcomes / name).stat().st_mtime_ns for name in done} == done
    assert lists_of(tmp_path / "out") == lists_of(unbroken)
    clips = sorted(path.name for path in (tmp_path / "out" / "clips").iterdir())
    assert clips == sorted(record.clip_id for record in read_manifest(unbroken))


def test_shards_merge_to_what_one_machine_writes(short_videos: Path, unbroken: Path, tmp_path: Path) -> None:
    sources = clips_of(short_videos)
    assert prepare(sources, tmp_path, SHORT, shard=Shard(index=1, count=2)) is None
    with pytest.raises(InputError, match="shards 2 are not finished"):
        merge_shards(tmp_path)
    assert not (tmp_path / "manifest.jsonl").exists()
    prepare(sources, tmp_path, SHORT, shard=Shard(index=2, count=2))
    merge_shards(tmp_path)
    assert lists_of(tmp_path) == lists_of(unbroken)


def test_the_only_video_gives_its_last_clip_to_tests_in_shards_as_well(short_videos: Path, tmp_path: Path) -> None:
    sources = [clip for clip in clips_of(short_videos) if clip.name == "one"]
    summary = prepare(sources, tmp_path / "whole", SHORT)
    assert summary is not None
    assert (summary.num_test_clips, summary.held_out_are) == (1, "the last clips in time, since all are of one video")
    records = sorted(read_manifest(tmp_path / "whole"), key=lambda record: record.source["start_seconds"])
    assert [record.split for record in records] == ["train", "test"]
    # A video is one machine's; the others' shares are empty.
    for index in (1, 2):
        prepare(sources, tmp_path / "shards", SHORT, shard=Shard(index=index, count=2))
    merge_shards(tmp_path / "shards")
    assert lists_of(tmp_path / "shards") == lists_of(tmp_path / "whole")
    page = write_report(tmp_path / "whole", SHORT, summary, tmp_path / "report.html").read_text(encoding="utf-8")
    assert summary.held_out_are in page


def test_every_source_belongs_to_exactly_one_shard() -> None:
    names = [f"video-{number}" for number in range(200)]
    owners = [[shard for shard in range(1, 6) if Shard(index=shard, count=5).has(name)] for name in names]
    assert all(len(owner) == 1 for owner in owners)
    assert {owner[0] for owner in owners} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", ""])
def test_impossible_shards_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="shard is I/N"):
        Shard.parse(text)


# --- other limits, other settings -------------------------------------------------------------------------------


def with_filters(config: PreparationConfig, **filters: float | None) -> PreparationConfig:
    return load_preparation(None, to_dict(config), {"filters": filters})


def test_stricter_limits_drop_clips_without_measuring_and_looser_ones_bring_them_back(
    short_videos: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, before = clips_of(short_videos), lists_of(unbroken)
    strict = with_filters(SHORT, max_head_travel=0.0001)
    first = prepare(sources, tmp_path, strict)
    assert first is not None
    assert first.num_kept == 0
    assert not (tmp_path / "clips").exists()
    prepare(sources, tmp_path, SHORT)
    assert lists_of(tmp_path) == before
    monkeypatch.setattr(steps, "measure_clip", None)
    again = prepare(sources, tmp_path, strict)
    assert again is not None
    assert again.reasons == first.reasons


def test_other_sizes_are_not_mixed_into_a_dataset(short_videos: Path, unbroken: Path) -> None:
    with pytest.raises(InputError, match=r"other settings \(crop"):
        prepare(clips_of(short_videos), unbroken, load_preparation(None, {"crop": {"size_px": 256}}))
    assert stored_config(unbroken) == SHORT


def test_silent_videos_are_kept_where_sound_is_optional(short_videos: Path, tmp_path: Path) -> None:
    config = load_preparation(None, to_dict(SHORT), {"sound": "optional"})
    (source,) = [clip for clip in clips_of(short_videos) if clip.name == "mute"]
    prepare([source], tmp_path, config)
    records = list(read_manifest(tmp_path))
    assert records
    assert all(record.audio is None and "speech_fraction" not in record.scores for record in records)


def test_lost_sound_is_taken_from_the_video_again(short_videos: Path, unbroken: Path, tmp_path: Path) -> None:
    for path in (unbroken / "prep" / "sound").iterdir():
        path.unlink()
    before, clips = lists_of(unbroken), (unbroken / "clips").stat().st_mtime_ns
    prepare(clips_of(short_videos), unbroken, SHORT)
    assert lists_of(unbroken) == before
    assert (unbroken / "clips").stat().st_mtime_ns == clips
    assert any((unbroken / "prep" / "sound").iterdir())


def test_replaced_video_is_done_anew(short_videos: Path, tmp_path: Path) -> None:
    (source,) = [clip for clip in clips_of(short_videos) if clip.name == "one"]
    video = tmp_path / "raw" / "one.mp4"
    video.parent.mkdir()
    assert source.video is not None
    video.write_bytes(source.video.read_bytes())
    prepare(clips_of(video.parent), tmp_path / "out", SHORT)
    hashes = {record.source["sha256"] for record in read_manifest(tmp_path / "out")}
    save(video, talking(SPEAKER, 125)[60:90], sound_of(SPEAKER, 125)[60 * 640 : 90 * 640])
    prepare(clips_of(video.parent), tmp_path / "out", SHORT)
    assert not hashes & {record.source["sha256"] for record in read_manifest(tmp_path / "out")}


def test_unreadable_video_is_tried_again_when_it_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = save(tmp_path / "raw" / "video.mp4", np.full((25, 3, 64, 64), 90, np.uint8), None)
    whole, output = video.read_bytes(), tmp_path / "out"
    video.write_bytes(b"\0" * len(whole))
    os.utime(video, ns=(0, 1_000_000_000))

    def reasons() -> set[str]:
        prepare(clips_of(video.parent), output, SHORT)
        return {reject.reason for reject in read_rejects(output)}

    assert reasons() == {"unreadable"}
    with monkeypatch.context() as patch:
        patch.setattr(steps, "frames_of", None)
        assert reasons() == {"unreadable"}
        assert "NoneType" not in read_rejects(output)[0].message  # it was not tried again
    video.write_bytes(whole)
    os.utime(video, ns=(0, 2_000_000_000))
    assert reasons() == {"speech_fraction"}


def test_scans_of_versions_that_knew_no_time_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = save(tmp_path / "raw" / "video.mp4", np.full((25, 3, 64, 64), 90, np.uint8), None)
    prepare(clips_of(video.parent), tmp_path / "out", SHORT)
    scan = tmp_path / "out" / "prep" / "scans" / "video.json"
    values = json.loads(scan.read_text())
    del values["modified_ns"]
    scan.write_text(json.dumps(values))
    prepare(clips_of(video.parent), tmp_path / "out", SHORT)
    assert json.loads(scan.read_text()) == values


# --- what goes wrong --------------------------------------------------------------------------------------------


def test_full_disk_ends_the_run_and_is_not_the_clips_fault(
    short_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MediaError("Cannot write clip: the disk is full.") from OSError(28, "No space left on device")

    monkeypatch.setattr(steps, "write_clip", full)
    with pytest.raises(MediaError, match="disk is full"):
        prepare(clips_of(short_videos), tmp_path, SHORT)
    # Only what would have been dropped anyway has an outcome.
    assert {path.stem[:4] for path in (tmp_path / "prep" / "outcomes").glob("*.json")} <= {"mute"}


def test_any_error_of_one_clip_is_its_outcome(
    short_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug in a library")

    monkeypatch.setattr(steps, "measure_clip", broken)
    summary = prepare(clips_of(short_videos), tmp_path, SHORT)
    assert summary is not None
    assert summary.reasons == {"unreadable": summary.num_candidates}
    assert read_rejects(tmp_path)[0].message == "ValueError: a bug in a library"


def test_second_run_at_once_is_refused(short_videos: Path, tmp_path: Path) -> None:
    (tmp_path / "prep").mkdir()
    with only_run(tmp_path / "prep" / "run-1-of-1.lock"), pytest.raises(InputError, match="Another run"):
        prepare(clips_of(short_videos), tmp_path, SHORT)


def test_full_disk_under_the_sound_is_not_the_videos_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    save(tmp_path / "raw" / "video.mp4", np.full((25, 3, 64, 64), 90, np.uint8), noise)

    def full(self: soundfile.SoundFile, data: np.ndarray) -> None:
        raise soundfile.LibsndfileError(2)  # "System error.": all that libsndfile says of a full disk

    with monkeypatch.context() as patch:
        patch.setattr(soundfile.SoundFile, "write", full)
        with pytest.raises(MediaError, match="Is the disk full"):
            prepare(clips_of(tmp_path / "raw"), tmp_path / "dataset", SHORT)
    prepare(clips_of(tmp_path / "raw"), tmp_path / "dataset", SHORT)
    assert [reject.reason for reject in read_rejects(tmp_path / "dataset")] == ["face_tracked_fraction"]


def test_output_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    save(tmp_path / "raw" / "video.mp4", np.full((5, 3, 64, 64), 90, np.uint8), None)
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="Cannot write"):
        prepare(clips_of(tmp_path / "raw"), tmp_path / "file" / "dataset", SHORT)


def test_list_without_any_video_on_disk_is_an_error(tmp_path: Path) -> None:
    missing = SourceClip(name="a", dataset="hdtf/RD", identity="a", video=None, path="")
    with pytest.raises(InputError, match="None of the 1 listed clips"):
        prepare([missing], tmp_path, SHORT)


@needs_media
def test_annotated_times_and_box_decide_what_is_seen(tmp_path: Path) -> None:
    """Two people side by side; the annotation is about the right one, from the second second on."""
    assert MEDIA is not None
    frames = talking(SPEAKER, 125)[:75]
    other = np.repeat(load_image(MEDIA / "portraits" / "hallo_5.jpg")[None, :, :256, :256], 75, axis=0)
    video = save(tmp_path / "pair.mp4", np.concatenate([other, frames], axis=3), sound_of(SPEAKER, 75))
    box = AnnotatedBox(left=0.5, right=1.0, top=0.0, bottom=1.0, unit="fraction")
    source = SourceClip(
        name="right",
        dataset="celebv-hq",
        identity="x",
        video=video,
        path="pair.mp4",
        start_seconds=1.0,
        end_seconds=2.0,
        box=box,
    )
    prepare([source], tmp_path / "out", SHORT)
    (record,) = read_manifest(tmp_path / "out")
    assert (record.source["start_seconds"], record.num_frames) == (1.0, 25)
    assert record.scores["second_face_share"] == 0.0
    with FaceMesh(thorough=False) as mesh:
        wanted = mesh.search(frames[25]).faces[0].points[:, :2]
    face = load_file(tmp_path / "out" / record.face)["landmarks"][0, :, :2]
    crop = np.array(record.source["crop"]).reshape(2, 3)
    assert np.abs(wanted @ crop[:, :2].T + crop[:, 2] - face).mean() < 2.0


@pytest.mark.slow
@needs_media
def test_real_talking_videos_are_kept_and_dropped_as_seen_by_eye(tmp_path: Path) -> None:
    assert MEDIA is not None
    summary = prepare(clips_of(MEDIA / "talking"), tmp_path, load_preparation(), num_workers=2)
    assert summary is not None
    kept = {record.source["name"] for record in read_manifest(tmp_path)}
    rejects = {reject.clip_id: reject for reject in read_rejects(tmp_path)}
    assert "liveportrait_d11" in kept
    for silent in ("d18-0000", "d19-0000", "d3-0000", "d3-0001"):
        assert "speech_fraction" in rejects[f"liveportrait_{silent}"].failed
    assert "sync_offset_frames" in rejects["liveportrait_d20-0000"].failed  # the sound is a quarter of a second late
    assert "camera_speed" in rejects["liveportrait_d20-0000"].failed
    assert "head_speed" in rejects["liveportrait_d12-0000"].failed
    assert json.loads((tmp_path / "dataset.json").read_text())["size_px"] == 512
