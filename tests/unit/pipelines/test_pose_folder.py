"""EchoMimic's pickled landmarks: real ones are read, and no file, whatever it holds, runs or hangs."""

from __future__ import annotations

import os
import pickle
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portraitanim.errors import InputError, MediaError
from portraitanim.pipelines.array_pickle import MAX_BYTES, read_array
from portraitanim.pipelines.pose_folder import load_pose_folder
from portraitanim.types import NUM_LANDMARKS
from tests.goldens import Golden

POINTS = np.random.default_rng(0).uniform(100, 400, (NUM_LANDMARKS, 3))


def write(folder: Path, *frames: Any, protocol: int = 4) -> Path:
    for number, frame in enumerate(frames):
        (folder / f"{number}.pkl").write_bytes(pickle.dumps(frame, protocol=protocol))
    return folder


def file_of(folder: Path, data: bytes) -> Path:
    path = folder / "0.pkl"
    path.write_bytes(data)
    return path


def as_numpy_2(data: bytes, protocol: int) -> bytes:
    """The same pickle with the module names of numpy 2."""
    if protocol < 4:
        return data.replace(b"numpy.core.", b"numpy._core.")
    for module in (b"numpy.core.multiarray", b"numpy.core.numeric"):
        old, new = bytes([len(module)]) + module, bytes([len(module) + 1]) + module.replace(b".core", b"._core")
        count = data.count(old)
        data = data.replace(old, new)
        frame = data.index(b"\x95") + 1
        length = struct.unpack("<Q", data[frame : frame + 8])[0] + count
        data = data[:frame] + struct.pack("<Q", length) + data[frame + 8 :]
    return data


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f8", "<i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_numpy_1_and_2_are_read_bit_for_bit(tmp_path: Path, protocol: int, dtype: str, order: str) -> None:
    array = np.array(POINTS, dtype=dtype, order=order)  # type: ignore[call-overload]
    data = pickle.dumps(array, protocol=protocol)
    for written in (data, as_numpy_2(data, protocol)):
        read = read_array(file_of(tmp_path, written))
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_python_2_pickle_is_read(tmp_path: Path) -> None:
    array = np.array([[1.0, -2.5]])
    raw = array.tobytes()
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01K\x02\x86"
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U" + bytes([len(raw)]) + raw + b"tb."
    )
    assert pickle.loads(data, encoding="latin1").tolist() == array.tolist()
    np.testing.assert_array_equal(read_array(file_of(tmp_path, data)), array)


def test_array_inside_plain_containers_is_read(tmp_path: Path) -> None:
    content = {"name": "frame", "scores": [0.5, None, True], "points": (POINTS,), "scale": np.float64(2.0)}
    np.testing.assert_array_equal(read_array(file_of(tmp_path, pickle.dumps(content))), POINTS)


def test_published_pose_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    published = Golden("echomimic", "motion/pose_pkl.npz")
    frames = [published[name] for name in ("pkl0", "pkl7", "pkl100", "pkl239")]
    track = load_pose_folder(write(tmp_path, *frames))
    np.testing.assert_array_equal(track.landmarks.points, np.stack(frames).astype(np.float32))
    assert (track.fps, track.size_px, len(track), track.found.all()) == (24.0, (512, 512), 4, True)
    assert track.matrices is None


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, *(POINTS + number for number in range(12)))
    (tmp_path / "audio.wav").write_bytes(b"RIFF")
    track = load_pose_folder(tmp_path)
    np.testing.assert_allclose(track.landmarks.points[:, 0, 0] - POINTS[0, 0], range(12), atol=1e-4)


def test_points_without_depth_lie_at_zero(tmp_path: Path) -> None:
    track = load_pose_folder(write(tmp_path, POINTS[:, :2]))
    assert not track.landmarks.points[..., 2].any()
    assert "without depth" in track.source


