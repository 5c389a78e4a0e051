"""`Animator.animate`: from files to a finished video, with small random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from portraitanim.checkpoints.animators import open_animator
from portraitanim.config.animation import AnimationOptions
from portraitanim.errors import ConfigError, InputError, MissingWeightsError
from portraitanim.face.face_track import FaceTrack
from portraitanim.media.audio import load_audio
from portraitanim.media.image import load_image, save_image
from portraitanim.media.video import iter_video, probe_video
from portraitanim.pipelines.animator import Animator
from portraitanim.pipelines.animator_parts import OutputOptions
from portraitanim.pipelines.clip_folder import work_folder
from portraitanim.pipelines.provenance import DIGITAL_SOURCE_TYPE
from portraitanim.pipelines.track_files import save_track
from portraitanim.types import FaceLandmarks
from tests.examples import PORTRAIT, SPEECH
from tests.small_weights import SIZE_PX


@pytest.fixture(scope="module")
def tiny(weights: Path) -> Animator:
    return open_animator(str(weights / "tiny"), device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def echomimic(weights: Path) -> Animator:
    return open_animator(str(weights / "echomimic"), device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def nodding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landmark file: the example's own face, which nods for half a second."""
    from portraitanim.face.landmarks import FaceMesh

    picture = load_image(PORTRAIT)
    with FaceMesh() as mesh:
        points = mesh.search(picture).faces[0].points
    down = 6 * np.sin(np.linspace(0, np.pi, 13))[:, None]
    moved = np.repeat(points[None], 13, axis=0)
    moved[..., 1] += down
    path = tmp_path_factory.mktemp("driving") / "nod.safetensors"
    save_track(
        path,
        FaceTrack(
            landmarks=FaceLandmarks(points=moved.astype(np.float32)),
            fps=25.0,
            size_px=(picture.shape[1], picture.shape[2]),
            found=np.ones(13, bool),
            source="test",
        ),
    )
    return path


def frames_of(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in iter_video(path)])


def test_video_has_the_length_and_sound_of_the_speech(tiny: Animator, tmp_path: Path) -> None:
    output = tmp_path / "talk.mp4"
    result = tiny.animate(PORTRAIT, SPEECH, output=output, duration_seconds=1.0)
    info = probe_video(output)
    assert (result.num_frames, result.mode, result.width_px) == (25, "audio", SIZE_PX)
    assert (info.width, info.height, info.fps) == (SIZE_PX, SIZE_PX, 25)
    assert len(frames_of(output)) == 25
    assert load_audio(output).duration_seconds == pytest.approx(1.0, abs=0.04)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["talk.mp4", "talk.mp4.json"], "no work folder or partial file may be left"


def test_whole_speech_is_spoken_when_no_duration_is_given(tiny: Animator, tmp_path: Path) -> None:
    result = tiny.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", steps=1)
    seconds = load_audio(SPEECH).duration_seconds
    assert 0 <= result.duration_seconds - seconds < 0.04


def test_marks_say_that_the_video_is_synthetic(tiny: Animator, tmp_path: Path) -> None:
    output = tmp_path / "talk.mp4"
    tiny.animate(PORTRAIT, SPEECH, output=output, duration_seconds=0.2, seed=7)
    metadata = json.loads(probe_video(output).metadata["comment"])
    assert (metadata["tool"], metadata["seed"]) == ("portraitanim", 7)
    assert set(metadata["inputs_sha256"]) == {"portrait", "audio"}
    assert DIGITAL_SOURCE_TYPE.encode() in output.read_bytes()
    sidecar = json.loads((tmp_path / "talk.mp4.json").read_text())
    assert sidecar["digital_source_type"] == DIGITAL_SOURCE_TYPE
    assert sidecar["config"]["sampling"]["seed"] == 7


def test_no_marks_where_none_are_wanted(tiny: Animator, tmp_path: Path) -> None:
    output = tmp_path / "talk.mp4"
    tiny.animate(PORTRAIT, SPEECH, output=output, duration_seconds=0.2, provenance="none")
    assert "comment" not in probe_video(output).metadata
    assert DIGITAL_SOURCE_TYPE.encode() not in output.read_bytes()
    assert not (tmp_path / "talk.mp4.json").exists()


