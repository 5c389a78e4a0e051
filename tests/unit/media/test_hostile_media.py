"""Truncated and hostile files: an error of our own family, never a traceback, a hang or partial output."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from portraitanim.errors import MediaError
from portraitanim.media.audio import load_audio
from portraitanim.media.files import whole_file
from portraitanim.media.image import load_image, save_image
from portraitanim.media.video import iter_video, probe_video
from portraitanim.media.video_writer import VideoWriter
from tests.unit.media.generated_media import smooth_picture, tone, write_wav

IMAGES = ("a.png", "a.jpg", "a.webp", "a.tiff", "a.gif")
SOUNDS = ("a.wav", "a.flac", "a.ogg", "a.mp3", "a.mp4", "a.mkv")
VIDEOS = ("a.mp4", "a.mov", "a.mkv", "a.webm", "a.gif")


class GoodFiles(dict[str, bytes]):
    """Prints short when a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self)} files>"


@pytest.fixture(scope="module")
def good_files(tmp_path_factory: pytest.TempPathFactory) -> GoodFiles:
    """One small whole file of each kind; those of ``image a.gif`` and ``video a.gif`` differ."""
    folder = tmp_path_factory.mktemp("good")
    files = GoodFiles()
    picture = smooth_picture(40, 48)
    for name in IMAGES:
        if name.endswith("gif"):
            Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(folder / name)
        else:
            save_image(picture, folder / name)
        files[f"image {name}"] = (folder / name).read_bytes()
    for name in SOUNDS[:4]:
        files[f"sound {name}"] = write_wav(folder / name, tone(0.4, 16_000, 2)).read_bytes()
    for name in VIDEOS:
        sound = None if name.endswith("gif") else tone(0.4, 16_000)
        with VideoWriter(folder / name, 25, audio=sound) as writer:
            writer.write(np.stack([smooth_picture(32, 48, index) for index in range(10)]))
        files[f"video {name}"] = (folder / name).read_bytes()
        if name in SOUNDS:
            files[f"sound {name}"] = files[f"video {name}"]
    return files


def read_image(path: Path) -> None:
    assert load_image(path).shape[0] == 3


def read_sound(path: Path) -> None:
    assert np.isfinite(load_audio(path, 8_000).samples).all()


def read_video_frames(path: Path) -> None:
    probe_video(path)
    for index, frame in enumerate(iter_video(path, 25)):
        assert frame.image.dtype == np.uint8
        if index == 200:  # a damaged time stamp may ask for a long still, which is allowed
            break


READERS: dict[str, Callable[[Path], None]] = {
    "image": read_image,
    "sound": read_sound,
    "video": read_video_frames,
}
KINDS = (
    [f"image {name}" for name in IMAGES] + [f"sound {name}" for name in SOUNDS] + [f"video {name}" for name in VIDEOS]
)


