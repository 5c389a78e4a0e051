"""The encoder without weights: range, alignment with video frames, and the same numbers piece by piece."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitanim.audio.log_mel import LogMelAudioEncoder
from portraitanim.audio.mel_filters import mel_filters
from portraitanim.errors import InputError, ShapeError

RATE_HZ = 16000
encoder = LogMelAudioEncoder()


def noise(num_samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))


def tone(hz: float, num_samples: int = RATE_HZ) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz / RATE_HZ * torch.arange(num_samples, dtype=torch.float64)).float()


@settings(max_examples=30)
@given(first=st.integers(1, 20), length=st.integers(1, 20))
def test_a_piece_with_one_frame_of_context_gives_the_numbers_of_the_whole(first: int, length: int) -> None:
    samples_per_frame = RATE_HZ // 25
    whole = encoder.encode(noise(45 * samples_per_frame), 25.0).states
    begin, end = first - 1, first + length + 1
    piece = noise(45 * samples_per_frame)[begin * samples_per_frame : end * samples_per_frame]
    states = encoder.encode(piece, 25.0).states[1:-1]
    # The product with the filters adds up in another order for another number of frames.
    torch.testing.assert_close(states, whole[first : first + length], atol=1e-5, rtol=0)


@settings(max_examples=50)
@given(
    num_samples=st.integers(1, 20000),
    fps=st.sampled_from([12.5, 24.0, 25.0, 29.97, 60.0, 120.0]),
    multiple=st.one_of(st.none(), st.integers(1, 16)),
)
def test_frames_cover_the_sound_and_padding_is_counted(num_samples: int, fps: float, multiple: int | None) -> None:
    features = encoder.encode(noise(num_samples), fps, multiple)
    seconds = num_samples / RATE_HZ
    assert features.states.shape[1:] == (4, 80)
    assert features.num_valid_steps - 1 < seconds * fps + 1e-9
    assert features.num_valid_steps >= seconds * fps - 1e-9
    assert len(features.states) % (multiple or 1) == 0
    assert features.num_padding_steps < (multiple or 1)
    assert features.states.isfinite().all()
    assert features.states.min() >= -1


def test_what_comes_later_changes_nothing_that_came_before() -> None:
    quiet = noise(RATE_HZ)
    loud = torch.cat([quiet, tone(440)])
    before = encoder.encode(quiet, 25.0).states[:-1]  # the last frame looks 7.5 ms ahead
    torch.testing.assert_close(encoder.encode(loud, 25.0).states[: len(before)], before, atol=1e-5, rtol=0)


def test_silence_is_minus_one_and_a_full_tone_about_one() -> None:
    assert (encoder.encode(torch.zeros(RATE_HZ), 25.0).states == -1).all()
    loudest = max(encoder.encode(tone(hz), 25.0).states.max().item() for hz in (200, 1000, 4000))
    assert 0.8 < loudest < 1.3


def test_padding_is_silence() -> None:
    features = encoder.encode(noise(20 * 640), 25.0, pad_to_multiple_of=14)
    assert len(features.states) == 28
    assert features.num_padding_steps == 8
    assert (features.states[21:] == -1).all()  # frame 20 still hears the last 7.5 ms


def test_a_click_lights_up_the_quarter_in_which_it_sounds() -> None:
    for quarter in (0, 5, 10, 15):
        sound = torch.zeros(RATE_HZ)
        sound[quarter * 160 + 80] = 1.0
        loudness = encoder.encode(sound, 25.0).states.flatten(0, 1).mean(dim=1)
        assert loudness.argmax().item() == quarter


@pytest.mark.parametrize("fps", [20.0, 30.0, 50.0])
def test_states_at_another_rate_follow_the_same_sound(fps: float) -> None:
    """A tone that grows slowly: loudness at a moment must not depend on the video rate."""
    swell = tone(500, 2 * RATE_HZ) * torch.linspace(0.1, 1, 2 * RATE_HZ)
    at_25 = encoder.encode(swell, 25.0).states.amax(dim=2).flatten()
    other = encoder.encode(swell, fps).states.amax(dim=2).flatten()
    moments = torch.tensor([0.5, 1.0, 1.5])
    first = at_25[(moments * 100).long()]
    second = other[(moments * fps * 4).long()]
    torch.testing.assert_close(first, second, atol=0.01, rtol=0)  # 10 ms of the swell


def test_a_tone_is_loudest_in_the_filter_around_it() -> None:
    bins_hz = torch.linspace(0, RATE_HZ / 2, 201)
    peaks_hz = bins_hz[mel_filters().argmax(dim=1)]
    for hz in (400.0, 1500.0, 5000.0):
        band = encoder.encode(tone(hz), 25.0).states[10, 0].argmax()
        assert abs(peaks_hz[band] - hz) < 0.1 * hz


@pytest.mark.parametrize(
    ("waveform", "error", "says"),
    [
        (torch.zeros(0), InputError, "at least 1"),
        (torch.zeros(2, 100), ShapeError, "mono float32"),
        (torch.zeros(100, dtype=torch.float64), ShapeError, "mono float32"),
        (torch.tensor([0.0, math.nan]), InputError, "not finite"),
    ],
)
def test_sound_that_cannot_be_used_is_refused(waveform: torch.Tensor, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        encoder.encode(waveform, 25.0)


@pytest.mark.parametrize("fps", [0.0, -25.0, math.inf, math.nan])
def test_impossible_video_rate_is_refused(fps: float) -> None:
    with pytest.raises(InputError, match="positive number"):
        encoder.encode(noise(1000), fps)


def test_padding_to_no_frames_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1 frame"):
        encoder.encode(noise(1000), 25.0, pad_to_multiple_of=0)
