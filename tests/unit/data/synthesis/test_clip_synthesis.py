from __future__ import annotations

import ctypes.util
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from portraitanim.data.records import read_manifest
from portraitanim.data.synthesis.clip_motion import MotionOdds, MotionSource
from portraitanim.data.synthesis.clip_synthesis import ClipSynthesizer, SynthesisConfig, gather_manifest
from portraitanim.data.synthesis.driver_motion import face_width, lip_opening
from portraitanim.data.synthesis.portrait_bank import BankPortrait
from portraitanim.data.synthesis.spoken_text import Phoneme, SpokenText
from portraitanim.data.synthesis.stills import smiling
from portraitanim.data.synthesis.talking_tracks import TalkingTrack
from portraitanim.errors import InputError
from portraitanim.media.audio import load_audio
from portraitanim.media.video import read_video

pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed (apt-get install espeak-ng)"
)

CONFIG = SynthesisConfig(size_px=96, frames=(25, 30), test_every=4, seed=5)


@pytest.fixture(scope="module")
def motions(track: TalkingTrack) -> MotionSource:
    return MotionSource([track], MotionOdds(silent=0.25, real=0.4))


@pytest.fixture(scope="module")
def synthesizer(portrait: BankPortrait, motions: MotionSource) -> ClipSynthesizer:
    return ClipSynthesizer([portrait], [portrait], motions, CONFIG)


def test_clip_is_what_its_record_says(synthesizer: ClipSynthesizer, tmp_path: Path) -> None:
    record = synthesizer.write(1, tmp_path)
    assert gather_manifest(tmp_path, CONFIG) == 1
    assert list(read_manifest(tmp_path)) == [record]
    frames = read_video(tmp_path / record.video, 100)
    face = load_file(tmp_path / record.face)
    assert record.audio is not None
    sound = load_audio(tmp_path / record.audio)
    assert frames.data.shape == (record.num_frames, 3, 96, 96)
    assert face["landmarks"].shape == (record.num_frames, 478, 3)
    assert face["masks"].shape[0] == 3
    assert sound.samples.shape == (1, record.num_frames * 640)
    assert sound.sample_rate_hz == 16000


def test_stills_are_the_picture_itself_and_parted_lips(synthesizer: ClipSynthesizer, tmp_path: Path) -> None:
    record = synthesizer.write(1, tmp_path)
    assert record.stills is not None
    assert record.stills in record.sha256
    written = load_file(tmp_path / record.stills)
    assert written["pictures"].shape == (2, 3, 96, 96)
    plain = [
        clip
        for clip in map(synthesizer.clip, range(1, 12))
        if np.array_equal(clip.stills.pictures[0], clip.portrait.image)
    ]
    assert plain, "about two clips in three have no smile"
    parted = []
    for clip in plain:
        np.testing.assert_array_equal(clip.stills.landmarks[0], clip.portrait.points)
        parted.append((lip_opening(clip.stills.landmarks.astype(float)) / face_width(clip.stills.landmarks))[1])
    assert min(parted) > 0.005
    assert np.mean(parted) > 0.02


def test_a_smile_widens_the_mouth_throughout_and_leaves_the_lips_where_they_are(motions: MotionSource) -> None:
    basis = motions.basis
    still = np.repeat(basis.neutral[None], 3, axis=0)
    smiles = smiling(still, basis, 0.8)
    width = [np.linalg.norm(shape[291] - shape[61]) for shape in (still[0], *smiles)]
    assert min(width[1:]) > 1.1 * width[0]
    assert lip_opening(smiles).max() < 0.01
    np.testing.assert_array_equal(smiling(still, basis, 0.0), still)


def test_same_number_gives_the_same_clip_and_another_gives_another(synthesizer: ClipSynthesizer) -> None:
    one, again, other = (synthesizer.clip(number) for number in (2, 2, 3))
    # The hiss of espeak-ng's consonants is drawn anew each time, and the effort follows the sound.
    np.testing.assert_allclose(one.landmarks, again.landmarks, atol=0.05)
    levels = [np.abs(clip.motion.sound).reshape(-1, 640).mean(1) for clip in (one, again)]
    assert np.corrcoef(*levels)[0, 1] > 0.95
    np.testing.assert_array_equal(one.portrait.image, again.portrait.image)
    assert one.landmarks.shape != other.landmarks.shape or not np.allclose(one.landmarks, other.landmarks)


