"""Frames of any video, upright, in RGB, at the rate asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitanim.errors import InputError, MediaError
from portraitanim.media.frame_rate import exact_fps
from portraitanim.media.pixels import upright
from portraitanim.media.video import iter_video, probe_video, read_video
from tests.unit.media.generated_media import grey_of, smooth_picture

CORNERS = np.full((32, 48, 3), 128, np.uint8)
CORNERS[:16, :24] = (255, 0, 0)
CORNERS[:16, 24:] = (0, 255, 0)
CORNERS[16:, :24] = (0, 0, 255)


def encode(
    path: Path,
    pictures: Sequence[np.ndarray],
    times_ms: Sequence[int] | None = None,
    *,
    turn: tuple[int, bool, bool] | None = None,
    aspect: Fraction | None = None,
    colours: int | None = None,
) -> Path:
    """Write with PyAV alone, in milliseconds, as a phone with a varying rate would."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "8", "bf": "0"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if colours is not None:
            stream.codec_context.colorspace = colours
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if colours is not None:
                frame = frame.reformat(format="yuv420p", dst_colorspace=colours)
            frame.pts = 40 * index if times_ms is None else times_ms[index]
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def greys(num_frames: int) -> list[np.ndarray]:
    """Frames whose level tells their number: 10, 20, 30 ..."""
    return [np.full((16, 16, 3), 10 * (index + 1), np.uint8) for index in range(num_frames)]


def numbers(path: Path, fps: float | Fraction | None = None, **options: float) -> list[int]:
    return [round(grey_of(frame.image) / 10) - 1 for frame in iter_video(path, fps, **options)]


def test_probe_tells_what_is_in_the_file(tmp_path: Path) -> None:
    info = probe_video(encode(tmp_path / "a.mp4", [CORNERS] * 10))
    assert (info.width, info.height, info.fps, info.num_frames) == (48, 32, 25, 10)
    assert info.codec == "h264"
    assert not info.has_audio
    assert info.duration_seconds == pytest.approx(0.4, abs=0.04)