def test_gap_in_the_numbers_is_named(tmp_path: Path) -> None:
    write(tmp_path, POINTS, POINTS, POINTS)
    (tmp_path / "1.pkl").unlink()
    with pytest.raises(InputError, match=r"no 1\.pkl"):
        load_pose_folder(tmp_path)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (POINTS[:468], "without irises"),
        (POINTS[:100], "expected"),
        (POINTS.astype(bool), "expected"),
        (POINTS * np.nan, "not finite"),
        (POINTS / 512, "not fractions"),
        (POINTS * 1e6, "pixels away"),
    ],
)
def test_unusable_points_are_refused_with_the_reason(tmp_path: Path, frame: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_pose_folder(write(tmp_path, frame))


def test_frames_with_and_without_depth_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mixes"):
        load_pose_folder(write(tmp_path, POINTS, POINTS[:, :2]))


def test_folder_without_frames_or_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pose folder"):
        load_pose_folder(tmp_path)
    with pytest.raises(MediaError, match="cannot be read"):
        load_pose_folder(tmp_path / "absent")


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def hostile() -> dict[str, bytes]:
    """Pickles that attack the reader; some would make a file MARKER in the current folder."""
    call = b"cnumpy.core.multiarray\n_reconstruct\n"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    floats = b"cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R"
    huge = b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"
    return {
        "shell": pickle.dumps(_Runs(os.system, "touch MARKER")),
        "python": pickle.dumps([POINTS, _Runs(exec, "open('MARKER', 'w')")]),
        "old protocol": pickle.dumps(_Runs(os.system, "touch MARKER"), protocol=0),
        "instance": b"(S'touch MARKER'\nios\nsystem\n.",
        "object array": pickle.dumps(np.array([_Runs(os.system, "touch MARKER")], dtype=object)),
        "objects as numbers": b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.",
        "structured type": pickle.dumps(np.zeros(3, dtype=[("a", "f8"), ("b", "O")])),
        "numpy by another door": b"\x80\x02cnumpy\nload\nX\x06\x00\x00\x00MARKER\x85R.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.__new__\x93.",
        "state of a function": b"\x80\x02" + call + b"}X\x01\x00\x00\x00xK\x01sb.",
        "persistent": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "extension": b"\x80\x02\x82\x01.",
        "gigabytes of memo": b"\x80\x02Nr\xff\xff\xff\xff0N.",
        "gigabytes of bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00abc.",
        "gigabytes of shape": b"\x80\x04" + array + huge + floats + b"\x89C\x00tb.",
        "negative shape": b"\x80\x04" + array + b"(K\x01J\xff\xff\xff\xff\x85" + floats + b"\x89C\x08aaaaaaaatb.",
        "deep key": b"\x80\x02}N" + b"\x85" * 200_000 + b"Ns.",
        "deep list": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
        "many objects": b"\x80\x02(" + b"N" * 500_000 + b"t.",
        "list of itself": b"\x80\x02]q\x00h\x00a.",
        "lists of lists": b"".join(
            (b"\x80\x02]q\x00(", b"N" * 900, b"e](", b"h\x00" * 900, b"eq\x01](", b"h\x01" * 900, b"e.")
        ),
        "nothing": b"\x80\x04N.",
        "several": pickle.dumps([POINTS, POINTS + 1]),
        "no pickle": b"<!doctype html><html>",
        "too large": pickle.dumps(np.zeros(MAX_BYTES)),
        "no bytes": b"",
    }


@pytest.mark.parametrize("name", hostile())
@pytest.mark.timeout(20)
def test_hostile_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MediaError) as caught:
        read_array(file_of(tmp_path, hostile()[name]))
    assert not Path("MARKER").exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["shell", "python", "old protocol", "instance", "object array"])
def test_attacks_would_succeed_against_python_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(hostile()[name])
    assert Path("MARKER").exists()


VALID = [pickle.dumps(POINTS[:4], protocol=protocol) for protocol in (2, 4, 5)]
SNIPPETS = [
    *(
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy\nndarray\n",
        b"cnumpy\ndtype\n",
        b"cnumpy.core.multiarray\nscalar\n",
    ),
    *(b"cnumpy.core.numeric\n_frombuffer\n", b"c_codecs\nencode\n"),
    *(b"cos\nsystem\n", b"cbuiltins\nexec\n"),
    *(b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"}", b"]", b")", b"a", b"e", b"s", b"u", b"0", b"2", b"N"),
    *(b"K\x01", b"K\x08", b"C\x08aaaaaaaa", b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00O8", b"X\x01\x00\x00\x00C"),
    *(b"X\x06\x00\x00\x00latin1", b"q\x00", b"h\x00", b"\x94", b"G\x00\x00\x00\x00\x00\x00\x00\x00", b"\x88", b"\x81"),
]


def outcome(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(MediaError):
        assert isinstance(read_array(file_of(Path(folder), data)), np.ndarray)


@given(st.sampled_from(VALID), st.integers(0, 400))
@settings(max_examples=100)
@pytest.mark.timeout(120)
def test_truncated_pickle_is_an_error_of_ours(data: bytes, length: int) -> None:
    if length < len(data):
        with tempfile.TemporaryDirectory() as folder, pytest.raises(MediaError):
            read_array(file_of(Path(folder), data[:length]))


@given(st.sampled_from(VALID), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=200)
@pytest.mark.timeout(120)
def test_damaged_pickle_is_an_array_or_an_error_of_ours(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    outcome(bytes(damaged))


@given(st.lists(st.sampled_from(SNIPPETS), max_size=25))
@example([SNIPPETS[0], b"}", b"b"])
@settings(max_examples=300)
@pytest.mark.timeout(120)
def test_any_program_is_an_array_or_an_error_of_ours(program: list[bytes]) -> None:
    outcome(b"\x80\x04" + b"".join(program) + b".")
