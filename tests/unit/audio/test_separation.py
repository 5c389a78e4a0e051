from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitanim.audio.separation import NETWORK_FILE, WEIGHTS_NAME, VocalSeparator
from portraitanim.checkpoints.registry import REGISTRY
from portraitanim.errors import DamagedWeightsError, InputError, MissingWeightsError
from portraitanim.types import AudioTrack
from tests.onnx_packs import save_model, tensor, write_vocal_separator

LOW_HZ, HIGH_HZ = 440.0, 5_000.0


def separator(folder: Path, keeps: str = "everything") -> VocalSeparator:
    folder.mkdir(parents=True, exist_ok=True)
    write_vocal_separator(folder / NETWORK_FILE, keeps)
    return VocalSeparator.load(folder)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> VocalSeparator:
    return separator(tmp_path_factory.mktemp("separator"))


def tones(seconds: float, rate_hz: int, *hertz: float, num_channels: int = 1) -> AudioTrack:
    """Sines of level 0.3 that start at their own phases, other ones in each channel."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    waves = [
        sum(0.3 * np.sin(2 * np.pi * value * time + value + channel) for value in hertz)
        for channel in range(num_channels)
    ]
    return AudioTrack(samples=np.stack(waves).astype(np.float32), sample_rate_hz=rate_hz)


@pytest.mark.parametrize(("rate_hz", "num_channels"), [(44_100, 2), (44_100, 1), (16_000, 1), (48_000, 2)])
def test_network_that_keeps_everything_gives_the_sound_back_without_seams(
    identity: VocalSeparator, rate_hz: int, num_channels: int
) -> None:
    sound = tones(11.0, rate_hz, LOW_HZ, 1_234.5, num_channels=num_channels)  # three chunks
    voice = identity.separate(sound)
    assert voice.samples.shape == sound.samples.shape
    assert voice.sample_rate_hz == rate_hz
    error = np.abs(voice.samples - sound.samples)
    # Two resamplings smear the first and last milliseconds, where the tones begin and end abruptly; muting what
    # lies below 17 Hz is the rest of the error.
    edge = round(0.05 * rate_hz)
    assert error[:, edge:-edge].max() < 2e-3
    assert error.max() < 0.2


def test_bins_are_in_order(tmp_path: Path) -> None:
    voice = separator(tmp_path, "low").separate(tones(4.0, 44_100, LOW_HZ, HIGH_HZ))
    low = tones(4.0, 44_100, LOW_HZ)
    assert np.abs(voice.samples - low.samples)[:, 4_000:-4_000].max() < 2e-3


def test_channels_are_in_order(tmp_path: Path) -> None:
    sound = tones(4.0, 44_100, LOW_HZ, num_channels=2)
    left, right = separator(tmp_path, "left").separate(sound).samples
    assert np.abs(left - sound.samples[0])[4_000:-4_000].max() < 2e-3
    assert np.abs(right).max() < 1e-6


@settings(max_examples=3)
@given(cuts=st.lists(st.integers(0, 7 * 22_050), max_size=5))
def test_pieces_do_not_change_the_voice(identity: VocalSeparator, cuts: list[int]) -> None:
    noise = np.random.default_rng(0).normal(size=(2, 7 * 22_050)).astype(np.float32) * 0.1
    whole = identity.separate(AudioTrack(samples=noise, sample_rate_hz=22_050)).samples
    edges = [0, *sorted(cuts), noise.shape[1]]
    pieces = [AudioTrack(samples=noise[:, a:b], sample_rate_hz=22_050) for a, b in pairwise(edges)]
    joined = np.concatenate([piece.samples for piece in identity.stream(pieces)], axis=1)
    np.testing.assert_allclose(joined, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("num_samples", "rate_hz"),
    [(0, 44_100), (1, 44_100), (257_280, 44_100), (257_281, 44_100), (1, 11_025), (3_841, 11_025), (50_000, 48_000)],
)
def test_length_is_kept(identity: VocalSeparator, num_samples: int, rate_hz: int) -> None:
    sound = AudioTrack(samples=np.full((1, num_samples), 0.1, np.float32), sample_rate_hz=rate_hz)
    assert identity.separate(sound).samples.shape == (1, num_samples)


def test_pieces_leave_before_the_sound_has_ended(identity: VocalSeparator) -> None:
    """Memory does not grow with the sound: no more than two chunks are held back."""
    num_read = num_given = furthest_behind = 0

    def seconds_of_sound() -> Iterator[AudioTrack]:
        nonlocal num_read
        for _ in range(20):
            num_read += 44_100
            yield AudioTrack(samples=np.zeros((1, 44_100), np.float32), sample_rate_hz=44_100)

    for piece in identity.stream(seconds_of_sound()):
        furthest_behind = max(furthest_behind, num_read - num_given)
        num_given += piece.samples.shape[1]
    assert num_given == num_read == 20 * 44_100
    assert furthest_behind < 8 * 44_100


def test_missing_network_names_the_command_that_gets_it(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="portraitanim weights pull kim-vocal-2") as caught:
        VocalSeparator.load(tmp_path)
    assert caught.value.exit_code == 4


def test_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    import onnx

    node = onnx.helper.make_node("Identity", ["input"], ["output"])
    shape: list[int | str] = [1, 4, 2048, 256]
    save_model(tmp_path / NETWORK_FILE, [node], [tensor("input", shape)], [tensor("output", shape)], {})
    with pytest.raises(DamagedWeightsError, match="it is not Kim_Vocal_2"):
        VocalSeparator.load(tmp_path)


def test_sounds_that_cannot_be_separated_are_refused(identity: VocalSeparator) -> None:
    surround = AudioTrack(samples=np.zeros((6, 100), np.float32), sample_rate_hz=48_000)
    with pytest.raises(InputError, match="got 6 channels"):
        identity.separate(surround)
    with pytest.raises(InputError, match="no sound"):
        list(identity.stream([]))
    mixed = [tones(0.1, 44_100, LOW_HZ), tones(0.1, 48_000, LOW_HZ)]
    with pytest.raises(InputError, match="differ in rate"):
        list(identity.stream(mixed))


def test_registry_pulls_the_file_that_is_loaded() -> None:
    assert [Path(path).name for path in REGISTRY[WEIGHTS_NAME].files] == [NETWORK_FILE]
