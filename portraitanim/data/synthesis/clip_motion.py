"""The motion and sound of one clip: a real talker's, a made-up talker's, or nobody's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from portraitanim.data.synthesis.driver_motion import HeadPoses, separate_motion
from portraitanim.data.synthesis.expression_basis import POUT_WIDTHS, ExpressionBasis, FaceMeasures
from portraitanim.data.synthesis.idle_motion import IdleMotion, head_sway, idle_motion
from portraitanim.data.synthesis.sound_variation import (
    DrawsBackground,
    drawn_out,
    quiet_sound,
    stretched,
    varied_sound,
    with_vibrato,
)
from portraitanim.data.synthesis.speech_source import DrawsSpeech, SpeechSource
from portraitanim.data.synthesis.spoken_text import Phoneme, SpokenText
from portraitanim.data.synthesis.talking_tracks import HELD_OUT_VOICES, SOUND_RATE_HZ, TRACK_FPS, TalkingTrack
from portraitanim.data.synthesis.visemes import MouthTrack, is_vowel, loudness_effort, mouth_track
from portraitanim.errors import InputError
from portraitanim.face.landmark_groups import LEFT_IRIS, RIGHT_IRIS

MIN_SPEECH_LEVEL = 1e-3
"""Videos whose sound is quieter than this (root mean square) are silent: their faces teach shapes, not speech."""

MOUTH_LATE_FRAMES = {"liveportrait_d10": 3.0, "liveportrait_d11": 2.5, "liveportrait_d20": -6.5}
"""Frames (at 25 per second) by which the mouth comes after its sound in the files as they are.