def test_own_rate_gives_each_frame_once_with_its_time(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", greys(12))
    assert numbers(path) == numbers(path, 25) == list(range(12))
    assert [frame.seconds for frame in iter_video(path)] == pytest.approx([0.04 * index for index in range(12)])


def test_varying_rate_is_resampled_by_nearest_time(tmp_path: Path) -> None:
    times = [0, 100, 110, 120, 300, 340]
    path = encode(tmp_path / "a.mp4", greys(6), times)
    shown = numbers(path, 25)
    wanted = [int(np.argmin([abs(40 * k - time) for time in times])) for k in range(len(shown))]
    assert shown == wanted
    assert len(shown) in (9, 10)  # 340 ms and the last frame's own time


@settings(max_examples=15)
@given(steps=st.lists(st.integers(5, 150), min_size=3, max_size=20), fps=st.sampled_from([24, 25, 30, 29.97]))
def test_resampled_time_never_strays(tmp_path_factory: pytest.TempPathFactory, steps: list[int], fps: float) -> None:
    times = [0, *np.cumsum(steps).tolist()]
    path = encode(tmp_path_factory.mktemp("vfr") / "a.mp4", greys(len(times)), times)
    shown = numbers(path, fps)
    for k, number in enumerate(shown):
        moment = 1000 * k / float(exact_fps(fps))
        best = min(abs(moment - time) for time in times)
        assert abs(times[number] - moment) <= best + 1e-6
    assert shown[-1] == len(times) - 1 or 1000 / fps > steps[-1]


@pytest.mark.parametrize(("fps", "num_frames"), [(24, 24), (30, 30), (50, 50), (12.5, 13)])
def test_constant_rates_keep_the_duration(tmp_path: Path, fps: float, num_frames: int) -> None:
    path = encode(tmp_path / "a.mp4", greys(25))
    assert abs(len(numbers(path, fps)) - num_frames) <= (fps == 12.5)  # 12.5 frames cannot be had


def test_repeated_frames_are_arrays_of_their_own(tmp_path: Path) -> None:
    frames = list(iter_video(encode(tmp_path / "a.mp4", greys(2)), 100))
    frames[0].image[:] = 0
    assert frames[1].image.max() > 0


def test_excerpts_start_and_end_where_asked(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", greys(24))
    assert numbers(path, 25, start_seconds=0.4, duration_seconds=0.2) == [10, 11, 12, 13, 14]
    assert numbers(path, None, start_seconds=0.4, duration_seconds=0.2) == [10, 11, 12, 13, 14]
    assert next(iter_video(path, start_seconds=0.4)).seconds == 0
    with pytest.raises(MediaError, match="--start"):
        numbers(path, 25, start_seconds=3)


@pytest.mark.parametrize("flip", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_and_mirror_are_honoured(tmp_path: Path, degrees: int, flip: tuple[bool, bool]) -> None:
    path = encode(tmp_path / "a.mp4", [CORNERS] * 2, turn=(degrees, *flip))
    wanted = np.rot90(CORNERS, degrees // 90)
    wanted = wanted[:, ::-1] if flip[0] else wanted
    wanted = wanted[::-1] if flip[1] else wanted
    image = next(iter_video(path)).image
    assert image.shape[1:] == wanted.shape[:2]
    for row in (6, -7):
        for column in (6, -7):
            assert np.abs(image[:, row, column].astype(int) - wanted[row, column]).max() < 12  # H.264
    info = probe_video(path)
    assert (info.height, info.width) == wanted.shape[:2]


def test_upright_without_a_matrix_is_the_picture_itself() -> None:
    assert upright(CORNERS, None) is CORNERS


def test_pixels_become_square(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", [CORNERS] * 2, aspect=Fraction(4, 3))
    assert next(iter_video(path)).image.shape == (3, 32, 64)
    assert (probe_video(path).width, probe_video(path).height) == (64, 32)


@pytest.mark.parametrize("colours", [1, 5, 9])
def test_tagged_colour_matrix_is_used(tmp_path: Path, colours: int) -> None:
    image = next(iter_video(encode(tmp_path / "a.mp4", [CORNERS] * 2, colours=colours))).image
    assert np.abs(image[:, 6, 6].astype(int) - (255, 0, 0)).max() < 12  # wrong matrices miss by 20 and more
    assert np.abs(image[:, 6, 40].astype(int) - (0, 255, 0)).max() < 12


def test_read_video_stops_at_the_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = encode(tmp_path / "a.mp4", greys(12))
    with caplog.at_level(logging.INFO):
        video = read_video(path, 5)
    assert video.data.shape == (5, 3, 16, 16)
    assert video.fps == 25
    assert "more than 5" in caplog.text
    assert len(read_video(path, 100)) == 12


def test_picture_and_sound_files_are_no_videos(tmp_path: Path) -> None:
    from portraitanim.media.image import save_image

    save_image(smooth_picture(16, 16), tmp_path / "a.png")
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(MediaError, match="cannot be read as video"):
        probe_video(tmp_path / "b.mp4")


def test_too_large_frames_are_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", [np.zeros((4352, 8192, 3), np.uint8)])
    with pytest.raises(MediaError, match="too large"):
        probe_video(path)


def test_frame_rates_are_exact() -> None:
    assert exact_fps(29.97) == Fraction(30_000, 1_001)
    assert exact_fps(23.976) == Fraction(24_000, 1_001)
    assert exact_fps("30000/1001") == Fraction(30_000, 1_001)
    assert exact_fps(25) == exact_fps(25.0) == 25
    assert exact_fps(12.5) == Fraction(25, 2)
    for wrong in (0, -1, 1000, "fast", float("nan"), float("inf")):
        with pytest.raises(InputError):
            exact_fps(wrong)


def test_all_real_videos_read(real_media: Path) -> None:
    for path in sorted((real_media / "talking").iterdir()):
        info = probe_video(path)
        frames = list(iter_video(path, 25, duration_seconds=0.4))
        assert len(frames) == 10
        assert frames[0].image.shape == (3, info.height, info.width)
        assert 20 < frames[5].image.mean() < 235


def test_whole_real_video_keeps_its_duration(real_media: Path) -> None:
    path = real_media / "talking" / "liveportrait_d18.mp4"  # 216 frames at 30 fps
    assert sum(1 for _ in iter_video(path)) == 216
    assert sum(1 for _ in iter_video(path, 25)) == 180