def test_landmarks_alone_drive(tiny: Animator, nodding: Path, tmp_path: Path) -> None:
    result = tiny.animate(PORTRAIT, driving=nodding, output=tmp_path / "nod.mp4")
    assert (result.mode, result.num_frames) == ("landmarks", 13)


def test_short_motion_runs_back_and_forth_until_the_sound_ends(tiny: Animator, nodding: Path, tmp_path: Path) -> None:
    output = tmp_path / "both.mp4"
    result = tiny.animate(PORTRAIT, SPEECH, driving=nodding, output=output, duration_seconds=1.2)
    assert (result.mode, result.num_frames) == ("audio+landmarks", 30)
    assert any("back and forth" in note for note in result.notes)


def test_parts_change_the_video(tiny: Animator, nodding: Path, tmp_path: Path) -> None:
    def made(name: str, parts: tuple[str, ...]) -> np.ndarray:
        output = tmp_path / f"{name}.mp4"
        tiny.animate(PORTRAIT, driving=nodding, output=output, parts=parts, duration_seconds=0.2)
        return frames_of(output)

    assert not np.array_equal(made("eyes", ("eyes",)), made("mouth", ("mouth",)))


def test_idle_motion_is_a_choice(tiny: Animator, echomimic: Animator, tmp_path: Path) -> None:
    def frames(idle: bool) -> np.ndarray:
        options = AnimationOptions(duration_seconds=0.8, idle_motion=idle)
        return np.stack(list(tiny.stream(PORTRAIT, SPEECH, options=options)))

    assert not np.array_equal(frames(True), frames(False))
    with pytest.raises(ConfigError, match="--idle-motion has an effect only"):
        echomimic.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", idle_motion=True)


def test_parts_the_weights_have_not_learned_are_refused(tiny: Animator, nodding: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="have not learned the part 'outline'"):
        tiny.animate(PORTRAIT, driving=nodding, output=tmp_path / "nod.mp4", parts=("outline",))


def test_overlapping_windows_make_the_same_length(echomimic: Animator, tmp_path: Path) -> None:
    result = echomimic.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", duration_seconds=1.0)
    assert (result.num_frames, result.fps, result.drift) == (24, 24.0, None)


def test_pasted_back_video_is_the_picture_with_a_moving_face(tiny: Animator, tmp_path: Path) -> None:
    output = tmp_path / "frames"
    result = tiny.animate(PORTRAIT, SPEECH, output=output, duration_seconds=0.08, paste_back=True)
    picture = load_image(PORTRAIT)
    assert (result.height_px, result.width_px) == picture.shape[1:]
    made = load_image(sorted(output.iterdir())[0])
    changed = np.argwhere((made != picture).any(0))
    top, left = changed.min(0)
    bottom, right = changed.max(0)
    assert bottom - top < 400
    assert right - left < 400, "the background far from the face must stay bit for bit"


def test_preview_and_debug_views_are_written(tiny: Animator, tmp_path: Path) -> None:
    files = OutputOptions(preview=True, debug_folder=tmp_path / "debug")
    options = AnimationOptions(duration_seconds=0.4)
    result = tiny.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", options=options, files=files)
    assert result.preview is not None
    assert load_image(result.preview).shape[2] > 6 * 100
    names = {path.stem for path in (tmp_path / "debug").iterdir()}
    assert {"crop", "landmarks", "mask-lip", "attention-lip", "attention-pose", "condition"} <= names


def test_existing_video_is_kept_unless_told(tiny: Animator, tmp_path: Path) -> None:
    output = tmp_path / "talk.mp4"
    output.write_bytes(b"precious")
    with pytest.raises(InputError, match="--overwrite"):
        tiny.animate(PORTRAIT, SPEECH, output=output, duration_seconds=0.2)
    assert output.read_bytes() == b"precious"
    options = AnimationOptions(duration_seconds=0.2)
    tiny.animate(PORTRAIT, SPEECH, output=output, options=options, files=OutputOptions(overwrite=True))
    assert len(frames_of(output)) == 5


