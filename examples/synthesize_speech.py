r"""Make speech with the motion of its mouth, without pictures: what `train tiny --stage audio` learns from.

    python examples/synthesize_speech.py --output SPEECH --number 3000 [--talking VIDEOS]
    python examples/synthesize_speech.py --output SPEECH --number 2500 --recorded 6500 --voices VOICES \
        --without-voice tuxpaint-el --without-voice asterisk-it_IT_m_Carlo \
        --background /usr/share/sonic-pi/samples --background /usr/share/hyperrogue/music
    python examples/synthesize_speech.py --output TEST --number 0 --recorded 60 --voices VOICES --only-voice tuxpaint-el

Synthetic speech needs espeak-ng (and, for better voices, flite): apt-get install espeak-ng flite. About a tenth of a
second per clip. Videos of talking people add their voices, but for those that the bundled model is tested on.

Recorded speech (--recorded) comes from people whose recordings Debian packages hold together with the texts:

    apt-get install espeak-ng tuxpaint-stamps-default asterisk-core-sounds-{en,es,fr,it,ru}-g722 \
        asterisk-prompt-{es-co,fr-armelle,it-menardi-wav}
    pip install pocketsphinx

Their sounds are found once, by forced alignment, and kept in --voices (250 MB, some minutes). --background names
folders of music and noises without a voice, for behind the speech and alone: sonic-pi-samples, hyperrogue-music and
asterisk-moh-opsound-g722 install some in /usr/share/sonic-pi/samples, /usr/share/hyperrogue/music and
/usr/share/asterisk/moh.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from portraitanim.data.speech_motion import SpeechMotion, write_speech_motion
from portraitanim.data.synthesis.backgrounds import Backgrounds
from portraitanim.data.synthesis.recorded_speech import RecordedSpeech, Voice, align_voices, load_voices, save_voice
from portraitanim.data.synthesis.recordings import asterisk_recordings, tuxpaint_recordings
from portraitanim.data.synthesis.speech_set import real_speech, spoken_clips
from portraitanim.data.synthesis.speech_source import SpeechSource
from portraitanim.data.synthesis.talking_tracks import HELD_OUT_TALKING, HELD_OUT_VOICES, SOUND_RATE_HZ, load_tracks

CLIPS_PER_FILE = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--number", type=int, default=3000, help="synthetic clips")
    parser.add_argument("--recorded", type=int, default=0, help="clips of recorded voices")
    parser.add_argument("--voices", type=Path, help="folder of aligned voices; made where it is empty")
    parser.add_argument("--without-voice", action="append", default=[], help="a voice to leave out, for tests")
    parser.add_argument("--only-voice", help="take this recorded voice alone, for tests")
    parser.add_argument("--background", type=Path, action="append", default=[], help="folder of sound without voices")
    parser.add_argument("--frames", type=int, default=110, help="length of a clip, at 25 frames per second")
    parser.add_argument("--talking", type=Path, help="folder of videos of talking people")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.recorded and arguments.voices is None:
        parser.error("--recorded needs --voices, the folder where aligned voices are kept.")
    arguments.output.mkdir(parents=True, exist_ok=True)
    backgrounds = Backgrounds(arguments.background, SOUND_RATE_HZ) if arguments.background else None
    if arguments.number:
        clips = spoken_clips(SpeechSource(), arguments.number, arguments.frames, arguments.seed, backgrounds)
        write(clips, arguments.output, "synthetic")
    if arguments.recorded:
        source = RecordedSpeech(chosen_voices(arguments.voices, arguments.without_voice, arguments.only_voice))
        clips = spoken_clips(source, arguments.recorded, arguments.frames, arguments.seed + 1, backgrounds)
        write(clips, arguments.output, arguments.only_voice or "recorded")
    if arguments.talking is not None:
        cache = arguments.output / "tracks"
        cache.mkdir(exist_ok=True)
        for track in load_tracks(arguments.talking, cache, without=(*HELD_OUT_TALKING, *HELD_OUT_VOICES)):
            # Pieces that begin two frames apart: there are few real voices.
            if pieces := list(real_speech(track, arguments.frames, every_frames=2)):
                print(write_speech_motion(pieces, arguments.output, track.name))


def write(clips: Iterator[SpeechMotion], folder: Path, name: str) -> None:
    """Write the clips, some hundreds in a file."""
    number = 0
    while part := list(islice(clips, CLIPS_PER_FILE)):
        print(write_speech_motion(part, folder, f"{name}-{number:03d}"), flush=True)
        number += 1


def chosen_voices(folder: Path, without: list[str], only: str | None) -> list[Voice]:
    """Recorded voices, aligned where that was not done yet."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob("*.npz")):
        for voice in align_voices(chain(tuxpaint_recordings(), asterisk_recordings()), print):
            save_voice(voice, folder)
    return load_voices(folder, without, only=only)


if __name__ == "__main__":
    main()
