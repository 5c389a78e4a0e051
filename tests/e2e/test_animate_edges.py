"""Corners of `animate` that were found by trying to break it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portraitanim.checkpoints.animators import open_animator
from portraitanim.config.animation import AnimationOptions
from portraitanim.errors import ConfigError, InputError
from portraitanim.media.image import load_image
from portraitanim.media.video import iter_video, probe_video
from portraitanim.pipelines.animator import Animator
from portraitanim.pipelines.animator_parts import OutputOptions
from portraitanim.pipelines.batch import read_jobs, run_batch
from portraitanim.pipelines.provenance import DIGITAL_SOURCE_TYPE
from portraitanim.progress import SilentProgress
from tests.examples import PORTRAIT, SPEECH

TWO_FRAMES = 0.08


@pytest.fixture(scope="module")
def tiny(weights: Path) -> Animator:
    return open_animator(str(weights / "tiny"), device="cpu", dtype="fp32")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".gif", ""])
def test_every_container_says_that_it_is_synthetic(tiny: Animator, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"talk{suffix}"
    result = tiny.animate(PORTRAIT, SPEECH, output=output, duration_seconds=TWO_FRAMES, seed=7)
    marked = sorted(output.iterdir())[0] if not suffix else output
    assert DIGITAL_SOURCE_TYPE.encode() in marked.read_bytes()
    if suffix not in ("", ".gif"):
        marks = json.loads(probe_video(output).metadata["comment"])
        assert (marks["seed"], marks["digital_source_type"]) == (7, DIGITAL_SOURCE_TYPE)
        assert probe_video(output).has_audio
        assert not result.notes
    else:
        assert "hold no sound" in result.notes[0]


def test_sidecar_has_all_that_makes_the_video_again(tiny: Animator, tmp_path: Path) -> None:
    options = AnimationOptions(duration_seconds=TWO_FRAMES, lip_weight=1.4, face="left")
    tiny.animate(PORTRAIT, SPEECH, output=tmp_path / "talk", options=options)
    record = json.loads((tmp_path / "talk.json").read_text())
    assert (record["options"]["lip_weight"], record["options"]["face"]) == (1.4, "left")
    left, top, right, bottom = record["face_box_px"]
    assert 0 < left < right
    assert 0 < top < bottom
    assert np.array(record["crop_transform"]).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "message"), [(".", "no name for a video"), ("..", "no name"), ("x" * 240 + ".mp4", "too long for a file")]
)
def test_impossible_output_is_refused_at_once(tiny: Animator, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny.animate(PORTRAIT, SPEECH, output=Path(name) if name == "." else tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "sampling",
    [
        {"size_px": 100},
        {"fps": float("nan")},
        {"seed": -1},
        {"guidance_scale": float("nan")},
        {"num_inference_steps": 5000},
        {"noise_clamp": -1.0},
    ],
)
def test_senseless_setting_is_refused_before_anything_is_read(tiny: Animator, tmp_path: Path, sampling: dict) -> None:
    (key,) = sampling
    with pytest.raises(ConfigError, match=rf"sampling\.{key}"):
        tiny.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", overrides={"sampling": sampling})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [3, None, "fast"])
def test_section_that_is_no_mapping_does_not_reset_the_preset(tiny: Animator, value: object) -> None:
    with pytest.raises(ConfigError, match="sampling must be a mapping"):
        tiny.plan(SPEECH, None, AnimationOptions(overrides={"sampling": value}))


def test_broken_numbers_leave_nothing_to_resume(tiny: Animator, tmp_path: Path) -> None:
    network = tiny.parts.pipeline.denoising_unet
    hook = network.register_forward_hook(lambda module, inputs, output: output * float("nan"))
    try:
        with pytest.raises(Exception, match="not numbers"):
            tiny.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", duration_seconds=TWO_FRAMES)
    finally:
        hook.remove()
    assert not list(tmp_path.iterdir())


def test_photo_that_lies_on_its_side_is_animated_upright(tiny: Animator, tmp_path: Path) -> None:
    """A phone's photo: the pixels lie on their side, and the EXIF orientation says so."""
    photo, exif = Image.open(PORTRAIT).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo.png", exif=exif)
    options = AnimationOptions(duration_seconds=0.04, paste_back=True)
    tiny.animate(tmp_path / "photo.png", SPEECH, output=tmp_path / "talk", options=options)
    made, picture = load_image(tmp_path / "talk" / "frame_000000.png"), load_image(PORTRAIT)
    assert made.shape == picture.shape
    assert np.array_equal(made[:, :8], picture[:, :8])


def test_face_of_a_group_is_the_one_that_moves(tiny: Animator, tmp_path: Path) -> None:
    picture = Image.open(PORTRAIT)
    group = Image.new("RGB", (picture.width * 2, picture.height))
    group.paste(picture, (0, 0))
    group.paste(picture, (picture.width, 0))
    group.save(tmp_path / "group.png")
    options = AnimationOptions(duration_seconds=0.04, paste_back=True, face="right")
    result = tiny.animate(tmp_path / "group.png", SPEECH, output=tmp_path / "talk", options=options)
    assert "Took face 2 of 2" in result.face
    changed = (load_image(tmp_path / "talk" / "frame_000000.png") != load_image(tmp_path / "group.png")).any((0, 1))
    assert not changed[: picture.width].any()
    assert changed[picture.width :].any()


def test_paste_back_into_a_huge_picture_is_refused(
    tiny: Animator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portraitanim.pipelines.animation_inputs.MAX_FRAME_PIXELS", 1000)
    with pytest.raises(InputError, match="leave out --paste-back"):
        tiny.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", paste_back=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("fps", "seconds", "num_frames"), [(29.97, 0.1, 3), (24.0, 0.125, 3), (23.976, 0.05, 2)])
def test_odd_rates_start_where_they_are_told(
    tiny: Animator, tmp_path: Path, fps: float, seconds: float, num_frames: int
) -> None:
    output = tmp_path / "talk.mp4"
    options = AnimationOptions(fps=fps, start_seconds=0.333, duration_seconds=seconds)
    result = tiny.animate(PORTRAIT, SPEECH, output=output, options=options)
    assert (result.num_frames, len(list(iter_video(output)))) == (num_frames, num_frames)
    assert result.duration_seconds == pytest.approx(num_frames / fps, rel=1e-4)


def test_batch_skips_finished_folders_and_keeps_debug_views_apart(tiny: Animator, tmp_path: Path) -> None:
    row = {"portrait": str(PORTRAIT), "audio": str(SPEECH), "duration": 0.04}
    lines = [json.dumps({**row, "output": f"{place}/frames"}) for place in "ab"]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    jobs = read_jobs(tmp_path / "jobs.jsonl", AnimationOptions())
    files = OutputOptions(debug_folder=tmp_path / "debug", resume=True)
    assert [made.status for made in run_batch(tiny, jobs, files, SilentProgress())] == ["done", "done"]
    assert sorted(path.name for path in (tmp_path / "debug").iterdir()) == ["001-frames", "002-frames"]
    assert [made.status for made in run_batch(tiny, jobs, files, SilentProgress())] == ["skipped", "skipped"]