def test_same_seed_same_frames(tiny: Animator) -> None:
    options = AnimationOptions(duration_seconds=0.4, seed=3)

    def frames() -> np.ndarray:
        return np.stack(list(tiny.stream(PORTRAIT, SPEECH, options=options)))

    first = frames()
    assert np.array_equal(first, frames())
    other = AnimationOptions(duration_seconds=0.4, seed=4)
    assert not np.array_equal(first, np.stack(list(tiny.stream(PORTRAIT, SPEECH, options=other))))


class KilledError(Exception):
    """Stands for whatever ends a process."""


def interrupt(animator: Animator, output: Path, options: AnimationOptions, after_frames: int) -> None:
    """Run until some frames are made, then die."""
    made = Animator._frames

    def broken(*arguments: object) -> Iterator[np.ndarray]:
        for number, frame in enumerate(made(*arguments)):  # type: ignore[arg-type]
            if number == after_frames:
                raise KilledError
            yield frame

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Animator, "_frames", broken)
        with pytest.raises(KilledError):
            animator.animate(PORTRAIT, SPEECH, output=output, options=options)


@pytest.mark.parametrize(("system", "after_frames"), [("tiny", 4), ("tiny", 13), ("echomimic", 4)])
def test_resumed_run_has_the_frames_of_an_unbroken_one(
    system: str, after_frames: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    animator: Animator = request.getfixturevalue(system)
    options = AnimationOptions(duration_seconds=0.8)
    unbroken = np.stack(list(animator.stream(PORTRAIT, SPEECH, options=options)))
    output = tmp_path / "frames"
    interrupt(animator, output, options, after_frames)
    assert not output.exists()
    assert list(work_folder(output).glob("clip-*"))

    with pytest.raises(InputError, match="--resume"):
        animator.animate(PORTRAIT, SPEECH, output=output, options=options)
    result = animator.animate(PORTRAIT, SPEECH, output=output, options=options, files=OutputOptions(resume=True))
    assert result.num_restored_clips >= 1
    resumed = np.stack([load_image(path) for path in sorted(output.iterdir())])
    assert np.array_equal(resumed, unbroken)
    assert not work_folder(output).exists()


@pytest.mark.parametrize("system", ["tiny", "echomimic"])
def test_unfinished_clip_goes_on_after_its_last_step(
    system: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portraitanim.pipelines.clip_folder.SECONDS_BETWEEN_STEPS", 0.0)
    animator: Animator = request.getfixturevalue(system)
    options = AnimationOptions(duration_seconds=0.3, steps=4)
    unbroken = np.stack(list(animator.stream(PORTRAIT, SPEECH, options=options)))
    output = tmp_path / "frames"
    network = animator.parts.pipeline.denoising_unet
    calls = 0

    def die(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        # Clips of four frames: both die in the third step of a clip.
        if calls == (7 if system == "tiny" else 9):
            raise KilledError

    hook = network.register_forward_pre_hook(die)
    with pytest.raises(KilledError):
        animator.animate(PORTRAIT, SPEECH, output=output, options=options)
    hook.remove()
    assert (work_folder(output) / "step.safetensors").is_file()
    animator.animate(PORTRAIT, SPEECH, output=output, options=options, files=OutputOptions(resume=True))
    resumed = np.stack([load_image(path) for path in sorted(output.iterdir())])
    assert np.array_equal(resumed, unbroken)


def test_resume_with_other_options_is_refused(tiny: Animator, tmp_path: Path) -> None:
    output = tmp_path / "talk.mp4"
    interrupt(tiny, output, AnimationOptions(seed=1, duration_seconds=0.4), 4)
    options = AnimationOptions(seed=2, duration_seconds=0.4)
    with pytest.raises(InputError, match="another config, options"):
        tiny.animate(PORTRAIT, SPEECH, output=output, options=options, files=OutputOptions(resume=True))
    tiny.animate(PORTRAIT, SPEECH, output=output, options=options)
    assert output.exists(), "without --resume, a run with other options starts anew"


@pytest.mark.parametrize(
    ("system", "chosen", "message"),
    [
        ("echomimic", {"lip_weight": 1.2}, "--lip-weight has no effect"),
        ("tiny", {"parts": ("eyes",)}, "--parts has no effect"),
        ("tiny", {"on_missing": "skip"}, "--on-missing has no effect"),
        ("tiny", {"paste_back": True, "crop": "whole"}, "--paste-back has no effect"),
        ("tiny", {"overrides": {"network": {}}}, "the weights fix it"),
        ("tiny", {"overrides": {"sampling": {"guidance_scal": 2}}}, "Did you mean sampling.guidance_scale"),
    ],
)
def test_option_without_effect_is_refused(
    system: str, chosen: dict, message: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    animator: Animator = request.getfixturevalue(system)
    with pytest.raises(ConfigError, match=message):
        animator.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", **chosen)


def test_weights_driven_by_sound_refuse_landmarks(echomimic: Animator, nodding: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot follow landmarks"):
        echomimic.animate(PORTRAIT, driving=nodding, output=tmp_path / "talk.mp4")


def test_nothing_that_drives_is_an_error(tiny: Animator, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Nothing drives"):
        tiny.animate(PORTRAIT, output=tmp_path / "talk.mp4")


def test_identity_pack_is_asked_for(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTRAITANIM_WEIGHTS", str(tmp_path / "empty"))
    with pytest.raises(MissingWeightsError, match="weights pull antelopev2"):
        open_animator(str(weights / "hallo"), device="cpu", dtype="fp32")


def test_set_reaches_the_sampler(tiny: Animator, tmp_path: Path) -> None:
    overrides = {"sampling": {"num_frames_per_clip": 6}}
    tiny.animate(PORTRAIT, SPEECH, output=tmp_path / "talk.mp4", duration_seconds=0.4, overrides=overrides)
    record = json.loads((tmp_path / "talk.mp4.json").read_text())
    assert record["config"]["sampling"]["num_frames_per_clip"] == 6
    assert record["result"]["drift"]["num_clips"] == 2


def test_lip_weight_changes_the_mouth_more_than_the_border(tiny: Animator, tmp_path: Path) -> None:
    def frames(weight: float) -> np.ndarray:
        options = AnimationOptions(duration_seconds=0.16, lip_weight=weight)
        return np.stack(list(tiny.stream(PORTRAIT, SPEECH, options=options))).astype(float)

    change = np.abs(frames(0.0) - frames(3.0)).mean((0, 1))
    assert change.max() > 0
    middle = change[SIZE_PX // 2 : 3 * SIZE_PX // 4, SIZE_PX // 3 : 2 * SIZE_PX // 3].mean()
    assert middle > change[: SIZE_PX // 8].mean()


def test_greyscale_and_transparent_portraits_work(tiny: Animator, tmp_path: Path) -> None:
    from PIL import Image

    grey, clear = tmp_path / "grey.png", tmp_path / "clear.png"
    picture = Image.open(PORTRAIT)
    picture.convert("L").save(grey)
    layered = picture.convert("RGBA")
    layered.putalpha(Image.new("L", picture.size, 255))
    layered.save(clear)
    for path in (grey, clear):
        result = tiny.animate(path, SPEECH, output=tmp_path / f"{path.stem}.mp4", duration_seconds=0.04)
        assert result.num_frames == 1


def test_picture_without_a_face_leaves_nothing_behind(tiny: Animator, tmp_path: Path) -> None:
    from portraitanim.errors import FaceError

    noise = np.random.default_rng(0).integers(0, 255, (3, 200, 200), dtype=np.uint8)
    save_image(noise, tmp_path / "noise.png")
    with pytest.raises(FaceError, match=r"No face in noise\.png"):
        tiny.animate(tmp_path / "noise.png", SPEECH, output=tmp_path / "talk.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["noise.png"]
