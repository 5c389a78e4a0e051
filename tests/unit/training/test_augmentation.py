from __future__ import annotations

import numpy as np
import pytest
import torch

from portraitanim.config.training import AugmentationConfig, LandmarkConfig
from portraitanim.errors import ConfigError
from portraitanim.face.drawing import draw_landmarks
from portraitanim.face.landmark_groups import FACE_SILHOUETTE, LEFT_EYELID_PAIRS, RIGHT_EYELID_PAIRS
from portraitanim.face.mesh_topology import mirror_order, mirror_points
from portraitanim.training.augmentation import (
    LANDMARK_PARTS,
    add_noise,
    add_reverb,
    change_colour,
    change_sound,
    choose_parts,
    shift_pitch,
)

RATE_HZ = 16000


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def loudest_hz(samples: np.ndarray) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle))))) * RATE_HZ / len(middle))


@pytest.mark.parametrize("semitones", [-3.0, 0.0, 3.0])
def test_pitch_moves_and_time_does_not(semitones: float) -> None:
    # Silence, a tone, silence: the tone must stay where it is.
    samples = np.concatenate([np.zeros(8000, np.float32), tone(440), np.zeros(8000, np.float32)])
    shifted = shift_pitch(samples, semitones)
    assert shifted.shape == samples.shape
    assert loudest_hz(shifted[8000:24000]) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.01)
    power = np.convolve(shifted**2, np.ones(400) / 400, "same")
    loud = np.flatnonzero(power > power.max() / 4)
    # Within the length of the vocoder's window, 512 samples or 32 ms: less than a video frame.
    assert abs(loud[0] - 8000) < 512
    assert abs(loud[-1] - 24000) < 512


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_has_the_power_that_was_asked_for(snr_db: float) -> None:
    samples = tone(300)
    noise = add_noise(samples, snr_db, np.random.default_rng(0)) - samples
    measured = 10 * np.log10(np.mean(samples**2) / np.mean(noise**2))
    assert measured == pytest.approx(snr_db, abs=0.1)
    silence = np.zeros(100, np.float32)
    assert not add_noise(silence, snr_db, np.random.default_rng(0)).any()


def test_reverb_rings_after_the_sound_and_never_before() -> None:
    samples = np.concatenate([np.zeros(4000, np.float32), tone(300, 0.25), np.zeros(8000, np.float32)])
    wet = add_reverb(samples, 0.4, RATE_HZ, np.random.default_rng(0))
    assert np.abs(wet[:3900]).max() < 1e-6
    assert np.mean(wet[8100:10000] ** 2) > 1e-4 > np.mean(wet[-500:] ** 2)
    assert np.mean(wet**2) == pytest.approx(np.mean(samples**2), rel=1e-3)


def test_sound_without_augmentation_is_untouched() -> None:
    samples = torch.from_numpy(tone(300))
    assert torch.equal(change_sound(samples, AugmentationConfig(), np.random.default_rng(0), RATE_HZ), samples)
    every = AugmentationConfig(noise=1, reverb=1, gain=1, pitch=1)
    changed = change_sound(samples, every, np.random.default_rng(0), RATE_HZ)
    assert changed.shape == samples.shape
    assert changed.dtype == torch.float32
    assert changed.abs().max() <= 1
    assert not torch.allclose(changed, samples, atol=0.05)


def test_parts_are_dropped_as_often_as_asked() -> None:
    random = np.random.default_rng(0)
    config = LandmarkConfig(mouth=0.7, everything=0.1)
    drawn = [choose_parts(config, random) for _ in range(2000)]
    # Five standard deviations of a share in 2000 draws are below 0.06.
    assert np.mean([not parts for parts in drawn]) == pytest.approx(0.1, abs=0.06)
    assert np.mean(["mouth" in parts for parts in drawn]) == pytest.approx(0.9 * 0.3, abs=0.06)
    assert all(set(parts) >= set(LANDMARK_PARTS) - {"mouth"} for parts in drawn if parts)


def test_colour_changes_all_frames_alike() -> None:
    picture = torch.rand(1, 3, 8, 8) * 2 - 1
    changed = change_colour(picture.expand(4, -1, -1, -1), 0.2, np.random.default_rng(1))
    assert torch.equal(changed, changed[:1].expand(4, -1, -1, -1))
    assert not torch.allclose(changed[:1], picture, atol=0.02)


def test_mirroring_exchanges_the_sides() -> None:
    order = mirror_order()
    assert np.array_equal(order[order], np.arange(478))
    left, right = np.array(LEFT_EYELID_PAIRS).ravel(), np.array(RIGHT_EYELID_PAIRS).ravel()
    assert np.array_equal(order[right], left)
    silhouette = np.array(FACE_SILHOUETTE)
    assert np.array_equal(order[silhouette], silhouette[-np.arange(36) % 36])
    assert (order[468], order[4]) == (473, 4)


def test_sides_keep_their_colours_in_the_mirror() -> None:
    # The right pupil, on the left of the picture, is drawn in its own colour on either side of the mirror.
    points = np.full((478, 3), 64.0)
    points[468], points[473] = (30, 40, 0), (100, 60, 0)
    plain = draw_landmarks(points, (128, 128), (128, 128), ("pupils",))
    mirrored = draw_landmarks(mirror_points(points, 128), (128, 128), (128, 128), ("pupils",))
    assert plain[:, 40, 30].tolist() == mirrored[:, 60, 28].tolist() == [10, 200, 250]
    assert plain[:, 60, 100].tolist() == mirrored[:, 40, 98].tolist() == [250, 200, 10]


def test_flips_need_frames() -> None:
    from portraitanim.config.training import ClipConfig, TrainingConfig

    with pytest.raises(ConfigError, match=r"data\.latents must be 'encode'"):
        TrainingConfig(augmentation=AugmentationConfig(flip=0.5), data=ClipConfig(latents="cached"))