def read_or_refuse(kind: str, data: bytes, folder: Path) -> None:
    """Anything but success or `MediaError` fails the test."""
    reader, name = kind.split()
    path = folder / name
    path.write_bytes(data)
    try:
        READERS[reader](path)
    except MediaError as error:
        message = str(error)
        assert str(path) in message
        assert message.rstrip().endswith((".", "?"))


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_read(kind: str, good_files: dict[str, bytes], tmp_path: Path) -> None:
    reader, name = kind.split()
    (tmp_path / name).write_bytes(good_files[kind])
    READERS[reader](tmp_path / name)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(kind: str, good_files: dict[str, bytes], tmp_path: Path) -> None:
    data = good_files[kind]
    for share in (0.001, 0.02, 0.1, 0.3, 0.5, 0.8, 0.95, 0.999):
        read_or_refuse(kind, data[: max(1, int(len(data) * share))], tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes(kind: str, good_files: dict[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(good_files[kind])
    # Half of the damage in the header, where sizes and counts are.
    for _ in range(data.draw(st.integers(1, 8))):
        limit = data.draw(st.sampled_from([64, len(content) - 1]))
        place = data.draw(st.integers(0, min(limit, len(content) - 1)))
        content[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    read_or_refuse(kind, bytes(content), tmp_path)


@pytest.mark.parametrize("kind", ["image a.png", "sound a.wav", "video a.mp4"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=400))
def test_any_bytes(kind: str, tmp_path: Path, content: bytes) -> None:
    read_or_refuse(kind, content, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_another_kind(kind: str, good_files: dict[str, bytes], tmp_path: Path) -> None:
    for other in KINDS[::3]:
        read_or_refuse(kind, good_files[other], tmp_path)


def wav_header(rate_hz: int, num_channels: int, data_size: int) -> bytes:
    block = 2 * num_channels
    form = struct.pack("<HHIIHH", 1, num_channels, rate_hz, (rate_hz * block) & 0xFFFFFFFF, block & 0xFFFF, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", data_size)
    return b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + body


@pytest.mark.parametrize(
    "header",
    [
        wav_header(0, 1, 100),
        wav_header(0xFFFFFFFF, 1, 100),
        wav_header(16_000, 0, 100),
        wav_header(16_000, 65_535, 100),
        wav_header(16_000, 1_000, 100),
        wav_header(1, 1, 100),
        wav_header(16_000, 1, 0xFFFFFFFF),
        wav_header(16_000, 1, 0),
    ],
)
def test_sound_headers_that_lie(tmp_path: Path, header: bytes) -> None:
    read_or_refuse("sound a.wav", header + bytes(1_000), tmp_path)


def test_png_that_claims_a_huge_size(tmp_path: Path, good_files: dict[str, bytes]) -> None:
    data = bytearray(good_files["image a.png"])
    data[16:24] = struct.pack(">II", 0x7FFFFFFF, 0x7FFFFFFF)
    read_or_refuse("image a.png", bytes(data), tmp_path)


def test_sound_track_in_an_unknown_codec(tmp_path: Path, good_files: dict[str, bytes]) -> None:
    data = good_files["video a.mkv"].replace(b"A_AAC", b"A_XYZ")
    (tmp_path / "a.mkv").write_bytes(data)
    assert not probe_video(tmp_path / "a.mkv").has_audio
    with pytest.raises(MediaError, match="unknown codec"):
        load_audio(tmp_path / "a.mkv")


def test_hostile_sound_leaves_no_video(tmp_path: Path, good_files: dict[str, bytes]) -> None:
    data = good_files["sound a.flac"]
    (tmp_path / "a.flac").write_bytes(data[: len(data) // 2])
    out = tmp_path / "out"
    out.mkdir()
    frames = np.stack([smooth_picture(32, 32)] * 20)
    try:
        with VideoWriter(out / "a.mp4", 25, audio=tmp_path / "a.flac") as writer:
            writer.write(frames)
    except MediaError:
        assert not list(out.iterdir())
    else:
        assert probe_video(out / "a.mp4").num_frames == 20


def test_pipes_are_refused_at_once(tmp_path: Path) -> None:
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe.mp4")
    for read in READERS.values():
        with pytest.raises(MediaError, match="pipe or device"):
            read(tmp_path / "pipe.mp4")


def test_impossible_names_are_refused() -> None:
    for name in ("a" * 5_000, "a\0b.png", ""):
        for read in READERS.values():
            with pytest.raises(MediaError):
                read(Path(name))


def test_full_disk_under_tensors_is_said_as_under_any_file(tmp_path: Path) -> None:
    """Safetensors puts the system's error into the text of its own."""

    class RustError(Exception):
        pass

    with pytest.raises(MediaError, match="the disk is full"), whole_file(tmp_path / "states.safetensors"):
        raise RustError("I/O error: No space left on device (os error 28)")
    with pytest.raises(RustError), whole_file(tmp_path / "states.safetensors"):
        raise RustError("not of the system")
