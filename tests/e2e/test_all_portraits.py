"""Every picture of ``shared/media`` through the whole of `animate`: a video, or the message that a person needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from portraitanim.checkpoints.animators import open_animator
from portraitanim.config.animation import AnimationOptions
from portraitanim.errors import FaceError
from portraitanim.media.video import probe_video
from portraitanim.pipelines.animator import Animator
from tests.examples import MEDIA, SPEECH, media, needs_media

NO_FACE = r"No face in {}.*Try a frontal picture of a person"

HARD = {
    "cat.jpg": NO_FACE,
    "dog_detected.jpg": NO_FACE,
    "dog_not_detected.jpg": NO_FACE,
    "wide_llama.jpg": NO_FACE,
    "monkey.jpg": None,
    "photo_of_photo.jpg": None,
    "robot.jpg": None,
    "statue.jpg": None,
}
"""What is said, or ``None`` where a video is made; the doubts that are said too are in tests/unit/face/test_quality."""


@pytest.fixture(scope="module")
def tiny(weights: Path) -> Animator:
    return open_animator(str(weights / "tiny"), device="cpu", dtype="fp32")


def portraits() -> list[str]:
    return sorted(path.name for path in (MEDIA / "portraits").glob("*.jpg")) if MEDIA else ["absent"]


def assert_animated(animator: Animator, picture: Path, folder: Path) -> None:
    output = folder / "talk.mp4"
    result = animator.animate(picture, SPEECH, output=output, options=AnimationOptions(duration_seconds=0.08))
    assert (result.num_frames, probe_video(output).num_frames) == (2, 2)
    assert "face" in result.face


@needs_media
@pytest.mark.slow
@pytest.mark.parametrize("name", portraits())
def test_portrait_is_animated(tiny: Animator, tmp_path: Path, name: str) -> None:
    assert_animated(tiny, media("portraits", name), tmp_path)


@needs_media
def test_list_of_hard_pictures_is_complete() -> None:
    assert {path.name for path in media("portraits_hard").iterdir()} == set(HARD)


@needs_media
@pytest.mark.parametrize("name", HARD)
def test_hard_picture_is_animated_or_refused_in_words(tiny: Animator, tmp_path: Path, name: str) -> None:
    message = HARD[name]
    if message is None:
        assert_animated(tiny, media("portraits_hard", name), tmp_path)
        return
    with pytest.raises(FaceError, match=message.format(name)):
        tiny.animate(media("portraits_hard", name), SPEECH, output=tmp_path / "talk.mp4")
    assert not list(tmp_path.iterdir())
