"""Sound and mouth motion without pictures, for stage ``audio``: speech synthesizers, silence and real talkers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from portraitanim.audio.log_mel import LogMelAudioEncoder
from portraitanim.data.speech_motion import MOUTH_MEASURES, SpeechMotion
from portraitanim.data.synthesis.clip_motion import SAMPLES_PER_FRAME, draw_speech, in_time
from portraitanim.data.synthesis.driver_motion import lip_opening, separate_motion
from portraitanim.data.synthesis.sound_variation import DrawsBackground, quiet_sound
from portraitanim.data.synthesis.speech_source import DrawsSpeech
from portraitanim.data.synthesis.talking_tracks import SOUND_RATE_HZ, TRACK_FPS, TalkingTrack

SILENT_SHARE = 0.1
SUNG_SHARE = 0.35
OPENNESS = 1.22
"""The middle of what clips draw, see `MotionSource`: a sound does not tell how far its speaker opens the mouth."""


def spoken_clips(
    source: DrawsSpeech,
    num_clips: int,
    num_frames: int,
    seed: int,
    backgrounds: DrawsBackground | None = None,
) -> Iterator[SpeechMotion]:
    """Clips of speech whose mouth follows from its sounds, and some without any speech."""
    encoder = LogMelAudioEncoder()
    for number in range(num_clips):
        rng = np.random.default_rng([seed, number])
        if rng.random() < SILENT_SHARE:
            sound = quiet_sound(num_frames * SAMPLES_PER_FRAME, SOUND_RATE_HZ, rng, backgrounds)
            mouth = np.zeros((num_frames, len(MOUTH_MEASURES)))
        else:
            said = draw_speech(source, num_frames, rng, OPENNESS, backgrounds, SUNG_SHARE)
            sound = said.sound
            mouth = np.stack([getattr(said.mouth, name) for name in MOUTH_MEASURES], axis=-1)
        yield SpeechMotion(states=_states(encoder, sound)[:num_frames], mouth=mouth)


def real_speech(track: TalkingTrack, num_frames: int, every_frames: int) -> Iterator[SpeechMotion]:
    """Pieces of a real talker, one every so many frames; of the mouth only the opening is known."""
    openings = lip_opening(separate_motion(track.points).shapes)
    openings = np.maximum(openings - np.percentile(openings, 10), 0)
    states = _states(LogMelAudioEncoder(), in_time(track))
    for first in range(0, min(len(openings), len(states)) - num_frames + 1, every_frames):
        mouth = np.full((num_frames, len(MOUTH_MEASURES)), np.nan)
        mouth[:, MOUTH_MEASURES.index("opening")] = openings[first : first + num_frames]
        yield SpeechMotion(states=states[first : first + num_frames], mouth=mouth)


def _states(encoder: LogMelAudioEncoder, sound: np.ndarray) -> np.ndarray:
    return encoder.encode(torch.from_numpy(np.ascontiguousarray(sound, np.float32)), TRACK_FPS).states.numpy()
