"""Fit the reading of the mouth from sound that the bundled model talks by, some minutes on one core.

    python examples/fit_mouth_reader.py --weights weights/tiny --speech SPEECH --talking VIDEOS

SPEECH is what examples/synthesize_speech.py wrote, and what the weights' audio projection has learned from; how faces
move is measured on VIDEOS of talking people. Writes mouth_reader.safetensors into the folder of the weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from portraitanim.data.speech_motion import SpeechMotionDataset
from portraitanim.data.synthesis.clip_motion import MotionSource
from portraitanim.data.synthesis.mouth_reading import fit_mouth_reader
from portraitanim.data.synthesis.talking_tracks import load_tracks
from portraitanim.face.mouth_reader import MOUTH_READER
from portraitanim.media.files import whole_file
from portraitanim.pipelines.weights_folder import load_audio_projection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the weights")
    parser.add_argument("--speech", type=Path, required=True, help="folder of speech with its mouths")
    parser.add_argument("--talking", type=Path, required=True, help="folder of videos of talking people")
    parser.add_argument("--clips", type=int, default=2000, help="so many clips of the speech are read")
    parser.add_argument("--tracks", type=Path, help="where the videos' landmarks are kept, if anywhere")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        basis = MotionSource(load_tracks(arguments.talking, arguments.tracks or Path(scratch))).basis
    projection = load_audio_projection(arguments.weights / "audio_projection")
    reader = fit_mouth_reader(projection, SpeechMotionDataset(arguments.speech), basis, arguments.clips)
    with whole_file(arguments.weights / MOUTH_READER) as partial:
        reader.save(partial)


if __name__ == "__main__":
    main()
