from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from portraitanim.config.training import ClipConfig
from portraitanim.data.dataset import ClipDataset
from portraitanim.data.latents import autoencoder_fingerprint, cache_latents, encode_pictures
from portraitanim.data.records import read_manifest, write_manifest
from portraitanim.errors import InputError
from portraitanim.pipelines.build import build_autoencoder
from tests.prepared_clips import write_dataset
from tests.small_networks import small_preset


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), num_clips=4, num_frames=20)


def config(root: Path, **changes: object) -> ClipConfig:
    return replace(ClipConfig(root=str(root), num_frames=4, num_motion_frames=2), **changes)  # type: ignore[arg-type]


def test_pieces_stay_inside_their_clip_and_reach_both_ends(root: Path) -> None:
    dataset = ClipDataset(config(root), seed=1)
    pieces = [dataset.piece(number) for number in range(400)]
    assert all(piece.motion_frames.start >= 0 and piece.frames.stop <= 20 for piece in pieces)
    assert {piece.first_frame for piece in pieces} == set(range(2, 17))
    assert {piece.reference_frame for piece in pieces} == set(range(20))


def test_an_epoch_reads_every_clip_as_often_as_pieces_fit(root: Path) -> None:
    dataset = ClipDataset(config(root), seed=1)
    assert len(dataset) == 4 * (20 // 6)
    for epoch in range(2):
        numbers = range(epoch * len(dataset), (epoch + 1) * len(dataset))
        clips = [dataset.piece(number).record.clip_id for number in numbers]
        assert sorted(clips) == sorted(3 * [record.clip_id for record in dataset.records])


def test_a_number_means_the_same_piece_in_any_order(root: Path) -> None:
    first, second = ClipDataset(config(root), seed=1), ClipDataset(config(root), seed=1)
    forward = [first.piece(number) for number in range(40)]
    assert forward == [second.piece(number) for number in reversed(range(40))][::-1]
    assert forward != [ClipDataset(config(root), seed=2).piece(number) for number in range(40)]


def test_reference_keeps_its_distance_where_there_is_room(root: Path) -> None:
    dataset = ClipDataset(config(root, num_frames=1, num_motion_frames=0, min_reference_distance=9))
    distances = {abs(p.reference_frame - p.first_frame) for p in map(dataset.piece, range(200))}
    assert min(distances) >= 9


def test_a_still_is_the_portrait_as_often_as_is_asked_for(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, num_clips=2, num_frames=12)
    pictures = np.stack([np.full((3, 64, 64), value, np.uint8) for value in (50, 200)])
    landmarks = np.stack([np.full((478, 3), value, np.float32) for value in (1.0, 2.0)])
    first, second = read_manifest(root)
    stills = first.video.replace("video.mp4", "stills.safetensors")
    save_file({"pictures": pictures, "landmarks": landmarks}, root / stills)
    write_manifest(root, [replace(first, stills=stills), second])
    autoencoder = build_autoencoder(small_preset("tiny"))
    cache_latents(root, autoencoder)

    dataset = ClipDataset(config(root, stills=0.5))
    pieces = [dataset.piece(number) for number in range(200)]
    assert all(piece.reference_still is None for piece in pieces if piece.record.clip_id == second.clip_id)
    chosen = [piece.reference_still for piece in pieces if piece.record.clip_id == first.clip_id]
    assert set(chosen) == {None, 0, 1}
    assert 0.3 < sum(still is None for still in chosen) / len(chosen) < 0.7
    assert all(ClipDataset(config(root)).piece(number).reference_still is None for number in range(50))

    piece = next(piece for piece in pieces if piece.reference_still == 1)
    assert np.array_equal(dataset.reference_picture(piece), pictures[1])
    assert np.array_equal(dataset.pictures(piece)[2], pictures[1])
    assert np.array_equal(dataset.landmarks(piece)[1], landmarks[1])
    expected = encode_pictures(autoencoder, torch.from_numpy(pictures[1:]).float() / 127.5 - 1)[0]
    cached = dataset.latents(piece, autoencoder_fingerprint(autoencoder))[2]
    torch.testing.assert_close(cached, expected, atol=2e-3, rtol=2e-3)


def test_pictures_are_the_frames_of_the_piece(root: Path) -> None:
    from portraitanim.media.video import read_video

    dataset = ClipDataset(config(root))
    piece = dataset.piece(3)
    frames, motion, reference = dataset.pictures(piece)
    whole = read_video(root / piece.record.video, 100).data
    assert np.array_equal(frames, whole[list(piece.frames)])
    assert np.array_equal(motion, whole[list(piece.motion_frames)])
    assert np.array_equal(reference, whole[piece.reference_frame])


def test_cached_latents_are_those_of_the_frames(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, num_clips=2, num_frames=8)
    autoencoder = build_autoencoder(small_preset("tiny"))
    assert cache_latents(root, autoencoder, batch_size=3) == 2
    assert cache_latents(root, autoencoder) == 0
    dataset = ClipDataset(config(root))
    piece = dataset.piece(0)
    latents, motion, reference = dataset.latents(piece, autoencoder_fingerprint(autoencoder))
    pictures = [torch.from_numpy(p).float() / 127.5 - 1 for p in dataset.pictures(piece)]
    expected = encode_pictures(autoencoder, torch.cat([*pictures[:2], pictures[2][None]]))
    # Stored in half precision.
    torch.testing.assert_close(torch.cat([latents, motion, reference[None]]), expected, atol=2e-3, rtol=2e-3)
    target = next(iter(read_manifest(root)))
    assert target.latents in target.sha256


def test_latents_of_another_autoencoder_are_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, num_clips=1, num_frames=8)
    cache_latents(root, build_autoencoder(small_preset("tiny")))
    dataset = ClipDataset(config(root))
    with pytest.raises(InputError, match="another autoencoder"):
        dataset.latents(dataset.piece(0), "0" * 16)


def test_missing_latents_say_what_to_do(root: Path) -> None:
    dataset = ClipDataset(config(root))
    with pytest.raises(InputError, match=r"data\.latents=encode"):
        dataset.latents(dataset.piece(0), "")


def test_clips_that_are_too_short_are_left_out_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_dataset(tmp_path, num_clips=2, num_frames=8)
    first, second = read_manifest(root)
    write_manifest(root, [first, replace(second, num_frames=5)])
    assert len(ClipDataset(config(root)).records) == 1
    assert "1 of 2 clips are shorter than 6 frames" in caplog.text
    with pytest.raises(InputError, match="has no clip"):
        ClipDataset(config(root, num_frames=16))
    with pytest.raises(InputError, match="split 'test'"):
        ClipDataset(config(root, split="test"))


def test_sound_is_as_long_as_the_picture(root: Path) -> None:
    dataset = ClipDataset(config(root))
    assert len(dataset.waveform(dataset.records[0])) == pytest.approx(20 / 25 * 16000, abs=640)
    silent = replace(dataset.records[0], audio=None)
    assert not dataset.waveform(silent).any()
