from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from portraitanim.audio.encoders import load_audio_encoder
from portraitanim.audio.frame_windows import centred_windows
from portraitanim.config.preparation import load_preparation
from portraitanim.config.training import ClipConfig
from portraitanim.data.dataset import ClipDataset
from portraitanim.data.latents import made_by
from portraitanim.data.preparation.clip_features import FeatureNetworks, LatentEncoder, add_features
from portraitanim.data.preparation.coverage import ListedSource
from portraitanim.data.preparation.listing import list_dataset
from portraitanim.data.preparation.scenes import Candidate
from portraitanim.data.preparation.state import ClipOutcome, PreparationState, SourceScan
from portraitanim.data.records import read_manifest
from portraitanim.errors import ShapeError
from portraitanim.media.audio import save_audio
from portraitanim.media.video_writer import VideoWriter
from portraitanim.types import AudioTrack
from tests.small_networks import small_pipeline

CONFIG = load_preparation(
    None, {"crop": {"size_px": 64}, "filters": {"min_copy_distance": 0.1}, "split": {"test_share": 0.5}}
)
GOOD = {
    "face_tracked_fraction": 1.0,
    "seconds": 2.0,
    "mouth_motion": 0.03,
    "speech_fraction": 1.0,
    "sync_correlation": 0.5,
}


def made_clip(root: Path, name: str, shade: int) -> ClipOutcome:
    """A clip of two seconds whose pictures are of one shade, as `make_clip` leaves it."""
    state, clip_id, random = PreparationState(root), f"{name}-0000", np.random.default_rng(shade)
    folder = root / "clips" / clip_id
    with VideoWriter(folder / "video.mp4", 25) as writer:
        for _ in range(50):
            writer.write(np.full((3, 64, 64), shade, np.uint8))
    sound = random.normal(0, 0.1, (1, 32000)).astype(np.float32)
    save_audio(AudioTrack(samples=sound, sample_rate_hz=16000), folder / "audio.flac")
    landmarks = random.uniform(0, 64, (50, 478, 3)).astype(np.float32)
    save_file({"landmarks": landmarks, "masks": np.zeros((3, 64, 64), np.uint8)}, folder / "face.safetensors")
    outcome = ClipOutcome(
        clip_id=clip_id,
        source_name=name,
        dataset="folder",
        identity=name,
        source={
            "dataset": "folder",
            "name": name,
            "path": name,
            "start_seconds": 0.0,
            "end_seconds": 2.0,
            "sha256": name,
        },
        is_written=True,
        has_sound=True,
        scores=GOOD,
        num_frames=50,
        sha256={"video.mp4": "v", "audio.flac": "a", "face.safetensors": "old"},
        picture_hash=f"{shade:016x}",
        mouth=tuple(random.uniform(size=50).tolist()),
    )
    candidate = Candidate(index=0, start_frame=0, num_frames=50, content_change=0.0)
    state.save_scan(SourceScan(name=name, size_bytes=1, candidates=(candidate,)))
    state.save_outcome(outcome)
    return outcome


