"""Videos out: right colours, right length, sound in sync, and never a broken file."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from portraitanim.errors import InputError, MediaError, ShapeError
from portraitanim.media.audio import load_audio
from portraitanim.media.image import load_image
from portraitanim.media.video import iter_video, probe_video
from portraitanim.media.video_writer import VideoWriter
from portraitanim.types import AudioTrack
from tests.unit.media.generated_media import grey_of, smooth_picture, tone, write_wav

REPOSITORY = Path(__file__).resolve().parents[3]
WITH_SOUND = ["mp4", "m4v", "mov", "mkv", "webm"]


def moving(num_frames: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return [smooth_picture(height, width, index) for index in range(num_frames)]


@pytest.mark.parametrize("suffix", [*WITH_SOUND, "gif"])
def test_frames_come_back_with_their_colours(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    frames = moving(30)
    with VideoWriter(path, 25) as writer:
        for frame in frames:
            writer.write(frame)
    decoded = [frame.image for frame in iter_video(path)]
    assert len(decoded) == 30
    error = np.stack(decoded).astype(int) - np.stack(frames)
    assert np.abs(error).mean() < (4.0 if suffix == "gif" else 1.5)  # levels of 255; GIF has 256 colours
    # Codecs round the flat colour of tiny pictures; a wrong matrix or range would shift it by five and more.
    assert np.abs(error.mean(axis=(0, 2, 3))).max() < 1.5
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (222, 170, 140)])
def test_flat_colours_are_kept(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    frame = np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (3, 32, 32))
    with VideoWriter(tmp_path / "a.mp4", 25, crf=10) as writer:
        for _ in range(3):
            writer.write(frame)
    got = next(iter_video(tmp_path / "a.mp4")).image
    assert np.abs(got.reshape(3, -1).mean(axis=1) - colour).max() <= 2  # 8-bit YUV in limited range


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_colours_are_tagged(tmp_path: Path, suffix: str) -> None:
    with VideoWriter(tmp_path / f"a.{suffix}", 25) as writer:
        writer.write(np.stack(moving(3)))
    with av.open(str(tmp_path / f"a.{suffix}")) as container:
        context = container.streams.video[0].codec_context
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert [int(tag) for tag in tags] == [1, 1, 1, 1]  # bt709, limited
        assert context.pix_fmt == "yuv420p"


def test_floats_are_rounded_not_cut(tmp_path: Path) -> None:
    levels = (np.arange(256, dtype=np.float32) / 255.0).reshape(1, 16, 16).repeat(3, axis=0)
    with VideoWriter(tmp_path / "frames", 25) as writer:
        writer.write(levels - 1e-4)
        writer.write(levels * 2 - 0.5)
    assert np.array_equal(load_image(tmp_path / "frames" / "frame_000000.png")[0].ravel(), np.arange(256))
    clipped = load_image(tmp_path / "frames" / "frame_000001.png")
    assert (clipped.min(), clipped.max()) == (0, 255)


@pytest.mark.parametrize("fps", [24, 25, 29.97, Fraction(24_000, 1_001), 12.5])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_duration_is_exact(tmp_path: Path, fps: float | Fraction, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    with VideoWriter(path, fps, audio=tone(9.0, 44_100)) as writer:
        writer.write(np.stack(moving(50, 32, 32)))
        exact = 50 / writer.fps
    times = [frame.seconds for frame in iter_video(path)]
    assert times == pytest.approx([float(index * exact / 50) for index in range(50)], abs=0.001)  # MKV has 1 ms
    if suffix == "mp4":
        with av.open(str(path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert video.duration * video.time_base == exact
            assert abs(audio.duration * audio.time_base - exact) <= Fraction(1, 44_100)
            assert video.start_time == audio.start_time == 0


@pytest.mark.parametrize("suffix", WITH_SOUND)
@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_sound_is_cut_and_padded_to_the_picture(tmp_path: Path, suffix: str, rate_hz: int) -> None:
    frames = np.stack(moving(25, 32, 32))
    for name, seconds in (("long", 3.0), ("short", 0.5)):
        path = tmp_path / f"{name}.{suffix}"
        with VideoWriter(path, 25, audio=tone(seconds, rate_hz, 2)) as writer:
            writer.write(frames)
        track = load_audio(path)
        loud = np.flatnonzero(np.abs(track.samples[0]) > 0.2)
        assert track.samples.shape[0] == 2
        assert abs(track.duration_seconds - 1.0) < 0.03  # up to a codec block where the container hides padding
        assert loud[0] / track.sample_rate_hz < 0.005
        assert abs(loud[-1] / track.sample_rate_hz - min(seconds, 1.0)) < 0.01


def test_sound_file_keeps_its_rate_and_channels(tmp_path: Path) -> None:
    for rate_hz, num_channels, got_channels in ((44_100, 2, 2), (16_000, 1, 1), (48_000, 6, 1)):
        source = write_wav(tmp_path / "a.wav", tone(1.0, rate_hz, num_channels))
        with VideoWriter(tmp_path / "a.mp4", 25, audio=source, audio_start_seconds=0.2) as writer:
            writer.write(np.stack(moving(10, 32, 32)))
        info = probe_video(tmp_path / "a.mp4")
        assert (info.audio_sample_rate_hz, info.audio_channels) == (rate_hz, got_channels)


def test_rates_that_the_codec_has_not_are_resampled(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25, audio=tone(1.0, 37_800)) as writer:
        writer.write(np.stack(moving(10, 32, 32)))
    assert probe_video(tmp_path / "a.mp4").audio_sample_rate_hz == 48_000


def click_track(path: Path, seconds: int, rate_hz: int) -> Path:
    """A short loud tone at the start of every tenth second."""
    samples = np.zeros(seconds * rate_hz, np.float32)
    click = 0.8 * np.sin(2 * np.pi * 2_000 * np.arange(rate_hz // 25) / rate_hz)
    for second in range(0, seconds, 10):
        samples[second * rate_hz : second * rate_hz + len(click)] = click
    return write_wav(path, AudioTrack(samples=samples[None], sample_rate_hz=rate_hz))


def flashes(num_frames: int, fps: Fraction) -> Iterator[np.ndarray]:
    """White at each tenth second, black elsewhere."""
    white, black = np.full((3, 16, 16), 255, np.uint8), np.zeros((3, 16, 16), np.uint8)
    for index in range(num_frames):
        yield white if (index / fps) % 10 < 1 / fps else black


def assert_in_sync(path: Path, num_clicks: int, frame_seconds: float) -> None:
    lit = np.array([frame.seconds for frame in iter_video(path) if grey_of(frame.image) > 127])
    track = load_audio(path)
    loud = np.flatnonzero(np.abs(track.samples[0]) > 0.3) / track.sample_rate_hz
    clicks = loud[np.r_[True, np.diff(loud) > 1]]
    assert len(lit) == len(clicks) == num_clicks
    assert np.abs(lit - clicks).max() <= frame_seconds  # from the first to the last


@pytest.mark.parametrize(("suffix", "fps"), [("mp4", 25), ("mp4", 29.97), ("mov", 24), ("mkv", 30), ("webm", 25)])
def test_click_track_stays_in_sync_for_minutes(tmp_path: Path, suffix: str, fps: float) -> None:
    seconds = 121
    clicks = click_track(tmp_path / "clicks.wav", seconds, 22_050)
    path = tmp_path / f"a.{suffix}"
    with VideoWriter(path, fps, audio=clicks) as writer:
        for frame in flashes(round(seconds * writer.fps), writer.fps):
            writer.write(frame)
    assert_in_sync(path, seconds // 10 + 1, 1 / fps)


@pytest.mark.slow
def test_click_track_stays_in_sync_for_ten_minutes(tmp_path: Path) -> None:
    clicks = click_track(tmp_path / "clicks.wav", 601, 44_100)
    with VideoWriter(tmp_path / "a.mp4", 25, audio=clicks) as writer:
        for frame in flashes(601 * 25, writer.fps):
            writer.write(frame)
    assert_in_sync(tmp_path / "a.mp4", 61, 1 / 25)


def test_fast_start_puts_the_index_first(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(np.stack(moving(5)))
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("suffix", WITH_SOUND)
def test_metadata_is_stored(tmp_path: Path, suffix: str) -> None:
    wanted = {"title": "Ünïcode", "comment": "made by a machine", "copyright": "nobody"}
    with VideoWriter(tmp_path / f"a.{suffix}", 25, metadata=wanted) as writer:
        writer.write(np.stack(moving(3)))
    got = probe_video(tmp_path / f"a.{suffix}").metadata
    assert {key: got.get(key) for key in wanted} == wanted


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_every_accepted_key_survives(tmp_path: Path, suffix: str) -> None:
    from portraitanim.media.video_formats import VIDEO_FORMATS

    keys = VIDEO_FORMATS[f".{suffix}"].metadata_keys or ()
    wanted = dict.fromkeys(keys, "2026")
    with VideoWriter(tmp_path / f"a.{suffix}", 25, metadata=wanted) as writer:
        writer.write(np.stack(moving(3)))
    got = probe_video(tmp_path / f"a.{suffix}").metadata
    assert {key: got.get(key) for key in wanted} == wanted


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.gif"])
def test_xmp_is_in_the_file_and_the_file_still_reads(tmp_path: Path, name: str) -> None:
    xmp = "<x:xmpmeta xmlns:x='adobe:ns:meta/'>trainedAlgorithmicMedia</x:xmpmeta>"
    with VideoWriter(tmp_path / name, 25, xmp=xmp, metadata={"comment": "c" * 300}) as writer:
        writer.write(np.stack(moving(4)))
    assert xmp.encode() in (tmp_path / name).read_bytes()
    assert sum(1 for _ in iter_video(tmp_path / name)) == 4
    if name == "a.gif":
        with Image.open(tmp_path / name) as picture:
            assert picture.n_frames == 4


def test_picture_folder_is_lossless_and_carries_metadata(tmp_path: Path) -> None:
    frames = moving(3, 31, 33)
    with VideoWriter(tmp_path / "frames", 25, metadata={"Comment": "ü"}, xmp="<x/>") as writer:
        writer.write(np.stack(frames))
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]
    files = sorted((tmp_path / "frames").iterdir())
    assert [file.name for file in files] == ["frame_000000.png", "frame_000001.png", "frame_000002.png"]
    for file, frame in zip(files, frames, strict=True):
        assert np.array_equal(load_image(file), frame)
        with Image.open(file) as picture:
            assert picture.text["Comment"] == "ü"  # type: ignore[attr-defined]
    with pytest.raises(MediaError, match="empty folder"):
        VideoWriter(tmp_path / "frames", 25)


@pytest.mark.parametrize(("odd_size", "size"), [("pad", (34, 36)), ("crop", (32, 34))])
def test_odd_sizes_are_padded_or_cropped(tmp_path: Path, odd_size: str, size: tuple[int, int]) -> None:
    frame = smooth_picture(33, 35)
    with VideoWriter(tmp_path / "a.mp4", 25, crf=8, odd_size=odd_size) as writer:
        writer.write(np.stack([frame] * 3))
    got = next(iter_video(tmp_path / "a.mp4")).image
    assert got.shape == (3, *size)
    assert np.abs(got[:, :32, :34].astype(int) - frame[:, :32, :34]).mean() < 1.5  # nothing is moved


def test_odd_sizes_can_be_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ShapeError, match="even"),
        VideoWriter(tmp_path / "a.mp4", 25, odd_size="error") as writer,
    ):
        writer.write(smooth_picture(33, 35))
    assert not list(tmp_path.iterdir())


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    for name, options in {
        "a.gif": {"audio": tone(1, 8_000)},
        "b.gif": {"crf": 20},
        "c.gif": {"metadata": {"title": "x"}},
        "frames": {"audio": tone(1, 8_000)},
        "a.mp4": {"metadata": {"mood": "x"}},
        "b.mp4": {"crf": 70},
        "c.mp4": {"audio_start_seconds": 1.0},
        "d.mp4": {"audio": tone(1, 8_000), "audio_start_seconds": 2.0},
        "a.mkv": {"xmp": "<x/>"},
        "e.mp4": {"odd_size": "stretch"},
    }.items():
        with pytest.raises(InputError):
            VideoWriter(tmp_path / name, 25, **options)  # type: ignore[arg-type]
    with pytest.raises(MediaError, match=r"\.mp4"):
        VideoWriter(tmp_path / "a.exe", 25)
    with pytest.raises(InputError, match="50"):
        VideoWriter(tmp_path / "a.gif", 60)
    assert not list(tmp_path.iterdir())


def test_bad_sound_is_found_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(MediaError, match="cannot be read"):
        VideoWriter(tmp_path / "a.mp4", 25, audio=tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "frames"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_inside_leaves_nothing(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    with pytest.raises(error), VideoWriter(tmp_path / name, 25) as writer:  # noqa: PT012
        writer.write(np.stack(moving(20)))
        raise error
    assert not list(tmp_path.iterdir())
    assert not [thread for thread in threading.enumerate() if thread.name == "video-encoder"]


def test_an_error_inside_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "a.mp4", 25) as writer:  # noqa: PT012
        writer.write(moving(1)[0])
        1 / 0  # noqa: B018
    assert (tmp_path / "a.mp4").read_text() == "old"


def test_damage_in_the_sound_stops_the_writing(tmp_path: Path) -> None:
    track = tone(4.0, 8_000)
    track.samples[0, -1] = np.nan
    source = write_wav(tmp_path / "a.wav", track, subtype="FLOAT")
    writer = VideoWriter(tmp_path / "a.mp4", 25, audio=source)
    with pytest.raises(MediaError, match="not numbers"), writer:
        writer.write(np.stack(moving(100)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_no_frames_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No frame"), VideoWriter(tmp_path / "a.mp4", 25):
        pass
    assert not list(tmp_path.iterdir())


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    for frame in (
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((3, 16, 16), np.int32),
        np.full((3, 16, 16), np.nan, np.float32),
        np.zeros((3, 0, 16), np.uint8),
    ):
        with pytest.raises(ShapeError), VideoWriter(tmp_path / "a.mp4", 25) as writer:
            writer.write(frame)
    with pytest.raises(ShapeError, match="Frame 1"), VideoWriter(tmp_path / "a.mp4", 25) as writer:  # noqa: PT012
        writer.write(np.zeros((3, 16, 16), np.uint8))
        writer.write(np.zeros((3, 16, 18), np.uint8))
    assert not list(tmp_path.iterdir())


def test_frame_buffers_may_be_reused(tmp_path: Path) -> None:
    buffer = np.zeros((3, 16, 16), np.uint8)
    with VideoWriter(tmp_path / "frames", 25) as writer:
        for index in range(20):
            buffer[:] = index
            writer.write(buffer)
    levels = [load_image(path).max() for path in sorted((tmp_path / "frames").iterdir())]
    assert levels == list(range(20))


FULL_DISK = """
import resource, signal, sys
import numpy as np
from portraitanim.errors import MediaError
from portraitanim.media.video_writer import VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # the system refuses more, as a full disk does
noise = np.random.default_rng(0)
try:
    with VideoWriter(sys.argv[1], 25) as writer:
        for _ in range(60):
            writer.write(noise.integers(0, 256, (3, 128, 128), dtype=np.uint8))
