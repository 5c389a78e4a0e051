from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.data.preparation.clip_writing import picture_hash
from portraitanim.data.preparation.copies import Fingerprint, find_nearest, mouth_correlation
from portraitanim.data.preparation.identity_split import held_out_identities, merge_identities


def speech(seed: int, num_frames: int = 150) -> np.ndarray:
    """Something that opens and closes about four times a second."""
    steps = np.random.default_rng(seed).normal(size=num_frames + 8)
    return np.abs(np.convolve(steps, np.hanning(8), "same"))[:num_frames] * 0.02


def clip(name: str, mouth: np.ndarray, picture: str = "00ff00ff00ff00ff") -> Fingerprint:
    return Fingerprint(clip_id=name, picture_hash=picture, mouth=tuple(mouth))


def test_same_moments_are_found_though_cut_and_measured_otherwise() -> None:
    whole = speech(1, 250)
    noise = np.random.default_rng(9).normal(0, 0.0004, 120)
    found = find_nearest([clip("a", whole), clip("b", 1.1 * whole[60:180] + noise)], 0.1)
    assert found["b"].of == "a"
    assert found["b"].distance < 0.02


def test_other_speech_of_the_same_speaker_is_no_copy() -> None:
    distances = [1 - mouth_correlation(speech(seed), speech(seed + 100)) for seed in range(30)]
    assert min(distances) > 0.3


def test_clips_that_look_different_are_not_compared() -> None:
    mouth = speech(1)
    assert find_nearest([clip("a", mouth), clip("b", mouth, "ffffffff00000000")], 0.1) == {}


def test_copy_of_a_copy_is_a_copy_of_the_first() -> None:
    mouth = speech(1)
    found = find_nearest([clip(name, mouth) for name in "abc"], 0.1)
    assert {name: copy.of for name, copy in found.items()} == {"b": "a", "c": "a"}


@given(st.integers(0, 1000), st.integers(40, 200), st.integers(40, 200), st.integers(0, 100))
def test_correlation_agrees_with_the_definition(seed: int, first: int, second: int, offset: int) -> None:
    a, b = speech(seed, first), speech(seed + 1, second)
    shared = speech(seed + 2, 300)
    a += shared[:first]
    b += shared[offset : offset + second]
    longer, shorter = (a, b) if first >= second else (b, a)
    needed = max(32, len(shorter) // 2)
    values = []
    for shift in range(-(len(shorter) - needed), len(longer) - needed + 1):
        x = longer[max(0, shift) : min(len(longer), shift + len(shorter))]
        y = shorter[max(0, -shift) :][: len(x)]
        if x.std() * y.std() > 0.1 * longer.std() * shorter.std():
            values.append(np.corrcoef(x, y)[0, 1])
    assert mouth_correlation(a, b) == pytest.approx(max(values), abs=1e-6)
    assert mouth_correlation(a, b) == pytest.approx(mouth_correlation(b, a), abs=1e-9)


@pytest.mark.parametrize("mouth", [np.zeros(100), np.full(100, 0.1), speech(1, 20)])
def test_still_or_short_mouths_agree_with_nothing(mouth: np.ndarray) -> None:
    assert mouth_correlation(mouth, speech(2)) == 0.0


def test_picture_hash_survives_scaling_and_noise_and_tells_pictures_apart() -> None:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256] / 256
    first, second = 255 * np.sin(7 * x + 3 * y) ** 2, 255 * np.cos(5 * x * y + 2) ** 2

    def bits(a: np.ndarray, b: np.ndarray) -> int:
        return bin(int(picture_hash(a), 16) ^ int(picture_hash(b), 16)).count("1")

    assert bits(first, first[::2, ::2] + random.normal(0, 3, (128, 128))) <= 6
    assert bits(first, second) > 16


@given(st.sets(st.text(min_size=1, max_size=5), min_size=2, max_size=60), st.integers(0, 5))
def test_a_tenth_of_the_identities_is_held_out(names: set[str], seed: int) -> None:
    chosen = held_out_identities(names, 0.1, seed)
    assert chosen < names
    assert len(chosen) == max(1, round(0.1 * len(names)))
    assert chosen == held_out_identities(sorted(names, reverse=True), 0.1, seed)


def test_seed_chooses_others_and_nothing_is_held_out_of_one() -> None:
    names = [f"person{number}" for number in range(50)]
    assert held_out_identities(names, 0.2, 0) != held_out_identities(names, 0.2, 1)
    assert held_out_identities(["only"], 0.1, 0) == set()
    assert held_out_identities(names, 0.0, 0) == set()
    assert held_out_identities(names, 1.0, 0) == set(names)


def test_names_with_one_face_become_one_person() -> None:
    random = np.random.default_rng(0)
    face, other = random.normal(size=(2, 512))

    def views(vector: np.ndarray) -> list[np.ndarray]:
        return [20 * vector + random.normal(size=512) for _ in range(3)]

    merged = merge_identities({"b.mp4": views(face), "a.mp4": views(face), "c.mp4": views(other)}, 0.5)
    assert merged == {"a.mp4": "a.mp4", "b.mp4": "a.mp4", "c.mp4": "c.mp4"}