def shade_of(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """An identity that a picture of one shade has: bright ones are one person, dark ones another."""
    assert landmarks.shape == (478, 3)
    return np.eye(512, dtype=np.float32)[int(image.mean() > 128)] * 20


def listing(*names: str) -> list[ListedSource]:
    return [
        ListedSource(name=name, dataset="folder", path=name, start_seconds=0.0, end_seconds=None, is_found=True)
        for name in names
    ]


def test_states_are_those_of_the_encoder_at_the_video_rate(tmp_path: Path) -> None:
    outcome, encoder = made_clip(tmp_path, "a", 200), load_audio_encoder("log-mel")
    add_features(PreparationState(tmp_path), outcome, FeatureNetworks(audio={"log-mel": encoder}), 25.0)
    path = tmp_path / "clips" / "a-0000" / "audio-log-mel.safetensors"
    with safe_open(path, "pt") as file:
        states, metadata = file.get_tensor("states"), file.metadata()
    assert metadata == {"rate_hz": "25", "encoder": "log-mel"}
    assert states.shape == (50, 4, 80)
    assert centred_windows(states.float(), 5).shape == (50, 5, 4, 80)
    from portraitanim.media.audio import load_audio

    sound = torch.from_numpy(load_audio(path.with_name("audio.flac")).samples[0])
    torch.testing.assert_close(states.float(), encoder.encode(sound, 25.0).states, atol=1e-3, rtol=0)


def test_features_are_made_once_and_listed_with_their_hashes(tmp_path: Path) -> None:
    class Counting:
        encoder_name = "log-mel"
        calls = 0

        def encode(self, *arguments: Any, **options: Any) -> Any:
            Counting.calls += 1
            return load_audio_encoder("log-mel").encode(*arguments, **options)

    state, outcome = PreparationState(tmp_path), made_clip(tmp_path, "a", 200)
    networks = FeatureNetworks(audio={"log-mel": Counting()}, identity=shade_of)
    first = add_features(state, outcome, networks, 25.0)
    assert add_features(state, outcome, networks, 25.0) == first
    assert Counting.calls == 1
    list_dataset(state, CONFIG, listing("a"))
    (record,) = read_manifest(tmp_path)
    assert record.audio_states == {"log-mel": "clips/a-0000/audio-log-mel.safetensors"}
    assert set(record.sha256) == set(record.files())
    assert record.sha256[record.face] != "old"  # the embedding was added to it


def test_latents_are_made_once_for_an_autoencoder_and_train_reads_them(tmp_path: Path) -> None:
    state, outcome = PreparationState(tmp_path), made_clip(tmp_path, "a", 200)
    first, second = (LatentEncoder.of(small_pipeline("tiny", seed=seed).vae) for seed in (0, 1))
    path = tmp_path / "clips" / "a-0000" / "latents.safetensors"
    done = add_features(state, outcome, FeatureNetworks(latents=first), 25.0)
    written = path.stat().st_mtime_ns
    assert add_features(state, outcome, FeatureNetworks(latents=first), 25.0) == done
    assert path.stat().st_mtime_ns == written
    list_dataset(state, CONFIG, listing("a"))
    (record,) = read_manifest(tmp_path)
    assert record.latents == "clips/a-0000/latents.safetensors"
    assert set(record.sha256) == set(record.files())
    dataset = ClipDataset(ClipConfig(root=str(tmp_path), split=record.split, num_frames=4, num_motion_frames=2))
    frames, motion, _ = dataset.latents(dataset.piece(0), first.fingerprint)
    assert (len(frames), len(motion)) == (4, 2)
    # Another autoencoder's replace them: a clip never has latents of one and the name of the other.
    assert add_features(state, outcome, FeatureNetworks(latents=second), 25.0).latents_by == second.fingerprint
    assert made_by(path) == second.fingerprint != first.fingerprint


def test_embedding_joins_videos_of_one_person_and_splits_by_person(tmp_path: Path) -> None:
    state = PreparationState(tmp_path)
    shades = {"a": 200, "b": 20, "c": 210, "d": 30}
    for name, shade in shades.items():
        add_features(state, made_clip(tmp_path, name, shade), FeatureNetworks(identity=shade_of), 25.0)
    summary = list_dataset(state, CONFIG, listing(*shades))
    records = {record.clip_id[0]: record for record in read_manifest(tmp_path)}
    assert {name: record.identity for name, record in records.items()} == {"a": "a", "b": "b", "c": "a", "d": "b"}
    assert records["a"].split == records["c"].split != records["b"].split == records["d"].split
    assert (summary.num_identities, summary.num_test_clips) == (2, 2)
    assert "faces agree" in summary.identities_are
    face = load_file(tmp_path / records["a"].face)
    assert set(face) == {"landmarks", "masks", "identity"}
    assert face["identity"].shape == (512,)


def test_without_an_encoder_each_video_is_a_person_and_the_summary_says_so(tmp_path: Path) -> None:
    state = PreparationState(tmp_path)
    for name, shade in {"a": 200, "c": 210}.items():
        made_clip(tmp_path, name, shade)
    summary = list_dataset(state, CONFIG, listing("a", "c"))
    assert (summary.num_identities, summary.num_test_clips) == (2, 1)
    assert "no identity encoder" in summary.identities_are


def test_embedding_of_another_size_is_refused(tmp_path: Path) -> None:
    outcome = made_clip(tmp_path, "a", 200)
    with pytest.raises(ShapeError, match="512"):
        add_features(PreparationState(tmp_path), outcome, FeatureNetworks(identity=lambda *_: np.zeros(128)), 25.0)
