"""The drift guard on made videos, whose clips are a known function of the motion frames that they read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, RIGHT_EYELID_PAIRS
from portraitanim.pipelines.drift_guard import MAX_WAIT_CLIPS, OPEN_EYES, DriftGuard

SIZE, LENGTH, NUM_MOTION, NUM_CLIPS = 96, 6, 2, 12

Picture = np.ndarray
NextClip = Callable[[int, Picture], Picture]


def portrait() -> tuple[Picture, np.ndarray]:
    """A textured picture in [0, 1], and points that stand for a face in its middle."""
    random = np.random.default_rng(0)
    picture = cv2.GaussianBlur(random.uniform(0, 1, (SIZE, SIZE, 3)).astype(np.float32), (0, 0), 0.8)
    points = random.uniform((28, 20, -10), (68, 70, 10), (478, 3))
    for upper, lower in (*LEFT_EYELID_PAIRS, *RIGHT_EYELID_PAIRS):
        points[lower] = points[upper] + np.array((0, 4, 0))
    return np.clip(picture, 0, 1), points


def shut(points: np.ndarray) -> np.ndarray:
    closed = points.copy()
    for upper, lower in (*LEFT_EYELID_PAIRS, *RIGHT_EYELID_PAIRS):
        closed[lower] = closed[upper]
    return closed


def blurred(picture: Picture) -> Picture:
    return cv2.GaussianBlur(picture, (0, 0), 0.45)


def tinted(picture: Picture) -> Picture:
    return np.clip(picture * (1.3, 0.9, 0.7), 0, 1).astype(np.float32)


def made_video(
    next_clip: NextClip,
    *,
    correct: bool = True,
    eyes_shut: Callable[[int], bool] = lambda clip: False,
) -> tuple[DriftGuard, list[np.ndarray]]:
    """Clips ``(frames, height, width, 3)``: each goes from the frame that it reads to ``next_clip`` of it."""
    picture, points = portrait()
    now = 0
    guard = DriftGuard(
        points, lambda _: shut(points) if eyes_shut(now) else points, num_motion_frames=NUM_MOTION, correct=correct
    )
    tail, clips = picture, []
    for now in range(NUM_CLIPS):
        target = picture if now == 0 else next_clip(now, tail)
        share = np.linspace(1 / LENGTH, 1, LENGTH, dtype=np.float32)[:, None, None, None]
        clips.append(tail * (1 - share) + target * share)
        motion = guard.next_motion(now, torch.from_numpy(clips[-1].transpose(0, 3, 1, 2).copy())[None])
        assert motion.shape == (1, NUM_MOTION, 3, SIZE, SIZE)
        tail = motion[0, -1].numpy().transpose(1, 2, 0)
    return guard, clips


def largest_seam(clips: list[np.ndarray]) -> float:
    return max(float(np.abs(after[0] - before[-1]).mean()) for before, after in pairwise(clips))


def test_blur_that_feeds_on_itself_is_stopped() -> None:
    """Each clip is blurrier than the frames it reads: the failure of long videos."""

    def blurrier(clip: int, tail: Picture) -> Picture:
        del clip
        return blurred(tail)

    guarded, _ = made_video(blurrier)
    left_alone, _ = made_video(blurrier, correct=False)
    assert left_alone.clips[-1].sharpness < 0.2
    assert guarded.summary()["num_anchored"] >= 2
    assert min(clip.sharpness for clip in guarded.clips) > 2 * left_alone.clips[-1].sharpness


def test_steady_video_is_left_alone() -> None:
    guard, clips = made_video(lambda clip, tail: tail)
    assert guard.summary()["num_drifted"] == 0
    assert largest_seam(clips) < 1e-6


def test_change_that_does_not_come_from_the_motion_frames_is_not_fought() -> None:
    """Another light from clip 4 on, whatever a clip reads: leading back would make each seam jump."""
    picture, _ = portrait()
    guard, clips = made_video(lambda clip, tail: tinted(picture) if clip >= 4 else picture)
    assert guard.clips[-1].drifted
    assert guard.summary()["num_anchored"] == 1, "one step shows that it does not help"
    assert largest_seam(clips[6:]) < 1e-6


def test_one_blurred_frame_is_no_measure_of_a_clip() -> None:
    """The first clip ends in a quick move; what follows is as sharp as the portrait."""
    picture, points = portrait()
    guard = DriftGuard(points, lambda _: points, NUM_MOTION)
    moving = np.stack([picture] * (LENGTH - 1) + [cv2.GaussianBlur(picture, (0, 0), 3)])
    for number, clip in enumerate((moving, np.stack([picture] * LENGTH))):
        guard.next_motion(number, torch.from_numpy(clip.transpose(0, 3, 1, 2).copy())[None])
    assert not guard.clips[1].drifted


def test_moving_head_is_measured_where_it_is() -> None:
    """A face that moves over a smooth background is as sharp as before."""
    picture, points = portrait()
    background = np.full_like(picture, 0.5)
    places = [0, 14]
    guard = DriftGuard(points, lambda _: points + np.array((places[len(guard.clips)], 0, 0)), NUM_MOTION)
    for number, dx in enumerate(places):
        frame = background.copy()
        frame[15:75, 24 + dx : 72 + dx] = picture[15:75, 24:72]
        clip = np.stack([frame] * LENGTH)
        guard.next_motion(number, torch.from_numpy(clip.transpose(0, 3, 1, 2).copy())[None])
    assert guard.clips[1].sharpness == pytest.approx(1.0, abs=0.05)


def test_seam_waits_for_open_eyes_but_not_for_ever() -> None:
    def blurrier(clip: int, tail: Picture) -> Picture:
        del clip
        return blurred(tail)

    first = next(clip.clip for clip in made_video(blurrier)[0].clips if clip.anchored)
    blinking, _ = made_video(blurrier, eyes_shut=lambda clip: clip == first)
    assert next(clip.clip for clip in blinking.clips if clip.anchored) == first + 1
    asleep, _ = made_video(blurrier, eyes_shut=lambda clip: clip >= first)
    assert next(clip.clip for clip in asleep.clips if clip.anchored) == first + MAX_WAIT_CLIPS
    assert all(clip.eye_opening < OPEN_EYES for clip in asleep.clips[first:] if clip.eye_opening is not None)


def test_lost_face_leads_back_once() -> None:
    picture, points = portrait()
    guard = DriftGuard(points, lambda _: points if len(guard.clips) < 3 else None, NUM_MOTION)
    clip = torch.from_numpy(np.stack([picture] * LENGTH).transpose(0, 3, 1, 2).copy())[None]
    for number in range(8):
        guard.next_motion(number, clip)
    assert [clip.clip for clip in guard.clips if clip.anchored] == [3]
    assert guard.summary()["num_without_face"] == 5
