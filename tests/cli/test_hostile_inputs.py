"""Truncated and hostile files through the command: one line of our own, never a traceback, a hang or leftovers."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portraitanim.checkpoints import animators
from portraitanim.cli.app import run
from portraitanim.media.audio import load_audio, save_audio
from portraitanim.media.image import load_image, resize_image, save_image
from portraitanim.media.video_writer import VideoWriter
from portraitanim.types import AudioTrack
from tests.examples import PORTRAIT, SPEECH
from tests.small_weights import small_weights

Command = Callable[..., tuple[int, str, str]]

KNOWN_CODES = {0, 2, 3}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    small_weights(folder)
    return folder


@pytest.fixture
def command(
    capfd: pytest.CaptureFixture[str], weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Runs ``animate`` with weights that are loaded once; what it leaves behind fails the test."""
    loaded: list[object] = []
    load = animators.load_animator

    def once(choice: animators.WeightsChoice, **options: object) -> object:
        if not loaded:
            loaded.append(load(choice, **options))  # type: ignore[arg-type]
        return loaded[0]

    monkeypatch.setattr(animators, "load_animator", once)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        for made in (tmp_path / "out").iterdir():
            made.unlink()
        with pytest.raises(SystemExit) as stopped:
            run(["animate", *map(str, words), "--weights", str(weights), "--device", "cpu", "--dtype", "fp32"])
        out, err = capfd.readouterr()
        code = int(stopped.value.code or 0)
        assert "Traceback" not in err, err
        assert "not an expected error" not in err, err
        assert code in (*KNOWN_CODES, 6), err
        if code in (2, 3):
            assert "error: " in err
            assert not list((tmp_path / "out").iterdir()), "a failed run leaves nothing behind"
        return code, out, err

    return call


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small whole files, by suffix."""
    folder = tmp_path_factory.mktemp("good")
    face = resize_image(load_image(PORTRAIT), 128, 128)
    sound = load_audio(SPEECH, 16_000, duration_seconds=0.2)
    for name in ("a.png", "a.jpg", "a.webp"):
        save_image(face, folder / name)
    for name in ("a.wav", "a.flac"):
        save_audio(sound, folder / name)
    with VideoWriter(folder / "a.mp4", 25, audio=sound) as writer:
        for _ in range(5):
            writer.write(face)
    from portraitanim.face.face_track import FaceTrack
    from portraitanim.pipelines.track_files import save_track
    from portraitanim.types import FaceLandmarks

    points = np.random.default_rng(0).uniform(20, 100, (5, 478, 3)).astype(np.float32)
    track = FaceTrack(
        landmarks=FaceLandmarks(points=points), fps=25.0, size_px=(128, 128), found=np.ones(5, bool), source="test"
    )
    save_track(folder / "a.safetensors", track)
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


def place(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """Cut short, with bytes replaced, or with a piece twice."""
    cut = st.integers(0, len(data) - 1).map(lambda end: data[:end])
    spot = st.tuples(st.integers(0, min(len(data), 600) - 1), st.binary(min_size=1, max_size=8))
    flipped = spot.map(lambda hit: data[: hit[0]] + hit[1] + data[hit[0] + len(hit[1]) :])
    doubled = st.integers(0, len(data) - 1).map(lambda at: data[:at] + data[at // 2 :])
    return st.one_of(cut, flipped, doubled)


FUZZ = settings(
    max_examples=5,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large, HealthCheck.too_slow],
)
SHORT = ("--duration", 0.04)


@FUZZ
@given(data=st.data())
def test_damaged_portrait(command: Command, good: dict[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from([".png", ".jpg", ".webp"]))
    picture = place(tmp_path / f"face{suffix}", data.draw(damaged(good[suffix])))
    finish(tmp_path, command(picture, SPEECH, "-o", "talk.mp4", *SHORT)[0])


@FUZZ
@given(data=st.data())
def test_damaged_sound(command: Command, good: dict[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from([".wav", ".flac", ".mp4"]))
    sound = place(tmp_path / f"sound{suffix}", data.draw(damaged(good[suffix])))
    finish(tmp_path, command(PORTRAIT, sound, "-o", "talk.mp4", *SHORT)[0])


@FUZZ
@given(data=st.data())
def test_damaged_driver(command: Command, good: dict[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from([".mp4", ".safetensors"]))
    driver = place(tmp_path / f"driver{suffix}", data.draw(damaged(good[suffix])))
    finish(tmp_path, command(PORTRAIT, "--driving", driver, "-o", "talk.mp4", *SHORT)[0])


def finish(folder: Path, code: int) -> None:
    """A file that could be read all the same has made a video, and nothing else."""
    left = sorted(path.name for path in (folder / "out").iterdir())
    assert not code or not left
    assert all(name in ("talk.mp4", "talk.mp4.json") for name in left)


class Evil:
    """Runs a command when it is unpickled by pickle itself."""

    def __reduce__(self) -> tuple:
        return (os.system, ("touch hacked",))


def hostile_drivers(folder: Path, good: dict[str, bytes]) -> dict[str, tuple[Path, str]]:
    evil = folder / "evil"
    evil.mkdir()
    (evil / "0.pkl").write_bytes(pickle.dumps(Evil()))
    holes = folder / "holes"
    holes.mkdir()
    for number in (0, 2):
        (holes / f"{number}.pkl").write_bytes(pickle.dumps(np.zeros((478, 3))))
    (folder / "none").mkdir()
    silent = folder / "still.mp4"
    with VideoWriter(silent, 25) as writer:
        writer.write(np.zeros((3, 64, 64), np.uint8))
    promise = {"landmarks": {"dtype": "F32", "shape": [1 << 40, 478, 3], "data_offsets": [0, 4]}}
    header = json.dumps(promise).encode()
    big = struct.pack("<Q", len(header)) + header + b"0000"
    return {
        "evil": (evil, "asks for"),
        "holes": (holes, "no 1.pkl"),
        "empty folder": (folder / "none", "no pose folder"),
        "no face": (silent, "face"),
        "single pickle": (place(folder / "0.pkl", pickle.dumps(np.zeros((478, 3)))), "0.pkl"),
        "sound": (place(folder / "a.wav", good[".wav"]), "no moving picture"),
        "promised terabytes": (place(folder / "big.safetensors", big), ""),
        "text": (place(folder / "a.safetensors", b"hello"), ""),
        "pipe": (Path("/dev/zero"), "pipe or device"),
    }


def test_hostile_driver_is_refused(command: Command, good: dict[str, bytes], tmp_path: Path) -> None:
    for name, (driver, message) in hostile_drivers(tmp_path, good).items():
        code, out, err = command(PORTRAIT, "--driving", driver, "-o", "talk.mp4")
        assert (code in (2, 3), out) == (True, ""), name
        assert message in err, name
    assert not list(tmp_path.rglob("hacked"))


def hostile_pictures(folder: Path) -> dict[str, tuple[Path, str]]:
    def chunk(kind: bytes, body: bytes) -> bytes:
        import zlib

        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    save_image(np.full((3, 1, 1), 128, np.uint8), folder / "dot.png")
    save_image(np.full((3, 2, 3000), 128, np.uint8), folder / "line.png")
    return {
        "bomb": (place(folder / "bomb.png", bomb + chunk(b"IDAT", b"") + chunk(b"IEND", b"")), "too large"),
        "one pixel": (folder / "dot.png", "No face"),
        "line": (folder / "line.png", "No face"),
        "script": (place(folder / "a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not a picture"),
        "postscript": (place(folder / "a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not a picture"),
        "sound": (SPEECH, "not a picture"),
        "folder": (folder, "is a folder"),
    }


def test_hostile_picture_is_refused(command: Command, tmp_path: Path) -> None:
    for name, (picture, message) in hostile_pictures(tmp_path).items():
        code, out, err = command(picture, SPEECH, "-o", "talk.mp4")
        assert (code in (2, 3), out) == (True, ""), name
        assert message in err, name


def test_hostile_sound_is_refused(command: Command, good: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "playlist.m3u8").write_text("#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile {SPEECH}\n")
    sounds = {
        "picture": PORTRAIT,
        "playlist": tmp_path / "playlist.m3u8",
        "list of files": tmp_path / "list.ffconcat",
        "text": place(tmp_path / "a.mp3", b"not a sound at all" * 50),
        "header alone": place(tmp_path / "a.wav", good[".wav"][:44]),
        "device": Path("/dev/zero"),
    }
    for name, sound in sounds.items():
        code, out, _ = command(PORTRAIT, sound, "-o", "talk.mp4")
        assert (code, out) == (2, ""), name


def test_sound_of_a_single_sample_makes_one_frame(command: Command, tmp_path: Path) -> None:
    save_audio(AudioTrack(samples=np.full((1, 1), 0.1, np.float32), sample_rate_hz=16_000), tmp_path / "dot.wav")
    code, out, _ = command(PORTRAIT, tmp_path / "dot.wav", "-o", "talk.mp4", "--json")
    assert (code, json.loads(out)["num_frames"]) == (0, 1)


HOSTILE_BATCHES = {
    "a.csv": b"portrait,audio\n\x00,\x00\n",
    "b.csv": b'portrait,audio\n"never closed,b.wav\n',
    "c.csv": b"portrait,audio\n" + b"x" * 200_000 + b",b.wav\n",
    "d.jsonl": b"[" * 100_000,
    "e.jsonl": b'{"portrait": "a.jpg", "seed": 1e999}\n',
    "f.jsonl": b'{"portrait": "a.jpg", "overrides": "x"}\n',
    "g.jsonl": b'{"portrait": "\\u0000"}\n',
    "h.jsonl": b'{"portrait": "a.jpg", "duration": NaN}\n',
    "i.csv": "portrait,audio\n".encode("utf-16"),
    "j.csv": b"portrait,output\n" + f"{PORTRAIT},{'x' * 3000}.mp4\n".encode(),
}


@pytest.mark.parametrize("name", HOSTILE_BATCHES)
def test_hostile_batch_file(command: Command, tmp_path: Path, name: str) -> None:
    code, _, err = command("--batch", place(tmp_path / name, HOSTILE_BATCHES[name]))
    assert code in (2, 6)
    assert "error: " in err


def test_bad_row_of_a_batch_of_one_is_a_failed_job(command: Command, tmp_path: Path) -> None:
    batch = place(tmp_path / "jobs.jsonl", b'{"portrait": "none.jpg", "audio": "none.wav"}\n')
    code, out, _ = command("--batch", batch, "--json")
    assert (code, json.loads(out)[0]["status"]) == (6, "failed")


def test_check_needs_no_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes before a download of gigabytes."""
    monkeypatch.setenv("PORTRAITANIM_WEIGHTS", str(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        run(["animate", str(PORTRAIT), "--check", "--json", "--weights", "hallo"])
    assert stopped.value.code in (0, None)
    values = json.loads(capsys.readouterr().out)
    (size,) = (finding for finding in values["picture"]["findings"] if finding["name"] == "face size")
    assert size["verdict"] in ("ok", "warn")
