"""Landmark files: what was saved comes back, anything else is refused with the reason."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from scipy.spatial.transform import Rotation

from portraitanim.errors import InputError, MediaError, PortraitAnimError
from portraitanim.face.face_track import NUM_BLENDSHAPES, FaceTrack
from portraitanim.pipelines.track_files import load_track, save_track
from portraitanim.types import NUM_LANDMARKS, FaceLandmarks


def full_track(frames: int = 3) -> FaceTrack:
    generator = np.random.default_rng(0)
    matrices = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    matrices[:, :3, :3] = Rotation.random(frames, random_state=0).as_matrix()
    matrices[:, :3, 3] = (1.0, -2.0, -60.0)
    return FaceTrack(
        landmarks=FaceLandmarks(points=generator.uniform(0, 500, (frames, NUM_LANDMARKS, 3)).astype(np.float32)),
        fps=30000 / 1001,
        size_px=(480, 640),
        found=np.arange(frames) != 1,
        matrices=matrices,
        blendshapes=generator.uniform(0, 1, (frames, NUM_BLENDSHAPES)).astype(np.float32),
        source="test",
        num_missing=1,
    )


def test_saved_track_comes_back_bit_for_bit(tmp_path: Path) -> None:
    track = full_track()
    save_track(tmp_path / "face.safetensors", track)
    read = load_track(tmp_path / "face.safetensors")
    for name in ("found", "matrices", "blendshapes"):
        np.testing.assert_array_equal(getattr(read, name), getattr(track, name))
    np.testing.assert_array_equal(read.landmarks.points, track.landmarks.points)
    names = ("fps", "size_px", "source", "num_missing")
    assert [getattr(read, name) for name in names] == [getattr(track, name) for name in names]
    assert [file.name for file in tmp_path.iterdir()] == ["face.safetensors"]


def test_landmarks_alone_are_enough(tmp_path: Path) -> None:
    path = write(tmp_path, tensors={"landmarks": full_track().landmarks.points})
    read = load_track(path)
    assert read.found.all()
    assert read.matrices is None
    assert read.fps == 25.0


def tensors_of(track: FaceTrack) -> dict[str, np.ndarray]:
    assert track.matrices is not None
    assert track.blendshapes is not None
    return {
        "landmarks": track.landmarks.points.copy(),
        "found": track.found.astype(np.uint8),
        "matrices": track.matrices.copy(),
        "blendshapes": track.blendshapes.copy(),
    }


METADATA = {
    "format": "portraitanim-face-track",
    "version": "1",
    "fps": "25",
    "height": "480",
    "width": "640",
    "topology": "mediapipe-478",
}


def write(
    folder: Path, *, tensors: dict[str, np.ndarray] | None = None, metadata: dict[str, str] | None = None
) -> Path:
    path = folder / "face.safetensors"
    path.write_bytes(save(tensors_of(full_track()) if tensors is None else tensors, {**METADATA, **(metadata or {})}))
    return path


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "pt"}, "no landmark file"),
        ({"version": "2"}, "version '2'"),
        ({"topology": "dlib-68"}, "dlib-68"),
        ({"fps": "0"}, "fps is '0'"),
        ({"fps": "nan"}, "fps is"),
        ({"fps": "1e9999999"}, "fps is"),
        ({"fps": "25/0"}, "fps is"),
        ({"fps": "9999999/1"}, "fps is"),
        ({"fps": "٢٥"}, "fps is"),
        ({"height": "-4"}, "height is"),
        ({"width": "99999999"}, "width is"),
        ({"width": "wide\nwall"}, r"width is 'wide\\nwall'"),
        ({"num_missing": "some"}, "num_missing is"),
    ],
)
def test_wrong_metadata_is_refused_with_the_reason(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_track(write(tmp_path, metadata=metadata))


def test_absent_metadata_is_named(tmp_path: Path) -> None:
    path = tmp_path / "face.safetensors"
    path.write_bytes(save({"landmarks": full_track().landmarks.points}, {"format": "portraitanim-face-track"}))
    with pytest.raises(InputError, match="no version"):
        load_track(path)
    path.write_bytes(save({"weight": np.zeros(3)}))
    with pytest.raises(InputError, match="no landmark file"):
        load_track(path)


def changed(name: str, value: Any, at: Any = ...) -> dict[str, np.ndarray]:
    tensors = tensors_of(full_track())
    tensors[name][at] = value
    return tensors


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (lambda: changed("landmarks", np.nan, (1, 5)), "not finite"),
        (lambda: changed("landmarks", 1e8, (1, 5)), "pixels away"),
        (lambda: changed("landmarks", 0.5, 2), "frame 2 all points"),
        (lambda: changed("matrices", np.inf, (0, 0, 0)), "not finite"),
        (lambda: changed("matrices", 0.0, 1), "matrix of frame 1"),
        (lambda: changed("matrices", np.diag([1, 1, -1, 1]), 1), "matrix of frame 1"),
        (lambda: changed("blendshapes", 7.0, (0, 3)), "expected 0 to 1"),
        (lambda: changed("found", 2, 0), "found"),
        (lambda: {"points": np.zeros((1, 2), np.float32)}, "no tensor 'landmarks'"),
        (lambda: {**tensors_of(full_track()), "extra": np.zeros(2)}, "'extra'"),
        (lambda: {"landmarks": np.zeros((0, NUM_LANDMARKS, 3), np.float32)}, "0 frames"),
        (lambda: {"landmarks": np.zeros((2, 468, 3), np.float32)}, "468"),
        (lambda: {"landmarks": np.zeros((2, NUM_LANDMARKS, 3), np.float64)}, "F64"),
        (lambda: {"landmarks": np.zeros((), np.float32)}, "0 frames"),
        (lambda: {**tensors_of(full_track()), "found": np.ones(2, np.uint8)}, "for 3 frames"),
    ],
)
def test_wrong_tensors_are_refused_with_the_reason(tmp_path: Path, tensors: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_track(write(tmp_path, tensors=tensors()))


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    broken = full_track().landmarks.points * np.nan
    with pytest.raises(InputError, match="not finite"):
        save_track(tmp_path / "face.safetensors", replace(full_track(), landmarks=FaceLandmarks(points=broken)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data",
    [
        b"not safetensors at all",
        (2**63).to_bytes(8, "little") + b"{}",
        (90_000_000).to_bytes(8, "little") + b"{" * 1000,
        (2).to_bytes(8, "little") + b"{}",
        b"\x80\x04N.",
    ],
)
@pytest.mark.timeout(20)
def test_other_files_are_errors_of_ours(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "face.safetensors"
    path.write_bytes(data)
    with pytest.raises(PortraitAnimError) as caught:
        load_track(path)
    assert "\n" not in str(caught.value)


def test_absent_file_and_folder_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(MediaError):
            load_track(path)


def valid_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_track(Path(folder) / "a.safetensors", full_track(1))
        return (Path(folder) / "a.safetensors").read_bytes()


VALID = valid_bytes()
HEADER_LENGTH = int.from_bytes(VALID[:8], "little")


def outcome(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(data)
        with suppress(InputError, MediaError):
            assert len(load_track(path)) == 1


@given(st.integers(0, len(VALID) - 1))
@settings(max_examples=60)
@pytest.mark.timeout(120)
def test_truncated_file_is_an_error_of_ours(length: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(VALID[:length])
        with pytest.raises(MediaError):
            load_track(path)


@given(st.lists(st.tuples(st.integers(0, HEADER_LENGTH + 40), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=150)
@pytest.mark.timeout(120)
def test_damaged_file_is_a_track_or_an_error_of_ours(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(VALID)
    for place, value in changes:
        damaged[place] = value
    outcome(bytes(damaged))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**64) | st.floats() | st.sampled_from(["F32", "U8", "BF16", ""]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["landmarks", "found", "matrices", "blendshapes", "__metadata__", "y"]), JSON, max_size=5
    ),
    st.sampled_from(["found", "matrices", "blendshapes", "nothing"]),
)
@settings(max_examples=150)
@pytest.mark.timeout(120)
def test_hostile_header_is_an_error_of_ours(changes: dict[str, Any], dropped: str) -> None:
    header = json.loads(VALID[8 : 8 + HEADER_LENGTH])
    header.update(changes)
    header.pop(dropped, None)
    text = json.dumps(header).encode()
    outcome(len(text).to_bytes(8, "little") + text + VALID[8 + HEADER_LENGTH :])