Found with a predictor of lip opening trained on synthetic speech alone. Its correlation with the true opening peaks at
these lags: 0.51 for d10 (0.28 at none), 0.23 for d11 (0.03), 0.55 for d20 (0.14), and at none with 0.33 for d6.
"""

SAMPLES_PER_FRAME = round(SOUND_RATE_HZ / TRACK_FPS)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipMotion:
    """What happens in one clip.

    Attributes:
        kind: ``real``, ``speech`` or ``silent``.
        source: where motion and sound come from.
        shapes: ``(frames, 478, 3)``, see `driver_motion.DriverMotion`.
        neutral: ``(478, 3)``, lips closed.
        poses: of the head.
        sound: float32 ``(samples,)`` at 16 kHz, as long as the frames.
    """

    kind: str
    source: str
    shapes: np.ndarray
    neutral: np.ndarray
    poses: HeadPoses
    sound: np.ndarray


@dataclass(frozen=True, kw_only=True)
class MotionOdds:
    """How often clips have no speech or follow a real talker; the rest is speech whose sounds move the mouth.

    ``sung`` is how often that speech is sung.
    """

    silent: float = 0.1
    real: float = 0.22
    sung: float = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class SpokenMotion:
    """Speech of known sounds, and its mouth.

    Attributes:
        speaker: who speaks.
        sound: float32 ``(samples,)`` at 16 kHz, as long as the frames.
        mouth: over time.
        effort: see `visemes.loudness_effort`.
    """

    speaker: str
    sound: np.ndarray
    mouth: MouthTrack
    effort: np.ndarray


def draw_speech(
    source: DrawsSpeech,
    num_frames: int,
    rng: np.random.Generator,
    openness: float,
    backgrounds: DrawsBackground | None = None,
    sung_share: float = 0.0,
) -> SpokenMotion:
    """Speech of so many frames in a varied room.

    Args:
        source: of the speech.
        num_frames: at 25 per second.
        rng: decides everything.
        openness: a factor on the openings of the mouth.
        backgrounds: sound for behind the speech.
        sung_share: how often the words are sung.
    """
    seconds = num_frames / TRACK_FPS
    spoken, speaker = source.draw(seconds, rng)
    if sung_share and rng.random() < sung_share:
        spoken = _sung(spoken, rng)
    spoken = _placed(spoken, seconds, rng)
    effort = loudness_effort(spoken.samples, spoken.sample_rate_hz, num_frames, TRACK_FPS)
    return SpokenMotion(
        speaker=speaker,
        sound=varied_sound(_fitted(spoken.samples, num_frames), SOUND_RATE_HZ, rng, backgrounds),
        mouth=mouth_track(spoken.phonemes, num_frames, TRACK_FPS, effort * openness),
        effort=effort,
    )


class MotionSource:
    """Draws the motion and sound of clips.

    Args:
        tracks: of real talkers, from `talking_tracks.load_tracks`; at least one.
        odds: how often which kind is drawn.
        speech: where speech of known sounds comes from, one as often as another; by default from synthesizers alone.
        backgrounds: sound without speech, for behind it and alone.

    Attributes:
        basis: how faces move, measured on all tracks.
    """

    def __init__(
        self,
        tracks: Sequence[TalkingTrack],
        odds: MotionOdds | None = None,
        speech: Sequence[DrawsSpeech] = (),
        backgrounds: DrawsBackground | None = None,
    ) -> None:
        if not tracks:
            raise InputError("Faces learn to move from real ones: give at least one talking track.")
        self._odds = odds or MotionOdds()
        drivers = [separate_motion(track.points) for track in tracks]
        self.basis = ExpressionBasis.fit(drivers)
        self._talkers = [
            (track.name, replace(driver, neutral=self.basis.with_closed_lips(driver.neutral)), in_time(track))
            for track, driver in zip(tracks, drivers, strict=True)
            if np.sqrt(np.mean(track.sound**2)) > MIN_SPEECH_LEVEL and track.name not in HELD_OUT_VOICES
        ]
        self._speech = tuple(speech) or (SpeechSource(),)
        self._backgrounds = backgrounds

    def draw(self, num_frames: int, rng: np.random.Generator, kind: str | None = None) -> ClipMotion:
        """One clip; ``kind`` as in `ClipMotion` is drawn by the odds where it is not given."""
        if kind is None:
            choice = rng.random()
            kind = "silent" if choice < self._odds.silent else "speech"
            if self._odds.silent <= choice < self._odds.silent + self._odds.real and self._talkers:
                kind = "real"
        make = {"silent": self._silent, "speech": self._spoken, "real": self._real}[kind]
        return make(num_frames, rng)

    def _real(self, num_frames: int, rng: np.random.Generator) -> ClipMotion:
        shares = np.array([len(motion.shapes) for _, motion, _ in self._talkers], np.float64)
        name, motion, sound = self._talkers[rng.choice(len(shares), p=shares / shares.sum())]
        slower = float(rng.uniform(0.88, 1.15))
        needed = min(len(motion.shapes) - 1.0, num_frames / slower)
        first = rng.uniform(0, len(motion.shapes) - 1 - needed)
        moments = np.minimum(first + np.arange(num_frames) / slower, len(motion.shapes) - 1)
        begin = round(first * SAMPLES_PER_FRAME)
        piece = stretched(sound[begin : begin + round(needed * SAMPLES_PER_FRAME)], slower)
        return ClipMotion(
            kind="real",
            source=f"{name} from {first / TRACK_FPS:.2f} s",
            shapes=_at(_calmed(motion.shapes), moments),
            neutral=motion.neutral,
            poses=_poses_at(motion.poses, moments).within(9.0, 0.07, 0.05),
            sound=varied_sound(_fitted(piece, num_frames), SOUND_RATE_HZ, rng),
        )

    def _spoken(self, num_frames: int, rng: np.random.Generator) -> ClipMotion:
        source = self._speech[rng.integers(len(self._speech))]
        openness = rng.uniform(1.05, 1.4)
        said = draw_speech(source, num_frames, rng, openness, self._backgrounds, self._odds.sung)
        idle = idle_motion(num_frames, TRACK_FPS, said.effort, rng)
        return ClipMotion(
            kind="speech",
            source=said.speaker,
            shapes=self._face(said.mouth, idle),
            neutral=self.basis.neutral,
            poses=head_sway(num_frames, TRACK_FPS, said.effort, rng),
            sound=said.sound,
        )

    def _silent(self, num_frames: int, rng: np.random.Generator) -> ClipMotion:
        still, calm = np.zeros(num_frames), np.ones(num_frames)
        return ClipMotion(
            kind="silent",
            source="silence",
            shapes=self._face(
                MouthTrack(opening=still, width=still, pout=still), idle_motion(num_frames, TRACK_FPS, calm, rng)
            ),
            neutral=self.basis.neutral,
            poses=head_sway(num_frames, TRACK_FPS, calm, rng),
            sound=quiet_sound(num_frames * SAMPLES_PER_FRAME, SOUND_RATE_HZ, rng, self._backgrounds),
        )

    def _face(self, mouth: MouthTrack, idle: IdleMotion) -> np.ndarray:
        neutral = self.basis.neutral
        width = mouth.width * (neutral[291, 0] - neutral[61, 0])
        with_lips = np.stack([mouth.opening, width], axis=-1) @ self.basis.company
        lid_gap = neutral[[145, 374], 1].mean() - neutral[[159, 386], 1].mean()
        shapes = self.basis.shapes(
            FaceMeasures(
                opening=mouth.opening,
                width=width,
                pout=with_lips[:, 0] + POUT_WIDTHS * mouth.pout,
                upper_lip=with_lips[:, 1],
                corners=with_lips[:, 2],
                lids=-idle.closed * lid_gap,
                brows=idle.brows,
            )
        )
        eye_width = np.linalg.norm(neutral[33, :2] - neutral[133, :2])
        shapes[:, [*RIGHT_IRIS, *LEFT_IRIS], :2] += idle.gaze[:, None] * eye_width
        return shapes


def _sung(spoken: SpokenText, rng: np.random.Generator) -> SpokenText:
    """The words as in a song: vowels are held, some for seconds, consonants hardly, often with vibrato."""
    rate = spoken.sample_rate_hz
    slower = rng.uniform(1.0, 1.6)
    before, after = [0.0], [0.0]
    for phoneme in spoken.phonemes:
        seconds = max(0.0, phoneme.end_seconds - before[-1])
        longer = slower * (1 + rng.exponential(1.2)) if is_vowel(phoneme) else np.sqrt(slower)
        held = rng.uniform(0.4, 3.0) if is_vowel(phoneme) and rng.random() < 0.12 else 0.0
        before.append(before[-1] + seconds)
        after.append(after[-1] + seconds * longer + held)
    before.append(max(before[-1], len(spoken.samples) / rate))
    after.append(after[-1] + before[-1] - before[-2])
    samples = drawn_out(spoken.samples, rate, np.array(before), np.array(after))
    if rng.random() < 0.6:
        samples = with_vibrato(samples, rate, rng.uniform(0.003, 0.03), rng.uniform(4.5, 7.0))
    return SpokenText(
        samples=samples,
        sample_rate_hz=rate,
        phonemes=tuple(
            Phoneme(symbol=each.symbol, start_seconds=start, end_seconds=end)
            for each, start, end in zip(spoken.phonemes, after, after[1:], strict=False)
        ),
    )


def _placed(spoken: SpokenText, seconds: float, rng: np.random.Generator) -> SpokenText:
    """Speech at another speed at 16 kHz, with a pause before it, or cut into where it is too long for the clip."""
    slower = float(rng.uniform(0.85, 1.18))
    samples = stretched(spoken.samples, slower * SOUND_RATE_HZ / spoken.sample_rate_hz)
    room = seconds - len(samples) / SOUND_RATE_HZ
    start = rng.uniform(0.1, 0.6) if room > -0.5 or rng.random() < 0.4 else rng.uniform(room, 0)
    shift = round(start * SOUND_RATE_HZ)
    samples = np.pad(samples, (shift, 0)) if shift >= 0 else samples[-shift:]
    phonemes = tuple(
        Phoneme(
            symbol=each.symbol,
            start_seconds=each.start_seconds * slower + start,
            end_seconds=each.end_seconds * slower + start,
        )
        for each in spoken.phonemes
    )
    return SpokenText(samples=samples, sample_rate_hz=SOUND_RATE_HZ, phonemes=phonemes)


def in_time(track: TalkingTrack) -> np.ndarray:
    """The sound, shifted to where the mouth makes it."""
    late = round(MOUTH_LATE_FRAMES.get(track.name, 0.0) * SAMPLES_PER_FRAME)
    around = np.pad(track.sound, (max(late, 0), max(-late, 0)))
    return around[max(-late, 0) :][: len(track.sound)]


def _fitted(samples: np.ndarray, num_frames: int) -> np.ndarray:
    wanted = num_frames * SAMPLES_PER_FRAME
    return np.pad(samples, (0, max(0, wanted - len(samples))))[:wanted]


def _calmed(values: np.ndarray) -> np.ndarray:
    """Take the detector's jitter out; lips that shut for two frames stay shut."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return 0.2 * padded[:-2] + 0.6 * padded[1:-1] + 0.2 * padded[2:]


def _at(values: np.ndarray, moments: np.ndarray) -> np.ndarray:
    low = np.clip(np.floor(moments).astype(int), 0, len(values) - 2)
    share = (moments - low).reshape(-1, *[1] * (values.ndim - 1))
    mixed: np.ndarray = (1 - share) * values[low] + share * values[low + 1]
    return mixed


def _poses_at(poses: HeadPoses, moments: np.ndarray) -> HeadPoses:
    turns = Slerp(np.arange(len(poses.rotations)), Rotation.from_matrix(poses.rotations))
    return HeadPoses(
        rotations=turns(moments).as_matrix(), sizes=_at(poses.sizes, moments), travel=_at(poses.travel, moments)
    )
