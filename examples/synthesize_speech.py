"""Make speech with the motion of its mouth, without pictures: what `train tiny --stage audio` learns from.

    python examples/synthesize_speech.py --output SPEECH --number 3000 [--talking VIDEOS]

Needs espeak-ng (and, for better voices, flite): apt-get install espeak-ng flite. About a tenth of a second per clip.
Videos of talking people add their voices, but for those that the bundled model is tested on.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from portraitanim.data.speech_motion import write_speech_motion
from portraitanim.data.synthesis.speech_set import real_speech, synthetic_speech
from portraitanim.data.synthesis.talking_tracks import HELD_OUT_TALKING, HELD_OUT_VOICES, load_tracks

CLIPS_PER_FILE = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--number", type=int, default=3000, help="synthetic clips")
    parser.add_argument("--frames", type=int, default=110, help="length of a clip, at 25 frames per second")
    parser.add_argument("--talking", type=Path, help="folder of videos of talking people")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    clips = synthetic_speech(arguments.number, arguments.frames, arguments.seed)
    number = 0
    while part := list(islice(clips, CLIPS_PER_FILE)):
        print(write_speech_motion(part, arguments.output, f"synthetic-{number:03d}"))
        number += 1
    if arguments.talking is not None:
        cache = arguments.output / "tracks"
        cache.mkdir(exist_ok=True)
        for track in load_tracks(arguments.talking, cache, without=(*HELD_OUT_TALKING, *HELD_OUT_VOICES)):
            # Pieces that begin two frames apart: there are few real voices.
            if pieces := list(real_speech(track, arguments.frames, every_frames=2)):
                print(write_speech_motion(pieces, arguments.output, track.name))


if __name__ == "__main__":
    main()
