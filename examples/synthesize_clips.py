r"""Make talking-head training clips from still portraits: the data of the bundled model.

    python examples/synthesize_clips.py --portraits PORTRAITS --talking VIDEOS --output DATASET --number 1500 \
        [--voices VOICES --background /usr/share/hyperrogue/music]

Needs espeak-ng (and, for better voices, flite): apt-get install espeak-ng flite. Start it again to go on after a stop,
also with a larger --number and other sources; with --shard 0/2 and --shard 1/2 two processes share the work. The
portraits and videos that the bundled model is tested on are named in portraitanim.data.synthesis and never used, but
for the portraits of the test split. examples/painted_portraits.py gathers more portraits; examples/synthesize_speech.py
makes VOICES of recorded people, whose half of the speech is then, and says where sound for the background is found.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from portraitanim.data.synthesis.backgrounds import Backgrounds
from portraitanim.data.synthesis.clip_motion import MotionSource
from portraitanim.data.synthesis.clip_synthesis import ClipSynthesizer, SynthesisConfig, gather_manifest
from portraitanim.data.synthesis.portrait_bank import HELD_OUT_PORTRAITS, load_bank
from portraitanim.data.synthesis.recorded_speech import RecordedSpeech, load_voices
from portraitanim.data.synthesis.speech_source import DrawsSpeech, SpeechSource
from portraitanim.data.synthesis.talking_tracks import SOUND_RATE_HZ, load_tracks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--talking", type=Path, required=True, help="folder of videos of talking people, with sound")
    parser.add_argument("--output", type=Path, required=True, help="the dataset")
    parser.add_argument("--number", type=int, default=1500, help="clips in all")
    parser.add_argument("--frames", type=int, nargs=2, default=(50, 100), help="fewest and most frames of a clip")
    parser.add_argument("--voices", type=Path, help="folder of recorded voices, from examples/synthesize_speech.py")
    parser.add_argument("--without-voice", action="append", default=[], help="a voice to leave out, for tests")
    parser.add_argument("--background", type=Path, action="append", default=[], help="folder of sound without voices")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", default="0/1", help="this process's share of the clips, as 0/2 and 1/2")
    arguments = parser.parse_args()
    shard, num_shards = (int(part) for part in arguments.shard.split("/"))

    config = SynthesisConfig(seed=arguments.seed, frames=tuple(arguments.frames))
    cache = arguments.output / "tracks"
    cache.mkdir(parents=True, exist_ok=True)
    speech: list[DrawsSpeech] = [SpeechSource()]
    if arguments.voices is not None:
        speech.append(RecordedSpeech(load_voices(arguments.voices, arguments.without_voice)))
    backgrounds = Backgrounds(arguments.background, SOUND_RATE_HZ) if arguments.background else None
    synthesizer = ClipSynthesizer(
        load_bank(arguments.portraits),
        load_bank(arguments.portraits, without=(), only=HELD_OUT_PORTRAITS),
        MotionSource(load_tracks(arguments.talking, cache), speech=speech, backgrounds=backgrounds),
        config,
    )
    numbers = range(shard, arguments.number, num_shards)
    started = time.monotonic()
    for count, number in enumerate(numbers, 1):
        record = synthesizer.write(number, arguments.output)
        if count % 25 == 0 or count == len(numbers):
            whole = gather_manifest(arguments.output, config)
            pace = (time.monotonic() - started) / count
            print(f"{count}/{len(numbers)} {record.clip_id} ({pace:.1f} s per clip, {whole} clips)", file=sys.stderr)


if __name__ == "__main__":
    main()