def test_clip_that_is_there_is_not_made_again_and_half_a_clip_is(
    synthesizer: ClipSynthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = synthesizer.write(1, tmp_path)

    def refuse(number: int) -> None:
        raise AssertionError(f"clip {number} was made twice")

    with monkeypatch.context() as patch:
        patch.setattr(synthesizer, "clip", refuse)
        assert synthesizer.write(1, tmp_path) == record
        with pytest.raises(AssertionError):
            synthesizer.write(2, tmp_path)
    assert not list((tmp_path / "clips").glob("*.partial"))
    assert gather_manifest(tmp_path, CONFIG) == 1


def test_silent_clips_keep_the_mouth_shut_and_spoken_ones_do_not(motions: MotionSource) -> None:
    rng = np.random.default_rng(0)
    silent, speech = (motions.draw(75, rng, kind) for kind in ("silent", "speech"))
    assert (lip_opening(silent.shapes) / face_width(silent.shapes)).max() < 0.01
    assert (lip_opening(speech.shapes) / face_width(speech.shapes)).max() > 0.05
    assert len(silent.sound) == len(speech.sound) == 75 * 640


def test_music_alone_leaves_the_mouth_shut_and_speech_comes_from_every_source(track: TalkingTrack) -> None:
    class Tone:
        def draw(self, num_samples: int, rng: np.random.Generator) -> np.ndarray:
            return np.sin(np.arange(num_samples) * (2 * np.pi * 440 / 16000))

    class Vowel:
        def __init__(self, name: str) -> None:
            self.name = name

        def draw(self, seconds: float, rng: np.random.Generator) -> tuple[SpokenText, str]:
            samples = rng.normal(0, 0.1, 16000).astype(np.float32)
            vowel = Phoneme(symbol="a", start_seconds=0.2, end_seconds=0.8)
            return SpokenText(samples=samples, sample_rate_hz=16000, phonemes=(vowel,)), self.name

    motions = MotionSource([track], speech=[Vowel("one"), Vowel("other")], backgrounds=Tone())
    rng = np.random.default_rng(3)
    quiet = [motions.draw(30, rng, "silent") for _ in range(8)]
    tonal = [clip for clip in quiet if np.abs(np.fft.rfft(clip.sound)).argmax() == round(440 * 30 / 25)]
    assert 0 < len(tonal) < 8
    assert all((lip_opening(clip.shapes) / face_width(clip.shapes)).max() < 0.01 for clip in tonal)
    assert {motions.draw(30, rng, "speech").source for _ in range(12)} == {"one", "other"}


def test_real_motion_keeps_its_sound_in_time(motions: MotionSource) -> None:
    """The track's sound is as loud as its lips are open: that must survive cutting, stretching and varying."""
    rng = np.random.default_rng(1)
    agreement = []
    for _ in range(6):
        clip = motions.draw(60, rng, "real")
        level = np.abs(clip.sound).reshape(60, 640).mean(1)
        agreement.append(np.corrcoef(level, lip_opening(clip.shapes))[0, 1])
    assert np.median(agreement) > 0.85


def test_test_split_takes_held_out_portraits_as_they_are(synthesizer: ClipSynthesizer) -> None:
    assert synthesizer.clip(0).split == "test"
    assert synthesizer.clip(1).split == "train"
    assert synthesizer.clip(0).portrait.name == "astronaut"


def test_impossible_sizes_and_lengths_are_rejected() -> None:
    with pytest.raises(InputError, match="even size"):
        SynthesisConfig(size_px=97)
    with pytest.raises(InputError, match="fewest"):
        SynthesisConfig(frames=(30, 20))
    with pytest.raises(InputError, match="track"):
        MotionSource([])