except MediaError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the file size are POSIX")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif"])
def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / name)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    assert "Cannot write" in done.stdout
    assert not list(tmp_path.iterdir())


# A run in the background of a shell ignores the signal unless it says otherwise.
INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
from portraitanim.media.video_writer import VideoWriter
noise = np.random.default_rng(0).integers(0, 256, (3, 256, 256), dtype=np.uint8)
with VideoWriter(sys.argv[1], 25, audio=sys.argv[2]) as writer:
    while True:  # faster than the encoder: the signal mostly comes while the queue is full
        writer.write(noise)
        if writer.num_frames == 20:
            print("running", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent otherwise there")
@pytest.mark.parametrize("name", ["a.mp4", "frames"])
def test_ctrl_c_leaves_nothing(tmp_path: Path, name: str) -> None:
    sound = write_wav(tmp_path / "a.wav", tone(1, 16_000))
    code = INTERRUPTED if name == "a.mp4" else INTERRUPTED.replace(", audio=sys.argv[2]", "")
    command = [sys.executable, "-c", code, str(tmp_path / "out" / name), str(sound)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert said.rstrip().endswith(b"KeyboardInterrupt")
    assert not list((tmp_path / "out").iterdir())


MEMORY = """
import resource, sys
import numpy as np
from portraitanim.media.video_writer import VideoWriter
from portraitanim.media.video import iter_video
frames = np.random.default_rng(0).integers(0, 256, (8, 3, 64, 96), dtype=np.uint8)
with VideoWriter(sys.argv[1], 25, audio=sys.argv[2]) as writer:
    for index in range(int(sys.argv[3])):
        writer.write(frames[index % 8] // 4)
for _ in iter_video(sys.argv[1], 30):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "a.wav", tone(120, 44_100, 2))
    peaks = []
    for num_frames in (200, 2_200):
        command = [sys.executable, "-c", MEMORY, str(tmp_path / "a.mp4"), str(sound), str(num_frames)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.05 * peaks[0]  # 2000 frames alone would be 37 MB, their sound 28 MB
